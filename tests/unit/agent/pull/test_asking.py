"""Who is asked when, and how long peers are waited for."""

from dataclasses import dataclass

import pytest

from agent.pull.asking import GRACE_LEAST_S, AskingPolicy, Step, grace_s
from agent.pull.regard import Regard
from tests.unit.twins import node
from topology.placement import NodeName

PATIENCE_S, TIMEOUT_S = 0.05, 0.5


@dataclass(frozen=True)
class Asked:
    name: NodeName


A, B, C, D = (Asked(node(name)) for name in "abcd")
RINGS = ((A, B), (C,), (D,))
LINGER: Step[Asked] = Step(peers=(), deadline_s=TIMEOUT_S, wait_s=TIMEOUT_S)


@pytest.fixture
def regard() -> Regard:
    made = Regard(cooloff_s=5.0)
    made.members_changed(one.name for one in (A, B, C, D))
    return made


@pytest.fixture
def asking(regard: Regard) -> AskingPolicy:
    return AskingPolicy(regard=regard, patience_s=PATIENCE_S, timeout_s=TIMEOUT_S)


def asked(*peers: Asked) -> Step[Asked]:
    return Step(peers=peers, deadline_s=TIMEOUT_S, wait_s=PATIENCE_S)


def briefly(*peers: Asked) -> Step[Asked]:
    return Step(peers=peers, deadline_s=PATIENCE_S, wait_s=PATIENCE_S)


def test_rings_are_asked_one_after_another_and_the_last_is_waited_for_longer(asking: AskingPolicy) -> None:
    assert asking.by_ring(RINGS, 0.0) == (asked(A, B), asked(C), asked(D), LINGER)


def test_cooling_peers_are_asked_last_and_briefly(asking: AskingPolicy, regard: Regard) -> None:
    for peer in (C, B):
        regard.failed(peer.name, 0.0)
    assert asking.by_ring(RINGS, 1.0) == (asked(A), asked(D), LINGER, briefly(B, C))
    assert asking.by_ring(RINGS, 5.0) == (asked(A, B), asked(C), asked(D), LINGER)


def test_everyone_is_asked_at_once_but_for_cooling_peers(asking: AskingPolicy, regard: Regard) -> None:
    assert asking.everyone(RINGS, 0.0) == (asked(A, B, C, D), LINGER)
    regard.failed(A.name, 0.0)
    assert asking.everyone(RINGS, 1.0) == (asked(B, C, D), LINGER, briefly(A))


def test_peer_that_does_not_reply_cools_off(asking: AskingPolicy, regard: Regard) -> None:
    asking.silent(D.name, 0.0)
    assert regard.is_cooling(D.name, 1.0)
    assert asking.by_ring(RINGS, 1.0) == (asked(A, B), asked(C), LINGER, briefly(D))


def test_nobody_is_asked_where_nobody_is(asking: AskingPolicy) -> None:
    assert asking.by_ring((), 0.0) == (LINGER,)
    assert asking.everyone((), 0.0) == (LINGER,)


def test_peers_get_as_long_again_as_the_first_answer_took() -> None:
    assert grace_s(0.03) == 0.03
    assert grace_s(0.0) == GRACE_LEAST_S
