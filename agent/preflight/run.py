"""Every check, in the order in which a person wants to read them."""

from agent.preflight import compiler, kubeproxy, node, ports
from agent.preflight.check import Check, Subject
from agent.preflight.rules import ProxyMode


def run_checks(subject: Subject) -> tuple[Check, ...]:
    """Look at the node. Blocking; never raises for what it finds.

    Takes about a third of a second, for the most part BCC's import in a child; 20 s at the very worst, as
    each of the eight commands and requests has 2 s. Reads the network namespace and the /proc that it is
    run in.
    """
    proxy = kubeproxy.find_proxy(subject)
    at_host_port = ports.find_listeners(subject.proc, subject.host_port)
    at_node_port = ports.find_listeners(subject.proc, subject.node_port)
    cgroup, root = node.cgroup2(subject)
    bcc, libbpf = compiler.compiler()
    return (
        node.kernel(subject),
        node.btf(subject),
        cgroup,
        node.containerd_cgroup(subject, root),
        node.network_namespace(subject),
        node.tracefs(subject),
        node.capabilities(subject),
        node.lockdown(subject),
        bcc,
        libbpf,
        ports.host_port(subject, at_host_port, proxy.rules.port_maps),
        ports.node_port_squatter(subject, at_node_port),
        ports.route_localnet(
            subject,
            iptables_proxy=proxy.runs and ProxyMode.IPTABLES in proxy.modes,
            port_mapped=bool(proxy.rules.port_maps),
        ),
        kubeproxy.mode(proxy),
        kubeproxy.stale_rules(proxy),
        kubeproxy.missing_rules(proxy),
        kubeproxy.node_port_rule(subject, proxy),
    )
