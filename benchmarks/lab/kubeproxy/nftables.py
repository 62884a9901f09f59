"""The rules of nftables mode. Source: pkg/proxy/nftables/proxier.go of Kubernetes."""

import re
from collections.abc import Iterable, Sequence

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

IP_WORDS: dict[Family, str] = {4: "ip", 6: "ip6"}

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
# Name, key type, comment; in the order in which nft lists them.
SETS = {
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
    """The elements and the Services' chains of the table kube-proxy."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.ip = IP_WORDS[family]
        self.elements: dict[str, list[str]] = {name: [] for name in SETS}
        self.chains: dict[str, list[str]] = {}

    def __str__(self) -> str:
        sets = []
        for name, (key, comment) in SETS.items():
            lines = [f"type {key.replace('ADDR', f'ipv{self.family}_addr')}", f'comment "{comment}"']
            if self.elements[name]:
                lines.append(f"elements = {{ {', '.join(self.elements[name])} }}")
            sets.append(_nft_block(f"{kind_of(key)} {name}", lines))
        chains = [_nft_block(f"chain {name}", lines) for name, lines in self.chains.items()]
        stock = re.sub(r"\bIP\b", self.ip, _NFT_CHAINS)
        body = "\n".join([*sets, stock.replace("invalid ports of ip", "invalid ports of IP"), *chains])
        return f'table {self.ip} kube-proxy {{\n\tcomment "rules for kube-proxy"\n{body}}}\n'


def kind_of(key: str) -> str:
    return "map" if key.endswith("verdict") else "set"


def _nft_block(head: str, lines: Iterable[str]) -> str:
    return "\n".join([f"\t{head} {{", *(f"\t\t{line}" for line in lines), "\t}", ""])


def nftables_rules(services: Sequence[Service], node: NodeAddresses, family: Family) -> str:
    """The output of ``nft list table ip kube-proxy`` (``ip6``). NodePorts answer on the primary address
    only.
    """
    table = _NftTable(family)
    table.elements["nodeport-ips"] = [address] if (address := node.address(family)) else []
    for service in of_family(services, family):
        if service.cluster_ip not in table.elements["cluster-ips"]:
            table.elements["cluster-ips"].append(service.cluster_ip)
        _add_nft_service(table, service, node.pod_cidr(family))
    return str(table)


def _add_nft_service(table: _NftTable, service: Service, pods: str) -> None:
    plan = Plan(service)
    base = _nft_name(f"{service.namespace}/{service.name}/tcp/{service.port_name}")
    svc, svl, ext = f"service-{base}", f"local-{base}", f"external-{base}"
    vip = f"{service.cluster_ip} . tcp . {service.port}"
    masquerade: dict[str, list[str]] = {svc: [], svl: []}
    if plan.internal is Fate.SERVED:
        inner = svl if service.internal_policy == "Local" else svc
        table.elements["service-ips"].append(f"{vip} : goto {inner}")
        to_vip = f"{table.ip} daddr {service.cluster_ip} tcp dport {service.port}"
        masquerade[inner].append(f"{to_vip} {table.ip} saddr != {pods} jump mark-for-masquerade")
    else:
        verdict = _nft_refusal(plan.internal)
        table.elements["no-endpoint-services"].append(f'{vip} comment "{service}" : {verdict}')
    node_port = f"tcp . {service.node_port}"
    if service.node_port is not None and plan.external is not Fate.SERVED:
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


def _nft_external_rules(service: Service, plan: Plan, from_pods: str, svc: str, svl: str) -> list[str]:
    if service.external_policy == "Cluster":
        return ["jump mark-for-masquerade", f"goto {svc}"]
    found = [
        f'{from_pods} goto {svc} comment "short-circuit pod traffic"',
        'fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"',
        f'fib saddr type local goto {svc} comment "short-circuit local traffic"',
    ]
    return [*found, f"goto {svl}"] if plan.external is Fate.SERVED else found


def _nft_refusal(fate: Fate) -> str:
    return "drop" if fate is Fate.DROPPED else "goto reject-chain"


def _nft_name(name: str) -> str:
    return f"{hashed(name, 8)}-{name}"


def _nft_endpoint_chain(service: Service, endpoint: Endpoint) -> str:
    ip = endpoint.ip.replace(":", ".")  # nft does not allow a colon in a name
    base = f"{service.namespace}/{service.name}/tcp/{service.port_name}__{ip}/{endpoint.port}"
    return f"endpoint-{_nft_name(base)}"
