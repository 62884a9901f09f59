"""When the local path is proved to be direct: what proves it, what disproves it, and for how long.

How a probe's messages get there is in ``test_book.py``.
"""

import dataclasses

import pytest

from agent.flows.messages import Canary, Health
from agent.flows.proof import Proof
from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict
from tests.unit.agent.flows.scenes import direct
from tests.unit.agent.flows.test_book import canary, judged

INTERVAL_S = 10.0
OWN, TAKEN = "node-1", 900


def proof(*canaries: Canary) -> Proof:
    """One that heard of a canary, which was sent at 0 s."""
    made = Proof(own=OWN, canary_interval_s=INTERVAL_S)
    made.on_health(Health(canaries=canaries or (canary(taken_by=TAKEN),)))
    return made


def flow(**changes: object) -> Flow:
    return dataclasses.replace(judged(direct()), **{"verdict_is_new": True, **changes})  # type: ignore[arg-type]


def test_nothing_is_proved_before_a_canary() -> None:
    assert Proof(own=OWN, canary_interval_s=INTERVAL_S).proved(0.0)[0] is False


def test_direct_canary_that_this_agent_answered_proves_the_path_until_it_is_old() -> None:
    made = proof()
    assert made.proved(2.5 * INTERVAL_S)[0]
    assert not made.proved(2.5 * INTERVAL_S + 0.1)[0]


@pytest.mark.parametrize(
    "sent",
    [
        canary(verdict=Verdict.KUBE_PROXY, taken_by=TAKEN),
        canary(verdict=Verdict.FAILED, taken_by=TAKEN),
        canary(by="node-2", taken_by=TAKEN),
        canary(by="", taken_by=TAKEN),
        canary(verdict=Verdict.PROXIED),
        canary(EndpointName.NODEPORT, taken_by=TAKEN),
    ],
)
def test_any_other_canary_proves_nothing(sent: Canary) -> None:
    proved, reason = proof(sent).proved(1.0)
    assert not proved
    assert reason


def test_one_bad_canary_of_several_is_enough() -> None:
    bad = canary(verdict=Verdict.KUBE_PROXY, address="[::1]:30020", taken_by=TAKEN)
    assert not proof(canary(taken_by=TAKEN), bad).proved(1.0)[0]


def test_probe_that_is_gone_proves_nothing() -> None:
    made = proof()
    made.on_probe_lost()
    assert not made.proved(1.0)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": Verdict.KUBE_PROXY},
        {"verdict": Verdict.SOCKET_LB},
        {"verdict": Verdict.PROXIED},
        {"translated": True},
        {"verdict": Verdict.UNKNOWN, "contradicted": True},
    ],
)
def test_connection_of_containerd_that_went_astray_disproves_the_path_for_ten_intervals(
    changes: dict[str, object],
) -> None:
    made = proof()
    made.on_flow(flow(**changes), 1.0)
    assert not made.proved(1.0)[0]
    made.on_health(Health(canaries=(canary(at_s=101.0, taken_by=TAKEN),)))
    assert not made.proved(100.9)[0]
    assert made.proved(101.0)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": EndpointName.NODEPORT, "verdict": Verdict.KUBE_PROXY},
        {"canary": True, "verdict": Verdict.KUBE_PROXY},
        {"verdict": Verdict.FAILED},
        {"verdict": Verdict.UNKNOWN},
        {"verdict": Verdict.PROXIED, "by_containerd": False},
        {"verdict": Verdict.KUBE_PROXY, "by_containerd": False},
        {"translated": True, "by_containerd": False},
        {"contradicted": True, "by_containerd": False},
    ],
)
def test_connection_that_says_nothing_of_the_path_disproves_nothing(changes: dict[str, object]) -> None:
    made = proof()
    made.on_flow(flow(**changes), 1.0)
    assert made.proved(20.0)[0]


def test_request_over_a_connection_that_was_translated_disproves_the_path_again() -> None:
    made = proof()
    made.on_request(Verdict.HOSTPORT_NAT, 5.0)
    assert not made.proved(5.0)[0]
    other = proof()
    other.on_request(Verdict.DIRECT, 5.0)
    assert other.proved(5.0)[0]


def test_canary_proves_nothing_where_containerd_s_connections_meet_other_programs() -> None:
    made = proof()
    made.on_health(Health(canaries=made.canaries, alike=False))
    assert not made.proved(1.0)[0]
