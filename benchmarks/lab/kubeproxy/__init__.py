"""The rules that kube-proxy writes, in iptables and in nftables mode, for Services of one TCP port each.

The text is what ``iptables-save``, ``ip6tables-save`` and ``nft list table`` print of a real kube-proxy 1.30
(tests/lab/kubeproxy), chain names included, so it can be compared with a dump and it can be installed.
Debian's default iptables is meant: the nf_tables back-end, which sorts chains by name. What kube-proxy does
for UDP, load balancers, external addresses, session affinity and topology hints is left out.
Source: pkg/proxy/iptables/proxier.go and pkg/proxy/nftables/proxier.go of Kubernetes.
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
