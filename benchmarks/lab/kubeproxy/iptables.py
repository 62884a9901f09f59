"""The rules of iptables mode. Source: pkg/proxy/iptables/proxier.go of Kubernetes."""

from collections.abc import Sequence

from benchmarks.lab.kubeproxy.service import (
    Endpoint,
    Family,
    Fate,
    NodeAddresses,
    Plan,
    Service,
    hashed,
    of_family,
)

HOOKS = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
_NEW = "-m conntrack --ctstate NEW -m comment --comment"


class _Table:
    """A table as iptables-save prints it: built-in chains first, then the other chains by name."""

    def __init__(self, name: str, *chains: str) -> None:
        self.name = name
        self.chains: dict[str, list[str]] = {chain: [] for chain in (*HOOKS[name], *chains)}

    def add(self, chain: str, *found: str) -> None:
        self.chains.setdefault(chain, []).extend(found)

    def __str__(self) -> str:
        hooks = HOOKS[self.name]
        others = sorted(chain for chain in self.chains if chain not in hooks)
        lines = [f"*{self.name}"]
        lines += [f":{chain} ACCEPT [0:0]" for chain in hooks]
        lines += [f":{chain} - [0:0]" for chain in others]
        lines += [f"-A {chain} {found}" for chain in (*hooks, *others) for found in self.chains[chain]]
        return "\n".join([*lines, "COMMIT", ""])


def iptables_rules(services: Sequence[Service], node: NodeAddresses, family: Family) -> str:
    """The output of ``iptables-save`` (``ip6tables-save``), without comments and with all counters 0."""
    mangle = _Table("mangle", "KUBE-PROXY-CANARY")
    table, nat = _filter_table(node, family), _nat_table()
    for service in of_family(services, family):
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
        # Blocks what route_localnet would open to other hosts.
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
    plan = Plan(service)
    suffix = hashed(f"{service}tcp", 16)
    svc, svl, ext = (f"KUBE-{kind}-{suffix}" for kind in ("SVC", "SVL", "EXT"))
    bits, pods = (128 if family == 6 else 32), node.pod_cidr(family)
    vip = f"-d {service.cluster_ip}/{bits} -p tcp -m comment --comment"
    dport = f"-m tcp --dport {service.port}"
    if plan.internal is Fate.SERVED:
        inner = svl if service.internal_policy == "Local" else svc
        nat.add("KUBE-SERVICES", f'{vip} "{service} cluster IP" {dport} -j {inner}')
        nat.add(inner, f'! -s {pods} {vip} "{service} cluster IP" {dport} -j KUBE-MARK-MASQ')
    else:
        why, target = _refusal(plan.internal, family)
        table.add("KUBE-SERVICES", f'{vip} "{service} {why}" {dport} -j {target}')
    if service.node_port is not None and plan.external is not Fate.SERVED:
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


def _external_rules(service: Service, plan: Plan, pods: str, svc: str, svl: str) -> list[str]:
    of = f"for {service} external destinations"
    if service.external_policy == "Cluster":
        return [f'-m comment --comment "masquerade traffic {of}" -j KUBE-MARK-MASQ', f"-j {svc}"]
    local = "-m addrtype --src-type LOCAL"
    found = [
        f'-s {pods} -m comment --comment "pod traffic {of}" -j {svc}',
        f'-m comment --comment "masquerade LOCAL traffic {of}" {local} -j KUBE-MARK-MASQ',
        f'-m comment --comment "route LOCAL traffic {of}" {local} -j {svc}',
    ]
    return [*found, f"-j {svl}"] if plan.external is Fate.SERVED else found


def _refusal(fate: Fate, family: Family) -> tuple[str, str]:
    if fate is Fate.DROPPED:
        return "has no local endpoints", "DROP"
    icmp = "icmp6-port-unreachable" if family == 6 else "icmp-port-unreachable"
    return "has no endpoints", f"REJECT --reject-with {icmp}"


def _endpoint_chain(service: Service, endpoint: Endpoint) -> str:
    return f"KUBE-SEP-{hashed(f'{service}tcp{endpoint}', 16)}"


def _probability(left: int) -> str:
    """1/left as printed: kube-proxy writes 10 digits, the kernel keeps 31 bits, iptables-save prints 11
    digits.
    """
    return f"{round(float(f'{1 / left:.10f}') * 2**31) / 2**31:.11f}"
