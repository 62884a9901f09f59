"""Reads the rules of kube-proxy and of the CNI port map from the text that the tools print. Pure.

Lines that do not fit are skipped, so any text gives an answer. Sources: the chains that Kubernetes'
pkg/proxy/iptables/proxier.go and pkg/proxy/nftables/proxier.go and the CNI plugin portmap write;
``/proc/net/ip_vs`` as the kernel's ip_vs_ctl.c prints it.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

Chains = Mapping[str, list[str]]

_IPTABLES_LINE = re.compile(r"^(?:\*(\w+)|:(\S+) [^\n]*|(?:\[\d+:\d+\] )?-A (\S+) ([^\n]*))$", re.MULTILINE)
_COMMENT = re.compile(r'--comment (?:"(?:[^"\\\n]|\\.)*"|\S+)')
_JUMP = re.compile(r"(?:^|\s)-[jg] (\S+)")
_DNAT = re.compile(r"--to-destination (\S+)")
_NFT_BLOCK = re.compile(r"^\t(?:chain|map|set) (\S+) \{$")
_NFT_QUOTED = re.compile(r'"[^"\n]*"')
_NFT_JUMP = re.compile(r"\b(?:jump|goto) ([^\s,}]+)")
_NFT_DNAT = re.compile(r"\bdnat (?:ip6? )?to (.+)")
_NFT_PLACE = re.compile(r"(?:\d[\d.]*|\[[0-9a-f:.]+\]):\d+(?=\s|$)")
_NFT_MAP = re.compile(r"\bmap (?:\{([^}]*)\}|@(\S+))")
_NFT_ELEMENT = re.compile(r":\s+([0-9a-f:.]+) \. (\d+)(?=[\s,}]|$)")


class ProxyMode(Enum):
    """How kube-proxy translates. The values are the answers of its ``/proxyMode``."""

    IPTABLES = "iptables"
    NFTABLES = "nftables"
    IPVS = "ipvs"


class Fate(Enum):
    """What happens to a connection to a NodePort."""

    SERVED = "served"
    REFUSED = "refused"  # the Service has no endpoints
    DROPPED = "dropped"  # it has no endpoint that its traffic policy allows
    UNREAD = "unread"  # there are rules for it, of a form that this version does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePortRule:
    """The rule for one NodePort. ``addresses``: the addresses that it answers on; empty means all.

    ``endpoints`` is empty unless it is served. If even one of them can't be read, it is UNREAD.
    """

    fate: Fate
    endpoints: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """The rules of one mode. ``hooked``: whether the node's own connections pass through them at all."""

    mode: ProxyMode
    source: str
    hooked: bool
    node_port: NodePortRule | None


# iptables


def iptables_rules(text: str, node_port: int, source: str) -> RuleSet | None:
    """kube-proxy's rules in the output of ``iptables-save``. None if its iptables mode has none there."""
    tables = _iptables_tables(text)
    nat = tables.get("nat", {})
    services = nat.get("KUBE-SERVICES")
    # The ipvs mode has a chain with this name too, but its rules match ipsets.
    if services is None or any("--match-set KUBE-" in rule for rule in services):
        return None
    return RuleSet(
        mode=ProxyMode.IPTABLES,
        source=source,
        hooked="KUBE-SERVICES" in _reached(nat, ["OUTPUT"], _JUMP),
        node_port=_iptables_node_port(nat, tables.get("filter", {}), node_port),
    )


def iptables_port_maps(text: str, host_port: int) -> tuple[str, ...]:
    """Where the CNI port map sends a HostPort, as ``IP:PORT``."""
    nat = _iptables_tables(text).get("nat", {})
    reached = _reached(nat, ["OUTPUT", "PREROUTING"], _JUMP)
    rules = (rule for chain in reached if chain.startswith("CNI-DN-") for rule in nat[chain])
    return _once(match[1] for rule in rules if _is_for(rule, host_port) and (match := _DNAT.search(rule)))


def _iptables_tables(text: str) -> dict[str, dict[str, list[str]]]:
    """The rules of each chain of each table, without comments, which may contain anything."""
    tables: dict[str, dict[str, list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for match in _IPTABLES_LINE.finditer(text):
        table, declared, chain, rule = match.groups()
        if table:
            chains = tables.setdefault(table, {})
        elif declared:
            chains.setdefault(declared, [])
        else:
            chains.setdefault(chain, []).append(_COMMENT.sub("", rule))
    return tables


def _iptables_node_port(nat: Chains, drops: Chains, port: int) -> NodePortRule | None:
    targets = [
        match[1]
        for rule in nat.get("KUBE-NODEPORTS", ())
        if _is_for(rule, port) and (match := _JUMP.search(rule))
    ]
    reached = _reached(nat, targets, _JUMP)
    rules = (rule for chain in reached for rule in nat[chain])
    endpoints = _once(match[1] for rule in rules if (match := _DNAT.search(rule)))
    if endpoints:
        return NodePortRule(fate=Fate.SERVED, endpoints=endpoints)
    for rule in drops.get("KUBE-EXTERNAL-SERVICES", ()):
        if _is_for(rule, port) and (match := _JUMP.search(rule)):
            return NodePortRule(fate=Fate.DROPPED if match[1] == "DROP" else Fate.REFUSED)
    return NodePortRule(fate=Fate.UNREAD) if targets else None


def _is_for(rule: str, port: int) -> bool:
    return "-p tcp" in rule and re.search(rf"--dports? (?:\d+,)*{port}(?![\d:])", rule) is not None


# nftables


def nft_tables(text: str) -> tuple[str, ...]:
    """The tables in the output of ``nft list tables``, such as ``ip kube-proxy``."""
    return tuple(re.findall(r"^table (\w+ \S+)$", text, re.MULTILINE))


def nft_rules(text: str, node_port: int, source: str) -> RuleSet | None:
    """kube-proxy's rules in the output of ``nft list table ip kube-proxy``. None without such a table."""
    if re.search(r"^table ip6? kube-proxy \{$", text, re.MULTILINE) is None:
        return None
    blocks = _nft_blocks(text)
    hooks = [name for name, lines in blocks.items() if any("type nat hook output" in line for line in lines)]
    led = (line for name in _reached(blocks, hooks, _NFT_JUMP) for line in blocks[name])
    return RuleSet(
        mode=ProxyMode.NFTABLES,
        source=source,
        hooked=any("@service-nodeports" in line for line in led),
        node_port=_nft_node_port(blocks, node_port),
    )


def nft_port_maps(text: str, host_port: int) -> tuple[str, ...]:
    """Where the CNI port map's nft table sends a HostPort, as ``IP:PORT``."""
    blocks = _nft_blocks(text)
    lines = (line for block in blocks.values() for line in block)
    wanted = re.compile(rf"\btcp dport {host_port}\b")
    return _nft_destinations((line for line in lines if wanted.search(line)), blocks) or ()


def _nft_blocks(text: str) -> dict[str, list[str]]:
    """The lines of each chain, map and set, without quoted text, which may contain anything."""
    blocks: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.split("\n"):
        if lines is None:
            if match := _NFT_BLOCK.match(line):
                lines = blocks[match[1]] = []
        elif line == "\t}":
            lines = None
        else:
            lines.append(_NFT_QUOTED.sub("", line))
    return blocks


def _nft_node_port(blocks: Chains, port: int) -> NodePortRule | None:
    element = re.compile(rf"\btcp \. {port}\b[^:,}}]*: (?:(?:goto|jump) ([^\s,}}]+)|drop)")
    served = element.search(" ".join(blocks.get("service-nodeports", ())))
    if served and served[1]:
        lines = (line for name in _reached(blocks, [served[1]], _NFT_JUMP) for line in blocks[name])
        endpoints = _nft_destinations(lines, blocks)
        if endpoints is None:
            return NodePortRule(fate=Fate.UNREAD, addresses=_nft_addresses(blocks))
        if endpoints:
            return NodePortRule(fate=Fate.SERVED, endpoints=endpoints, addresses=_nft_addresses(blocks))
    refused = element.search(" ".join(blocks.get("no-endpoint-nodeports", ())))
    if refused:
        return NodePortRule(fate=Fate.REFUSED if refused[1] else Fate.DROPPED)
    return NodePortRule(fate=Fate.UNREAD) if served else None


def _nft_destinations(lines: Iterable[str], blocks: Chains) -> tuple[str, ...] | None:
    """Where these rules send connections, as ``IP:PORT``. None if one of them has a form not known here.

    Until 1.32 kube-proxy wrote one chain per endpoint (``dnat to IP:PORT``); 1.36 writes one rule for all of
    them (``dnat ip to numgen random mod 2 map { 0 : IP . PORT, 1 : IP . PORT }``).
    """
    found: list[str] = []
    for line in lines:
        if (match := _NFT_DNAT.search(line)) is None:
            continue
        if (place := _NFT_PLACE.match(match[1])) is not None:
            found.append(place[0])
            continue
        chosen = _NFT_MAP.search(match[1])
        elements = "" if chosen is None else chosen[1] or " ".join(blocks.get(chosen[2] or "", ()))
        places = [f"{_host(address)}:{port}" for address, port in _NFT_ELEMENT.findall(elements)]
        if not places:
            return None
        found += places
    return _once(found)


def _nft_addresses(blocks: Chains) -> tuple[str, ...]:
    match = re.search(r"elements = \{([^}]*)\}", " ".join(blocks.get("nodeport-ips", ())))
    return _once(word for word in re.split(r"[\s,]+", match[1]) if word) if match else ()


# ipvs


def ipvs_rules(text: str, node_port: int) -> RuleSet | None:
    """The virtual servers in ``/proc/net/ip_vs``. None without any."""
    servers: list[tuple[str, int, list[str]]] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or (place := _hexadecimal(words[1])) is None:
            continue
        if words[0] == "TCP":
            servers.append((*place, []))
        elif words[0] == "->" and servers:
            servers[-1][2].append(f"{_host(place[0])}:{place[1]}")
        elif words[0] in ("UDP", "SCTP"):
            servers.append(("", 0, []))
    if not servers:
        return None
    mine = [(address, endpoints) for address, port, endpoints in servers if port == node_port and address]
    rule = None
    if mine:
        endpoints = _once(endpoint for _, every in mine for endpoint in every)
        rule = NodePortRule(
            fate=Fate.SERVED if endpoints else Fate.REFUSED,
            endpoints=endpoints,
            addresses=_once(address for address, _ in mine),
        )
    return RuleSet(mode=ProxyMode.IPVS, source="/proc/net/ip_vs", hooked=True, node_port=rule)


def _hexadecimal(place: str) -> tuple[str, int] | None:
    """Address and port of ``0A60000A:0050`` or ``[fd00:…:0001]:0050``."""
    host, _, port = place.rpartition(":")
    try:
        if re.fullmatch(r"[0-9A-Fa-f]{8}", host):
            return str(ip_address(int(host, 16))), int(port, 16)
        if host.startswith("[") and host.endswith("]"):
            return str(ip_address(host[1:-1])), int(port, 16)
    except ValueError:
        pass
    return None


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


# Both


def _reached(chains: Chains, start: Iterable[str], jump: re.Pattern[str]) -> list[str]:
    """The chains that can be reached from ``start``, these included, each once."""
    waiting = deque(start)
    found: dict[str, None] = {}
    while waiting:
        name = waiting.popleft()
        if name in found or name not in chains:
            continue
        found[name] = None
        waiting.extend(match[1] for rule in chains[name] for match in jump.finditer(rule))
    return list(found)


def _once(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
