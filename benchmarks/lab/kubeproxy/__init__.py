"""The rules that kube-proxy writes, in iptables and in nftables mode, for Services with one TCP port each.

The text is what ``iptables-save``, ``ip6tables-save`` and ``nft list table`` print for a real kube-proxy
1.30 (tests/lab/kubeproxy), with the same chain names. So it can be compared with a dump, and it can be
installed. It is for Debian's default iptables with the nf_tables back-end, which sorts chains by name. UDP,
load balancers, external addresses, session affinity and topology hints are left out. Source:
pkg/proxy/iptables/proxier.go and pkg/proxy/nftables/proxier.go of Kubernetes.
"""

from benchmarks.lab.kubeproxy.install import Rules, install, remove, rules
from benchmarks.lab.kubeproxy.iptables import iptables_rules
from benchmarks.lab.kubeproxy.nftables import nftables_rules
from benchmarks.lab.kubeproxy.service import Endpoint, Family, Mode, NodeAddresses, Policy, Service

__all__ = [
    "Endpoint",
    "Family",
    "Mode",
    "NodeAddresses",
    "Policy",
    "Rules",
    "Service",
    "install",
    "iptables_rules",
    "nftables_rules",
    "remove",
    "rules",
]
