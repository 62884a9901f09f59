"""Whether a verdict and conntrack's entry can both be right."""

from collections.abc import Callable
from ipaddress import ip_address

from agent.flows.table import Flow
from agent.flows.verdicts import ANY, Verdict
from benchmarks.lab.conntrack import Kind, Translation
from bpf.events import Address, format_ip
from tests.e2e.verdicts.running import shown

_TRANSLATED = (Verdict.HOSTPORT_NAT, Verdict.KUBE_PROXY, Verdict.KUBE_PROXY_REMOTE)


def plain(host: str) -> str:
    """An address as conntrack has it: connect() takes any address for loopback."""
    ip = ip_address(host)
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(ip), str(ip))


def end(address: Address) -> tuple[str, int]:
    """An address and port in words."""
    return format_ip(address.ip), address.port


def told(flow: Flow, found: Translation) -> bool:
    """Whether a flow of the probe is this connection of conntrack's."""
    asked = format_ip(flow.asked.ip) if flow.asked.ip not in ANY else plain(format_ip(flow.asked.ip))
    original = (found.original.dst, found.original.dst_port)
    if flow.went is None:
        return end(flow.client) == (found.original.src, found.original.src_port) and original == (
            asked,
            flow.asked.port,
        )
    if (end(flow.client), end(flow.went)) != (found.wire_source, found.wire):
        return False
    return original == (asked, flow.asked.port) or flow.verdict in (Verdict.SOCKET_LB, Verdict.UNKNOWN)


def check(flow: Flow, truth: Translation | None, *, is_here: Callable[[str], bool]) -> None:
    """Fail where the probe's verdict and conntrack's entry can't both be right."""
    translated = truth is not None and (truth.kind is Kind.DNAT or truth.snat)
    said = f"{shown(flow)}; conntrack: {truth}"
    if flow.verdict is Verdict.DIRECT:
        assert truth is not None, said
        assert not translated, said
    elif flow.verdict is Verdict.PROXIED:
        assert truth is not None, said
        assert translated is flow.translated, said
    elif flow.verdict in _TRANSLATED:
        assert truth is not None, said
        assert truth.kind is Kind.DNAT, said
        assert is_here(truth.wire[0]) is (flow.verdict is not Verdict.KUBE_PROXY_REMOTE), said
    elif flow.verdict is Verdict.SOCKET_LB:
        assert truth is not None, said
        assert flow.went is not None, said
        assert truth.original.dst_port != flow.asked.port or truth.original.dst != format_ip(flow.asked.ip), (
            said
        )
    elif flow.verdict is Verdict.FAILED:
        assert flow.went is None or truth is not None, said
    if truth is not None and flow.went is not None:
        assert end(flow.went) == truth.wire, said
