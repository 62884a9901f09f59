"""Who is asked when, and how long peers are waited for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pytest

from agent.pull.asking import NOBODY, Asked, AskingPolicy, Awaited, Step
from agent.pull.regard import PeerFailure, Regard
from tests.unit.twins import node
from topology.placement import NodeName

PATIENCE_S, TIMEOUT_S = 0.05, 0.5


@dataclass(frozen=True)
class Someone:
    name: NodeName


A, B, C, D = EVERYONE = tuple(Someone(node(name)) for name in "abcd")
RINGS = ((A, B), (C,), (D,))
RING_OF = {A: 0, B: 0, C: 1, D: 2}
LINGER: Step[Someone] = Step(asked=(), wait_s=TIMEOUT_S)


@pytest.fixture
def regard() -> Regard:
    made = Regard(cooloff_s=5.0)
    made.members_changed(one.name for one in EVERYONE)
    return made


def policy(regard: Regard, at_once: int = 64) -> AskingPolicy:
    return AskingPolicy(regard=regard, at_once=at_once, patience_s=PATIENCE_S, timeout_s=TIMEOUT_S)


@pytest.fixture
def asking(regard: Regard) -> AskingPolicy:
    return policy(regard)


def asked(*peers: Someone) -> tuple[Asked[Someone], ...]:
    return tuple(
        Asked(peer=peer, ring=RING_OF[peer], deadline_s=TIMEOUT_S, late_s=PATIENCE_S) for peer in peers
    )


def briefly(*peers: Someone) -> tuple[Asked[Someone], ...]:
    return tuple(Asked(peer=peer, ring=RING_OF[peer], deadline_s=PATIENCE_S, late_s=0.0) for peer in peers)


def step(*peers: Asked[Someone]) -> Step[Someone]:
    return Step(asked=peers, wait_s=PATIENCE_S)


def late_s(asking: AskingPolicy, peer: Someone) -> float:
    """How long a farther holder waits for this peer."""
    (first, *_) = asking.nearest_first(RINGS, 0.0)
    return next(one.late_s for one in first.asked if one.peer == peer)


def test_all_are_asked_at_once_the_nearest_first(asking: AskingPolicy) -> None:
    assert (*asking.nearest_first(RINGS, 0.0),) == (step(*asked(A, B, C, D)), LINGER)


@pytest.mark.parametrize(
    ("at_once", "groups"),
    [(1, [[A], [B], [C], [D]]), (2, [[A, B], [C], [D]]), (3, [[A, B, C], [D]]), (4, [[A, B, C, D]])],
)
def test_rings_follow_one_after_another_beyond_the_number_that_is_asked_at_once(
    regard: Regard, at_once: int, groups: list[list[Someone]]
) -> None:
    steps = (*policy(regard, at_once).nearest_first(RINGS, 0.0),)
    assert steps == (*(step(*asked(*group)) for group in groups), LINGER)


def test_cooling_peers_are_asked_after_all_others_and_briefly(asking: AskingPolicy, regard: Regard) -> None:
    for peer in (C, B):
        regard.failed(peer.name, 0.0)
    assert (*asking.nearest_first(RINGS, 1.0),) == (step(*asked(A, D), *briefly(B, C)), LINGER)
    assert (*asking.nearest_first(RINGS, 5.0),) == (step(*asked(A, B, C, D)), LINGER)


def test_cooling_peers_beyond_the_number_that_is_asked_at_once_are_the_last_resort(regard: Regard) -> None:
    for peer in (A, B):
        regard.failed(peer.name, 0.0)
    steps = (*policy(regard, 3).nearest_first(RINGS, 1.0),)
    assert steps == (step(*asked(C, D), *briefly(A)), LINGER, step(*briefly(B)))
    steps = (*policy(regard, 1).nearest_first(RINGS, 1.0),)
    assert steps == (step(*asked(C)), step(*asked(D)), LINGER, step(*briefly(A, B)))


def test_everyone_is_asked_at_once_and_cooling_peers_briefly(asking: AskingPolicy, regard: Regard) -> None:
    regard.failed(A.name, 0.0)
    assert asking.everyone(RINGS, 1.0) == (Step(asked=(*asked(B, C, D), *briefly(A)), wait_s=TIMEOUT_S),)


def test_everyone_is_everyone_whatever_the_number_that_is_asked_at_once(regard: Regard) -> None:
    (only,) = policy(regard, 1).everyone(RINGS, 0.0)
    assert only.asked == asked(A, B, C, D)


def test_peer_that_does_not_reply_cools_off(asking: AskingPolicy, regard: Regard) -> None:
    asking.unanswered(D.name, "no reply", 0.0)
    assert regard.is_cooling(D.name, 1.0)


@pytest.mark.parametrize("busy", [True, False])
def test_peer_that_refuses_a_question_is_alive_and_cools_off_unless_it_is_busy(
    asking: AskingPolicy, regard: Regard, busy: bool
) -> None:
    asking.refused(D.name, "status 503", 0.0, busy=busy)
    assert regard.is_cooling(D.name, 1.0) is not busy
    assert regard.failure(D.name) == PeerFailure(words="status 503", at_s=0.0)
    assert regard.silence(D.name) is None


def test_first_step_costs_nothing_for_the_peers_of_the_steps_after_it(regard: Regard) -> None:
    seen: list[Someone] = []

    def looked_at(ring: tuple[Someone, ...]) -> Iterator[Someone]:
        for one in ring:
            seen.append(one)
            yield one

    rings = cast(tuple[tuple[Someone, ...], ...], [looked_at(ring) for ring in RINGS])
    assert next(policy(regard, 2).nearest_first(rings, 0.0)) == step(*asked(A, B))
    assert seen == [A, B]


def test_nobody_is_asked_where_nobody_is(asking: AskingPolicy) -> None:
    assert (*asking.nearest_first((), 0.0),) == (LINGER,)
    assert asking.everyone((), 0.0) == (Step(asked=(), wait_s=TIMEOUT_S),)


def test_peer_is_waited_for_as_long_as_it_usually_takes(asking: AskingPolicy) -> None:
    assert late_s(asking, A) == PATIENCE_S, "nothing is known of it"
    for _ in range(50):
        asking.replied(A.name, 0.020, 0.0)
    assert late_s(asking, A) == pytest.approx(0.020, rel=0.01)
    assert late_s(asking, B) == PATIENCE_S


def test_wait_for_a_peer_has_bounds_and_follows_its_spread(asking: AskingPolicy) -> None:
    for _ in range(50):
        asking.replied(A.name, 0.0001, 0.0)
        asking.replied(B.name, 3.0, 0.0)
    for took_s in (0.005, 0.015) * 25:
        asking.replied(C.name, took_s, 0.0)
    assert (late_s(asking, A), late_s(asking, B)) == (0.005, PATIENCE_S)
    assert 0.020 < late_s(asking, C) < 0.045


def test_usual_time_of_a_peer_that_left_is_forgotten(asking: AskingPolicy) -> None:
    asking.replied(A.name, 0.010, 0.0)
    asking.replied(B.name, 0.010, 0.0)
    asking.members_changed([B.name])
    assert late_s(asking, A) == PATIENCE_S
    assert late_s(asking, B) < PATIENCE_S


def test_nearest_peer_that_is_waited_for_changes_as_peers_reply_or_become_late() -> None:
    awaited = Awaited()
    assert awaited.nearest(0.0) == NOBODY
    assert awaited.next_late_s(0.0) is None
    one, two, three = (
        Asked(peer=peer, ring=ring, deadline_s=9.0, late_s=late_s)
        for peer, ring, late_s in ((A, 0, 0.5), (C, 1, 0.25), (D, 2, 0.75))
    )
    awaited.add([one, two], 1.0)
    awaited.add([three], 2.0)
    assert (awaited.nearest(1.0), awaited.next_late_s(1.0)) == (0, 1.25)
    assert (awaited.nearest(1.25), awaited.next_late_s(1.25)) == (0, 1.5)
    assert (awaited.nearest(1.5), awaited.next_late_s(1.5)) == (2, 2.75)
    awaited.ended(D.name)
    assert (awaited.nearest(1.5), awaited.next_late_s(1.5)) == (NOBODY, None)
    assert set(awaited.rings) == {A.name, C.name}, "late, but their replies still count"


def test_equal_peers_get_as_long_again_as_the_first_answer_took() -> None:
    awaited = Awaited()
    near, equal, far = (
        Asked(peer=peer, ring=ring, deadline_s=9.0, late_s=8.0) for peer, ring in ((A, 0), (C, 1), (D, 2))
    )
    awaited.add([near, equal, far], 1.0)
    awaited.answered(1, 0.5, 1.5)
    assert awaited.nearest(1.75) == 0
    awaited.ended(A.name)
    assert awaited.nearest(1.75) == 1
    assert awaited.nearest(2.0) == 2, "the farther one, which does not matter"


def test_equal_peers_get_at_least_their_usual_time_from_a_patient_asker() -> None:
    awaited = Awaited(patient=True)
    usual, late = (
        Asked(peer=peer, ring=0, deadline_s=9.0, late_s=late_s) for peer, late_s in ((A, 2.0), (B, 0.25))
    )
    awaited.add([usual, late], 1.0)
    awaited.answered(0, 0.5, 1.5)
    assert awaited.late_at_s == {A.name: 3.0, B.name: 2.0}


def test_nearer_peers_are_not_late_as_long_as_a_farther_one_was_as_slow() -> None:
    awaited = Awaited()
    near, far = (Asked(peer=peer, ring=ring, deadline_s=9.0, late_s=0.25) for peer, ring in ((A, 0), (C, 1)))
    awaited.add([near, far], 1.0)
    awaited.ended(C.name)
    awaited.answered(1, 2.0, 3.0)
    assert awaited.nearest(4.0) == 0
    assert awaited.nearest(5.0) == NOBODY
