"""kube-proxy on this node: whether it runs, in which mode, and whether its rules are there, stale or missing.

Only the rules of the HostPort's address family are read. A proxy that works by eBPF (Cilium's) leaves no
rules, but the flows' own evidence shows it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.preflight.check import Check, PreflightTarget, good, listed, shown, warn
from agent.preflight.node import pid_namespace_is_first
from agent.preflight.ports import process_named
from agent.preflight.reading import http_get, read_file, run_command
from agent.preflight.rules import (
    Fate,
    NodePortRule,
    ProxyMode,
    RuleSet,
    iptables_port_maps,
    iptables_rules,
    ipvs_rules,
    nft_port_maps,
    nft_rules,
    nft_tables,
)

_CLEAN_UP = (
    "kube-proxy --cleanup removes kube-proxy's rules of every mode (a running one writes its own again); "
    "route_localnet stays as it is"
)
_LOOK = (
    "run this with NET_ADMIN (old iptables: NET_RAW too) where iptables-save and nft are installed, in the "
    "node's network namespace"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules that were found. ``unseen``: why some rules could not be read, one reason each."""

    sets: tuple[RuleSet, ...] = ()
    port_maps: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """kube-proxy and its rules.

    ``said``: the mode that kube-proxy itself reports, None if it does not. ``silence``: why it does not.
    ``process``: whether a process with that name is visible in this network namespace; None if there is one
    whose namespace can't be read. If ``sees_all`` is false, one may run unseen.
    """

    said: ProxyMode | None = None
    silence: str = ""
    process: bool | None = False
    sees_all: bool = True
    rules: Rules = Rules()

    @property
    def runs(self) -> bool:
        """Whether kube-proxy certainly runs."""
        return self.said is not None or self.process is True

    @property
    def modes(self) -> tuple[ProxyMode, ...]:
        """The modes that it may run in: the one that it reports, or else those that have rules."""
        if self.said is not None:
            return (self.said,)
        return tuple(dict.fromkeys(one.mode for one in self.rules.sets))


def find_proxy(target: PreflightTarget) -> Proxy:
    """Ask kube-proxy, look for its process, and read the rules."""
    answer = http_get(f"{target.kube_proxy_url.rstrip('/')}/proxyMode")
    said, silence = proxy_mode(answer.text), answer.problem
    if said is None and not silence:
        silence = f"answers {shown(answer.text, 40)!r}"
    return Proxy(
        said=said,
        silence=silence,
        process=process_named(target.proc, "kube-proxy"),
        sees_all=pid_namespace_is_first(target) is not False,
        rules=find_rules(target),
    )


def proxy_mode(answer: str) -> ProxyMode | None:
    """The mode in an answer to ``/proxyMode``. None if it is not an answer of kube-proxy."""
    try:
        return ProxyMode(answer.strip())
    except ValueError:
        return None


def find_rules(target: PreflightTarget) -> Rules:
    """Read the rules of every mode for the NodePort, and of the CNI port map for the HostPort."""
    family = "ip6" if ":" in target.host_address else "ip"
    sets: list[RuleSet | None] = []
    port_maps: list[str] = []
    unseen: list[str] = []
    # If iptables-save is the nft variant, the legacy tables are different ones. If not, both print the same.
    texts: list[str] = []
    commands = [f"{family}tables-save"]
    if _has_legacy_tables(target, family):
        commands.append(f"{family}tables-legacy-save")
    for command in commands:
        saved = run_command([command])
        if saved.problem:
            unseen.append(saved.problem)
            continue
        rules = _without_counts(saved.text)
        if rules in texts:
            continue
        texts.append(rules)
        sets.append(iptables_rules(rules, target.node_port, command))
        port_maps += iptables_port_maps(rules, target.host_port)
    tables = run_command(["nft", "list", "tables"])
    if tables.problem:
        unseen.append(tables.problem)
    found = nft_tables(tables.text)
    for table in (f"{family} kube-proxy", f"{family} cni_hostport", "inet cni_hostport"):
        if table not in found:
            continue
        listing = run_command(["nft", "list", "table", *table.split()])
        if listing.problem:
            unseen.append(listing.problem)
        elif table.endswith("kube-proxy"):
            sets.append(nft_rules(listing.text, target.node_port, f"nft table {table}"))
        else:
            port_maps += nft_port_maps(listing.text, target.host_port)
    # The file is missing if the kernel has no IPVS, or nobody has used it.
    sets.append(ipvs_rules(read_file(target.proc / "net/ip_vs").text, target.node_port))
    return Rules(
        sets=tuple(one for one in sets if one is not None),
        port_maps=tuple(dict.fromkeys(port_maps)),
        unseen=tuple(unseen),
    )


def _has_legacy_tables(target: PreflightTarget, family: str) -> bool:
    """Whether there are tables of the old iptables, or their list is not readable (it is root's)."""
    names = read_file(target.proc / f"net/{family}_tables_names")
    return bool(names.text.strip()) or "denied" in names.problem


def _without_counts(saved: str) -> str:
    """Rules without comment lines and packet counts, which differ between two readings."""
    return re.sub(r"^#[^\n]*\n|\[\d+:\d+\]", "", saved, flags=re.MULTILINE)


def mode(proxy: Proxy) -> Check:
    """Check how kube-proxy translates on this node."""
    name = "kube-proxy's mode"
    if proxy.said is not None:
        return good(name, f"{proxy.said.value}, as kube-proxy says")
    found = ", ".join(one.value for one in proxy.modes)
    if found:
        return good(
            name,
            f"{found}, by the rules on this node; kube-proxy itself: {proxy.silence}",
        )
    if proxy.rules.unseen:
        return warn(
            name,
            f"not known: {listed(proxy.rules.unseen, width=160)}; kube-proxy itself: {proxy.silence}",
            hint=_LOOK,
        )
    return good(name, "no kube-proxy rules on this node")


def stale_rules(proxy: Proxy) -> Check:
    """Check for rules that nobody maintains. They lead to endpoints that may be long gone."""
    name = "stale rules"
    sets = proxy.rules.sets
    if proxy.said is not None:
        others = [one for one in sets if one.mode is not proxy.said]
        if others:
            return warn(
                name,
                f"kube-proxy runs in {proxy.said.value} mode; there are also rules of {_named(others)}",
                hint=_CLEAN_UP,
            )
    elif sets and not proxy.process:
        if proxy.process is None:
            detail = (
                f"kube-proxy does not answer ({proxy.silence}), and whether the one that runs is this node's "
                f"can't be read: the rules may be stale ({_named(sets)})"
            )
        elif proxy.sees_all:
            detail = f"kube-proxy does not run ({proxy.silence}), but its rules are there: {_named(sets)}"
        else:
            detail = (
                f"kube-proxy does not answer ({proxy.silence}) and the node's processes can't be seen from "
                f"here: the rules may be stale ({_named(sets)})"
            )
        return warn(name, detail, hint=f"start kube-proxy, or: {_CLEAN_UP}")
    if len(sets) > 1:
        return warn(
            name,
            f"one kube-proxy, but several sets of rules: {_named(sets)}",
            hint=_CLEAN_UP,
        )
    return _unless_unseen(proxy, good(name, "none"))


def missing_rules(proxy: Proxy) -> Check:
    """Check for rules that a running kube-proxy should have, but that somebody flushed."""
    name = "missing rules"
    if not proxy.runs:
        if proxy.rules.sets and not any(one.hooked for one in proxy.rules.sets):
            return _not_led(name, proxy.rules.sets)
        return good(name, "none expected: kube-proxy is not known to run")
    own = [one for one in proxy.rules.sets if proxy.said in (None, one.mode)]
    if any(one.hooked for one in own):
        return good(name, "none")
    if own:
        return _not_led(name, own)
    gone = warn(
        name,
        "kube-proxy runs, but its chains are gone: NodePorts and ClusterIPs of this node don't "
        "work. Flushed rules are not repaired for minutes, while its health check says ok",
        hint="restart kube-proxy, and find out what flushes rules (a firewall's reload, for example)",
    )
    return _unless_unseen(proxy, gone)


def _not_led(name: str, sets: Sequence[RuleSet]) -> Check:
    return warn(
        name,
        f"kube-proxy's chains are there ({_named(sets)}), but OUTPUT does not lead to them: "
        "from the node itself NodePorts and ClusterIPs don't work",
        hint="restart kube-proxy, and find out what flushes OUTPUT (a firewall's reload, for example)",
    )


def node_port_rule(target: PreflightTarget, proxy: Proxy) -> Check:
    """Check where the NodePort leads, which is containerd's fallback."""
    name, port = "NodePort's rule", target.node_port
    sets = [one for one in proxy.rules.sets if proxy.said in (None, one.mode)] or list(proxy.rules.sets)
    having = [one for one in sets if one.node_port is not None]
    if not having:
        if not proxy.rules.sets and not proxy.runs:
            none = good(name, f"nothing here translates {port}")
        else:
            none = warn(
                name,
                f"kube-proxy has no rule for {port}: containerd's fallback does not work",
                hint=f"kubectl get services -A: is there one of type NodePort with nodePort: {port}?",
            )
        return _unless_unseen(proxy, none)
    chosen = max(having, key=lambda one: one.hooked)
    rule = chosen.node_port
    assert rule is not None
    if rule.fate is Fate.SERVED:
        count = len(rule.endpoints)
        endpoints = "endpoint" if count == 1 else "endpoints"
        where = f"{count} {endpoints} ({listed(rule.endpoints, 3)})"
        if not chosen.hooked:
            detail = f"{port} has {where}, but OUTPUT does not lead to kube-proxy's chains"
            return warn(name, detail, hint="see: missing rules")
        return good(name, f"{port} leads to {where}{_where_answered(chosen, rule, proxy.rules.sets)}")
    if rule.fate is Fate.UNREAD:
        return warn(
            name,
            f"{port} has a rule of kube-proxy ({chosen.source}), of a form that is not known here: where it "
            "leads is not known",
            hint="the canaries and flows of a running probe show where it leads: shorthaul verify",
        )
    dropped = rule.fate is Fate.DROPPED
    what = "dropped: no endpoint that its policy allows" if dropped else "no endpoints: refused"
    return warn(
        name,
        f"{port}: {what}; containerd's fallback does not work",
        hint="kubectl get endpointslices -A -l app.kubernetes.io/name=shorthaul: is any agent ready?",
    )


def _where_answered(chosen: RuleSet, rule: NodePortRule, sets: Sequence[RuleSet]) -> str:
    """On which addresses the NodePort is translated. 127.0.0.1 matters: containerd may be told to use it."""
    if not rule.addresses:
        return ""
    where = f", on {listed(rule.addresses, 3)}"
    if any(one.startswith("127.") for one in rule.addresses):
        return where
    others = [
        one
        for one in sets
        if one is not chosen and one.hooked and one.node_port is not None and not one.node_port.addresses
    ]
    if others:
        return f"{where}; on 127.0.0.1 the rules of {_named(others)} decide"
    return f"{where}; not on 127.0.0.1, where only a process that listens on it answers"


def _named(sets: Sequence[RuleSet]) -> str:
    return ", ".join(f"{one.mode.value} ({one.source})" for one in sets)


def _unless_unseen(proxy: Proxy, check: Check) -> Check:
    """The same finding, or a warning if not everything could be read."""
    if not proxy.rules.unseen:
        return check
    return warn(
        check.name,
        f"not everything could be read: {listed(proxy.rules.unseen, width=160)}",
        hint=_LOOK,
    )
