"""What the probe's canaries mean for pulls."""

import dataclasses

import pytest

from agent.documents.flows import CanaryEntry, FlowsDocument
from agent.preflight.canaries import canaries
from agent.preflight.check import Status
from agent.preflight.gather import Unknown

CANARY = CanaryEntry(
    sent_at="t", endpoint="hostport", address="127.0.0.1:30020", verdict="DIRECT", reason="taken", went="",
    answered_by="a1", rtt_us=1, age_s=1.0,
)  # fmt: skip
FLOWS = FlowsDocument(
    time="t", probe=True, proved=True, why="direct", foreign=0, canaries=(CANARY,), flows=()
)


@pytest.mark.parametrize(
    ("endpoint", "verdict", "status"),
    [
        ("hostport", "DIRECT", Status.GOOD),
        ("hostport", "HOSTPORT_NAT", Status.GOOD),
        ("hostport", "KUBE_PROXY", Status.WARN),
        ("hostport", "UNKNOWN", Status.WARN),
        ("hostport", "PROXIED", Status.BAD),
        ("hostport", "FAILED", Status.BAD),
        ("nodeport", "KUBE_PROXY", Status.GOOD),
        ("nodeport", "KUBE_PROXY_REMOTE", Status.GOOD),
        ("nodeport", "SOCKET_LB", Status.GOOD),
        ("nodeport", "FAILED", Status.WARN),
        ("clusterip", "UNKNOWN", Status.WARN),
    ],
)
def test_each_endpoint_has_its_line(endpoint: str, verdict: str, status: Status) -> None:
    canary = dataclasses.replace(CANARY, endpoint=endpoint, verdict=verdict)
    _, check = canaries(dataclasses.replace(FLOWS, canaries=(canary,)))
    assert check.status is status
    assert verdict in check.detail


def test_no_proof_is_a_warning_and_no_probe_not_known() -> None:
    assert canaries(FLOWS)[0].status is Status.GOOD
    assert canaries(dataclasses.replace(FLOWS, proved=False, why="KUBE_PROXY"))[0].status is Status.WARN
    (check,) = canaries(dataclasses.replace(FLOWS, probe=False))
    assert check.status is Status.UNKNOWN
    (check,) = canaries(Unknown(why="x"))
    assert check.status is Status.UNKNOWN
