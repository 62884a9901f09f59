"""Runs every check, in the order in which a person wants to read them."""

from agent.preflight import compiler, kubeproxy, node, ports
from agent.preflight.check import Check, PreflightTarget
from agent.preflight.rules import ProxyMode


def run_checks(target: PreflightTarget) -> tuple[Check, ...]:
    """Check the node. Blocks, and never raises for what it finds.

    Takes about a third of a second, mostly for the import of bcc in a child process. It takes at most 20 s,
    because each of the eight commands and requests has 2 s. It checks the network namespace and the /proc of
    this process.
    """
    proxy = kubeproxy.find_proxy(target)
    at_host_port = ports.find_listeners(target.proc, target.host_port)
    at_node_port = ports.find_listeners(target.proc, target.node_port)
    cgroup, root = node.cgroup2(target)
    bcc, libbpf = compiler.compiler()
    return (
        node.kernel(target),
        node.btf(target),
        cgroup,
        node.containerd_cgroup(target, root),
        node.network_namespace(target, root),
        node.tracefs(target),
        node.capabilities(target),
        node.lockdown(target),
        bcc,
        libbpf,
        ports.host_port(target, at_host_port, proxy.rules.port_maps),
        ports.node_port_squatter(target, at_node_port),
        ports.route_localnet(
            target,
            iptables_proxy=proxy.runs and ProxyMode.IPTABLES in proxy.modes,
            port_mapped=bool(proxy.rules.port_maps),
        ),
        kubeproxy.mode(proxy),
        kubeproxy.stale_rules(proxy),
        kubeproxy.missing_rules(proxy),
        kubeproxy.node_port_rule(target, proxy),
    )
