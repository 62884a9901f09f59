"""The rules that kube-proxy writes, in iptables and in nftables mode, for Services of one TCP port each.

The text is what ``iptables-save``, ``ip6tables-save`` and ``nft list table`` print of a real kube-proxy 1.30
(tests/lab/kubeproxy), chain names included, so it can be compared with a dump and it can be installed.
Debian's default iptables is meant: the nf_tables back-end, which sorts chains by name. What kube-proxy does
for UDP, load balancers, external addresses, session affinity and topology hints is left out.
Source: pkg/proxy/iptables/proxier.go and pkg/proxy/nftables/proxier.go of Kubernetes.
"""

import base64
import enum
import hashlib
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal, assert_never

from benchmarks.lab.network import inside
from benchmarks.lab.process import LabError, run

Family = Literal[4, 6]
Policy = Literal["Cluster", "Local"]
_HOOKS = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
_SERVICE_CHAIN = re.compile(r"KUBE-(SVC|SVL|EXT|SEP|FW)-")
_NEW = "-m conntrack --ctstate NEW -m comment --comment"
_TOOLS: dict[Family, str] = {4: "iptables", 6: "ip6tables"}
_IP: dict[Family, str] = {4: "ip", 6: "ip6"}


class Mode(enum.Enum):
    """What kube-proxy's ``/proxyMode`` says."""

    IPTABLES = "iptables"
    NFTABLES = "nftables"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A ready endpoint; ``local``: on the node whose rules are written."""

    ip: str
    port: int
    local: bool

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One TCP port of a Service, of the address family of its ``cluster_ip``.

    A dual-stack Service is two of these of the same name. ``node_port`` None: type ClusterIP.
    """

    namespace: str
    name: str
    port_name: str
    cluster_ip: str
    port: int
    node_port: int | None = None
    endpoints: tuple[Endpoint, ...] = ()
    external_policy: Policy = "Cluster"
    internal_policy: Policy = "Cluster"

    @property
    def family(self) -> Family:
        """The IP version."""
        return 6 if ":" in self.cluster_ip else 4

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" + (f":{self.port_name}" if self.port_name else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddresses:
    """The node that the rules are for.

    ``addresses``: its primary address of each family. ``pod_cidrs``: the cluster's (``--cluster-cidr``), one
    of each family. ``localhost_node_ports``: ``--iptables-localhost-nodeports``, which acts in iptables mode
    and on IPv4 only.
    """

    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    localhost_node_ports: bool = True

    def address(self, family: Family) -> str | None:
        """Its address of this family."""
        return next((one for one in self.addresses if ip_address(one).version == family), None)

    def pod_cidr(self, family: Family) -> str:
        """The pods' network of this family. Raises `LabError` without one."""
        for one in self.pod_cidrs:
            if ip_network(one).version == family:
                return one
        raise LabError(f"no pod CIDR of IPv{family}: give one in pod_cidrs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What `install` takes: the text of each family that the node has."""

    mode: Mode
    text: dict[Family, str]
    route_localnet: bool


def rules(mode: Mode, services: Sequence[Service], node: NodeAddresses) -> Rules:
    """The rules of a kube-proxy in this mode. Services of a family that the node lacks are left out."""
    families: tuple[Family, ...] = (4, 6)
    write = iptables_rules if mode is Mode.IPTABLES else nftables_rules
    text = {family: write(services, node, family) for family in families if node.address(family)}
    return Rules(
        mode=mode, text=text, route_localnet=mode is Mode.IPTABLES and node.localhost_node_ports and 4 in text
    )


class _Fate(enum.Enum):
    SERVED = enum.auto()
    REJECTED = enum.auto()  # no endpoints anywhere
    DROPPED = enum.auto()  # policy Local, and none here


class _Plan:
    """What becomes of a Service's traffic, whichever back-end writes it."""

    def __init__(self, service: Service) -> None:
        every = tuple(sorted(service.endpoints, key=str))
        local = tuple(endpoint for endpoint in every if endpoint.local)
        internal_local = service.internal_policy == "Local"
        external_local = service.external_policy == "Local"
        has_node_port = service.node_port is not None
        # Also with policy Local: from the node and from its pods, a NodePort goes to all endpoints.
        self.cluster = every if not internal_local or has_node_port else ()
        self.local = local if internal_local or (external_local and has_node_port) else ()
        self.reachable = self.cluster or self.local
        self.has_external = has_node_port and bool(every)
        self.internal = self._fate(every, local if internal_local else every)
        self.external = self._fate(every, local if external_local else every)

    @staticmethod
    def _fate(every: Sequence[Endpoint], usable: Sequence[Endpoint]) -> _Fate:
        if usable:
            return _Fate.SERVED
        return _Fate.DROPPED if every else _Fate.REJECTED


def _hash(text: str, length: int) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:length]


def _of_family(services: Iterable[Service], family: Family) -> list[Service]:
    return sorted((one for one in services if one.family == family), key=str)


# iptables mode


class _Table:
    """A table as iptables-save prints it: hooks first, then the other chains by name."""

    def __init__(self, name: str, *chains: str) -> None:
        self.name = name
        self.chains: dict[str, list[str]] = {chain: [] for chain in (*_HOOKS[name], *chains)}

    def add(self, chain: str, *found: str) -> None:
        self.chains.setdefault(chain, []).extend(found)

    def __str__(self) -> str:
        hooks = _HOOKS[self.name]
        others = sorted(chain for chain in self.chains if chain not in hooks)
        lines = [f"*{self.name}"]
        lines += [f":{chain} ACCEPT [0:0]" for chain in hooks]
        lines += [f":{chain} - [0:0]" for chain in others]
        lines += [f"-A {chain} {found}" for chain in (*hooks, *others) for found in self.chains[chain]]
        return "\n".join([*lines, "COMMIT", ""])


def iptables_rules(services: Sequence[Service], node: NodeAddresses, family: Family) -> str:
    """What ``iptables-save`` (``ip6tables-save``) prints, without its comments and with counters of 0."""
    mangle = _Table("mangle", "KUBE-PROXY-CANARY")
    table, nat = _filter_table(node, family), _nat_table()
    for service in _of_family(services, family):
        _add_service(table, nat, service, node, family)
    nowhere = "! -d ::1/128 " if family == 6 else "" if node.localhost_node_ports else "! -d 127.0.0.0/8 "
    note = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
    nat.add(
        "KUBE-SERVICES",
        f'{nowhere}-m comment --comment "{note}" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
    )
    return f"{mangle}{table}{nat}"


def _filter_table(node: NodeAddresses, family: Family) -> _Table:
    own = (
        "EXTERNAL-SERVICES",
        "FIREWALL",
        "FORWARD",
        "NODEPORTS",
        "PROXY-CANARY",
        "PROXY-FIREWALL",
        "SERVICES",
    )
    table = _Table("filter", *(f"KUBE-{name}" for name in [*own, "SERVICES"]))
    firewall = f'{_NEW} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL'
    portals = f'{_NEW} "kubernetes service portals" -j KUBE-SERVICES'
    external = f'{_NEW} "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES'
    health = '-m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS'
    forwarding = '-m comment --comment "kubernetes forwarding rules"'
    table.add("INPUT", "-j KUBE-FIREWALL", firewall, health, external)
    table.add("FORWARD", firewall, f"{forwarding} -j KUBE-FORWARD", portals, external)
    table.add("OUTPUT", "-j KUBE-FIREWALL", firewall, portals)
    if family == 4 and node.localhost_node_ports:
        # What route_localnet opens to the neighbours, this closes.
        table.add(
            "KUBE-FIREWALL",
            '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections"'
            " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        )
    table.add(
        "KUBE-FORWARD",
        "-m conntrack --ctstate INVALID -j DROP",
        f"{forwarding} -m mark --mark 0x4000/0x4000 -j ACCEPT",
        '-m comment --comment "kubernetes forwarding conntrack rule"'
        " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    )
    return table


def _nat_table() -> _Table:
    own = ("MARK-MASQ", "NODEPORTS", "POSTROUTING", "PROXY-CANARY", "SERVICES")
    nat = _Table("nat", *(f"KUBE-{name}" for name in own))
    for hook in ("PREROUTING", "OUTPUT"):
        nat.add(hook, '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES')
    nat.add("POSTROUTING", '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING')
    nat.add("KUBE-MARK-MASQ", "-j MARK --set-xmark 0x4000/0x4000")
    nat.add(
        "KUBE-POSTROUTING",
        "-m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-j MARK --set-xmark 0x4000/0x0",
        '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    )
    return nat


def _add_service(table: _Table, nat: _Table, service: Service, node: NodeAddresses, family: Family) -> None:
    plan = _Plan(service)
    suffix = _hash(f"{service}tcp", 16)
    svc, svl, ext = (f"KUBE-{kind}-{suffix}" for kind in ("SVC", "SVL", "EXT"))
    bits, pods = (128 if family == 6 else 32), node.pod_cidr(family)
    vip = f"-d {service.cluster_ip}/{bits} -p tcp -m comment --comment"
    dport = f"-m tcp --dport {service.port}"
    if plan.internal is _Fate.SERVED:
        inner = svl if service.internal_policy == "Local" else svc
        nat.add("KUBE-SERVICES", f'{vip} "{service} cluster IP" {dport} -j {inner}')
        nat.add(inner, f'! -s {pods} {vip} "{service} cluster IP" {dport} -j KUBE-MARK-MASQ')
    else:
        why, target = _refusal(plan.internal, family)
        table.add("KUBE-SERVICES", f'{vip} "{service} {why}" {dport} -j {target}')
    if service.node_port is not None and plan.external is not _Fate.SERVED:
        why, target = _refusal(plan.external, family)
        match = f"-m addrtype --dst-type LOCAL -m tcp --dport {service.node_port}"
        table.add(
            "KUBE-EXTERNAL-SERVICES", f'-p tcp -m comment --comment "{service} {why}" {match} -j {target}'
        )
    if plan.has_external:
        nat.add(
            "KUBE-NODEPORTS",
            f'-p tcp -m comment --comment "{service}" -m tcp --dport {service.node_port} -j {ext}',
        )
        nat.add(ext, *_external_rules(service, plan, pods, svc, svl))
    for chain, endpoints in ((svc, plan.cluster), (svl, plan.local)):
        for left, endpoint in zip(range(len(endpoints), 0, -1), endpoints, strict=True):
            odds = f" -m statistic --mode random --probability {_probability(left)}" if left > 1 else ""
            sep = _endpoint_chain(service, endpoint)
            nat.add(chain, f'-m comment --comment "{service} -> {endpoint}"{odds} -j {sep}')
    for endpoint in plan.reachable:
        comment = f'-m comment --comment "{service}"'
        nat.add(
            _endpoint_chain(service, endpoint),
            f"-s {endpoint.ip}/{bits} {comment} -j KUBE-MARK-MASQ",
            f"-p tcp {comment} -m tcp -j DNAT --to-destination {endpoint}",
        )


def _external_rules(service: Service, plan: _Plan, pods: str, svc: str, svl: str) -> list[str]:
    of = f"for {service} external destinations"
    if service.external_policy == "Cluster":
        return [f'-m comment --comment "masquerade traffic {of}" -j KUBE-MARK-MASQ', f"-j {svc}"]
    local = "-m addrtype --src-type LOCAL"
    found = [
        f'-s {pods} -m comment --comment "pod traffic {of}" -j {svc}',
        f'-m comment --comment "masquerade LOCAL traffic {of}" {local} -j KUBE-MARK-MASQ',
        f'-m comment --comment "route LOCAL traffic {of}" {local} -j {svc}',
    ]
    return [*found, f"-j {svl}"] if plan.external is _Fate.SERVED else found


def _refusal(fate: _Fate, family: Family) -> tuple[str, str]:
    if fate is _Fate.DROPPED:
        return "has no local endpoints", "DROP"
    icmp = "icmp6-port-unreachable" if family == 6 else "icmp-port-unreachable"
    return "has no endpoints", f"REJECT --reject-with {icmp}"


def _endpoint_chain(service: Service, endpoint: Endpoint) -> str:
    return f"KUBE-SEP-{_hash(f'{service}tcp{endpoint}', 16)}"


def _probability(left: int) -> str:
    """1/left: kube-proxy writes 10 digits, the kernel keeps 31 bits, iptables-save prints 11 digits."""
    return f"{round(float(f'{1 / left:.10f}') * 2**31) / 2**31:.11f}"


# nftables mode

_NFT_CHAINS = """\
	chain filter-prerouting {
		type filter hook prerouting priority dstnat - 10; policy accept;
		ct state new jump firewall-check
	}

	chain filter-input {
		type filter hook input priority -110; policy accept;
		ct state new jump nodeport-endpoints-check
		ct state new jump service-endpoints-check
	}

	chain filter-forward {
		type filter hook forward priority -110; policy accept;
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}

	chain filter-output {
		type filter hook output priority -110; policy accept;
		ct state new jump service-endpoints-check
		ct state new jump firewall-check
	}

	chain filter-output-post-dnat {
		type filter hook output priority -90; policy accept;
		ct state new jump cluster-ips-check
	}

	chain nat-prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		jump services
	}

	chain nat-output {
		type nat hook output priority -100; policy accept;
		jump services
	}

	chain nat-postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		jump masquerading
	}

	chain nodeport-endpoints-check {
		IP daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
	}

	chain service-endpoints-check {
		IP daddr . meta l4proto . th dport vmap @no-endpoint-services
	}

	chain firewall-check {
		IP daddr . meta l4proto . th dport vmap @firewall-ips
	}

	chain services {
		IP daddr . meta l4proto . th dport vmap @service-ips
		IP daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}

	chain masquerading {
		meta mark & 0x00004000 == 0x00000000 return
		meta mark set meta mark ^ 0x00004000
		masquerade fully-random
	}

	chain cluster-ips-check {
		IP daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
	}

	chain mark-for-masquerade {
		meta mark set meta mark | 0x00004000
	}

	chain reject-chain {
		comment "helper for @no-endpoint-services / @no-endpoint-nodeports"
		reject
	}
"""
# Name, what it is keyed by, comment; in the order in which nft lists them.
_NFT_SETS = {
    "cluster-ips": ("ADDR", "Active ClusterIPs"),
    "nodeport-ips": ("ADDR", "IPs that accept NodePort traffic"),
    "no-endpoint-services": (
        "ADDR . inet_proto . inet_service : verdict",
        "vmap to drop or reject packets to services with no endpoints",
    ),
    "no-endpoint-nodeports": (
        "inet_proto . inet_service : verdict",
        "vmap to drop or reject packets to service nodeports with no endpoints",
    ),
    "firewall-ips": (
        "ADDR . inet_proto . inet_service : verdict",
        "destinations that are subject to LoadBalancerSourceRanges",
    ),
    "service-ips": (
        "ADDR . inet_proto . inet_service : verdict",
        "ClusterIP, ExternalIP and LoadBalancer IP traffic",
    ),
    "service-nodeports": ("inet_proto . inet_service : verdict", "NodePort traffic"),
}


class _NftTable:
    """The elements and the Services' chains of table kube-proxy."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.ip = _IP[family]
        self.elements: dict[str, list[str]] = {name: [] for name in _NFT_SETS}
        self.chains: dict[str, list[str]] = {}

    def __str__(self) -> str:
        sets = []
        for name, (key, comment) in _NFT_SETS.items():
            lines = [f"type {key.replace('ADDR', f'ipv{self.family}_addr')}", f'comment "{comment}"']
            if self.elements[name]:
                lines.append(f"elements = {{ {', '.join(self.elements[name])} }}")
            sets.append(_nft_block(f"{_nft_kind(key)} {name}", lines))
        chains = [_nft_block(f"chain {name}", lines) for name, lines in self.chains.items()]
        stock = re.sub(r"\bIP\b", self.ip, _NFT_CHAINS)
        body = "\n".join([*sets, stock.replace("invalid ports of ip", "invalid ports of IP"), *chains])
        return f'table {self.ip} kube-proxy {{\n\tcomment "rules for kube-proxy"\n{body}}}\n'


def _nft_kind(key: str) -> str:
    return "map" if key.endswith("verdict") else "set"


def _nft_block(head: str, lines: Iterable[str]) -> str:
    return "\n".join([f"\t{head} {{", *(f"\t\t{line}" for line in lines), "\t}", ""])


def nftables_rules(services: Sequence[Service], node: NodeAddresses, family: Family) -> str:
    """What ``nft list table ip kube-proxy`` (``ip6``) prints. NodePorts: on the primary address only."""
    table = _NftTable(family)
    table.elements["nodeport-ips"] = [address] if (address := node.address(family)) else []
    for service in _of_family(services, family):
        if service.cluster_ip not in table.elements["cluster-ips"]:
            table.elements["cluster-ips"].append(service.cluster_ip)
        _add_nft_service(table, service, node.pod_cidr(family))
    return str(table)


def _add_nft_service(table: _NftTable, service: Service, pods: str) -> None:
    plan = _Plan(service)
    base = _nft_name(f"{service.namespace}/{service.name}/tcp/{service.port_name}")
    svc, svl, ext = f"service-{base}", f"local-{base}", f"external-{base}"
    vip = f"{service.cluster_ip} . tcp . {service.port}"
    masquerade: dict[str, list[str]] = {svc: [], svl: []}
    if plan.internal is _Fate.SERVED:
        inner = svl if service.internal_policy == "Local" else svc
        table.elements["service-ips"].append(f"{vip} : goto {inner}")
        to_vip = f"{table.ip} daddr {service.cluster_ip} tcp dport {service.port}"
        masquerade[inner].append(f"{to_vip} {table.ip} saddr != {pods} jump mark-for-masquerade")
    else:
        verdict = _nft_refusal(plan.internal)
        table.elements["no-endpoint-services"].append(f'{vip} comment "{service}" : {verdict}')
    node_port = f"tcp . {service.node_port}"
    if service.node_port is not None and plan.external is not _Fate.SERVED:
        verdict = _nft_refusal(plan.external)
        table.elements["no-endpoint-nodeports"].append(f'{node_port} comment "{service}" : {verdict}')
    for endpoint in plan.reachable:
        table.chains[_nft_endpoint_chain(service, endpoint)] = [
            f"{table.ip} saddr {endpoint.ip} jump mark-for-masquerade",
            f"meta l4proto tcp dnat to {endpoint}",
        ]
    for chain, endpoints in ((svc, plan.cluster), (svl, plan.local)):
        if endpoints:
            numbered = enumerate(_nft_endpoint_chain(service, endpoint) for endpoint in endpoints)
            verdicts = ", ".join(f"{number} : goto {name}" for number, name in numbered)
            table.chains[chain] = [
                *masquerade[chain],
                f"numgen random mod {len(endpoints)} vmap {{ {verdicts} }}",
            ]
    if plan.has_external:
        table.elements["service-nodeports"].append(f"{node_port} : goto {ext}")
        table.chains[ext] = _nft_external_rules(service, plan, f"{table.ip} saddr {pods}", svc, svl)


def _nft_external_rules(service: Service, plan: _Plan, from_pods: str, svc: str, svl: str) -> list[str]:
    if service.external_policy == "Cluster":
        return ["jump mark-for-masquerade", f"goto {svc}"]
    found = [
        f'{from_pods} goto {svc} comment "short-circuit pod traffic"',
        'fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"',
        f'fib saddr type local goto {svc} comment "short-circuit local traffic"',
    ]
    return [*found, f"goto {svl}"] if plan.external is _Fate.SERVED else found


def _nft_refusal(fate: _Fate) -> str:
    return "drop" if fate is _Fate.DROPPED else "goto reject-chain"


def _nft_name(name: str) -> str:
    return f"{_hash(name, 8)}-{name}"


def _nft_endpoint_chain(service: Service, endpoint: Endpoint) -> str:
    ip = endpoint.ip.replace(":", ".")  # nft allows no colon in a name
    base = f"{service.namespace}/{service.name}/tcp/{service.port_name}__{ip}/{endpoint.port}"
    return f"endpoint-{_nft_name(base)}"


# In a namespace


def install(netns: str, wanted: Rules) -> None:
    """Put the rules into a namespace in the place of the same mode's earlier ones, all of a family at once.

    Connections, conntrack entries, and other people's rules and chains stay. The other mode's rules stay as
    well: `remove` first. Sets route_localnet as kube-proxy does. Raises `LabError` with what the tool said.
    """
    if wanted.route_localnet:
        inside(netns, lambda: Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1"))
    for family, text in wanted.text.items():
        match wanted.mode:
            case Mode.IPTABLES:
                saved = run([f"{_TOOLS[family]}-save"], netns=netns)
                _apply(netns, [f"{_TOOLS[family]}-restore", "--noflush"], _restore_input(saved, text))
            case Mode.NFTABLES:
                listed = run(["nft", "list", "chains", _IP[family]], netns=netns)
                _apply(netns, ["nft", "-f"], _nft_script(listed, text, _IP[family]))
            case _:
                assert_never(wanted.mode)


def remove(netns: str) -> None:
    """Remove what `install` left, of any mode; route_localnet stays, as a real kube-proxy leaves it."""
    for family, ip in _IP.items():
        saved = run([f"{_TOOLS[family]}-save"], netns=netns)
        _apply(netns, [f"{_TOOLS[family]}-restore", "--noflush"], _removal_input(saved))
        # To add what is there changes nothing; to delete what is not there fails.
        _apply(netns, ["nft", "-f"], f"add table {ip} kube-proxy\ndelete table {ip} kube-proxy\n")


def _sections(saved: str) -> dict[str, list[str]]:
    """The lines of each table that iptables-save printed."""
    tables: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            lines = tables[line[1:]] = []
        elif line.startswith((":", "-A ")):
            lines.append(line)
    return tables


def _restore_input(saved: str, text: str) -> str:
    """The rules as input of ``iptables-restore --noflush``, given what is there.

    It flushes the chains that it names. Hooks are shared, so they are not named: a jump that is there already
    is left out, a new one goes to the front. Service chains that nobody wants any more are deleted.
    """
    before = _sections(saved)
    found: list[str] = []
    for table, lines in _sections(text).items():
        there = before.get(table, [])
        found.append(f"*{table}")
        jumps = dict.fromkeys(_HOOKS[table], 0)
        for line in lines:
            name = line.split()[1] if line.startswith("-A ") else line.split()[0][1:]
            if name not in jumps:
                found.append(line)
            elif line.startswith("-A ") and line not in there:
                jumps[name] += 1
                found.append(line.replace(f"-A {name}", f"-I {name} {jumps[name]}", 1))
        names = [line.split()[0][1:] for line in there if line.startswith(":")]
        stale = [name for name in names if _SERVICE_CHAIN.match(name) and f":{name} " not in text]
        found += [f":{name} - [0:0]" for name in stale] + [f"-X {name}" for name in stale]
        found.append("COMMIT")
    return "\n".join([*found, ""])


def _removal_input(saved: str) -> str:
    found: list[str] = []
    for table, lines in _sections(saved).items():
        names = [line.split()[0][1:] for line in lines if line.startswith(":KUBE-")]
        jumps = [line for line in lines if " -j KUBE-" in line and not line.startswith("-A KUBE-")]
        found += [f"*{table}", *(f":{name} - [0:0]" for name in names)]
        found += [line.replace("-A", "-D", 1) for line in jumps]
        found += [*(f"-X {name}" for name in names), "COMMIT"]
    return "\n".join([*found, ""])


def _nft_script(listed: str, text: str, ip: str) -> str:
    """The table as input of ``nft -f``: what is there is emptied, Services' old chains are deleted."""
    there = re.search(rf"^table {ip} kube-proxy {{$(.*?)^}}$", listed, re.MULTILINE | re.DOTALL)
    if there is None:
        return text
    head = [f"flush table {ip} kube-proxy"]
    for name, (key, _) in _NFT_SETS.items():
        head.append(f"flush {_nft_kind(key)} {ip} kube-proxy {name}")
    # Only a Service's chains have a slash in their names.
    old = re.findall(r"^\tchain (\S+/\S+) {", there[1], re.MULTILINE)
    head += [f"delete chain {ip} kube-proxy {name}" for name in old if f"chain {name} " not in text]
    return "\n".join([*head, text])


def _apply(netns: str, command: Sequence[str], text: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="shlab-", suffix=".rules") as file:
        file.write(text)
        file.flush()
        run([*command, file.name], netns=netns)
