"""Agents that vanish together are kept for a while; one that vanishes alone, or stops, is not."""

from agent.members.kubernetes.departures import KEPT_S, TOGETHER_S, Departures
from tests.unit.twins import node

NAMES = [node(f"n{number}") for number in range(10)]


def departed(number: int, *, listed: int, at_s: float = 0.0) -> Departures[str]:
    made: Departures[str] = Departures()
    for name in NAMES[:number]:
        made.vanished(name, "agent", at_s)
    made.look(listed, at_s)
    return made


def test_less_than_half_or_a_single_agent_go_at_once() -> None:
    assert not departed(4, listed=6).kept
    assert not departed(1, listed=0).kept


def test_more_than_half_are_kept_and_go_when_the_time_is_over() -> None:
    made = departed(6, listed=4)
    assert set(made.kept) == set(NAMES[:6])
    assert made.agent(NAMES[0]) == "agent"
    assert made.agent(NAMES[6]) is None
    assert not made.look(4, KEPT_S - 1)
    assert made.look(4, KEPT_S) == set(NAMES[:6])
    assert not made.kept


def test_agents_that_vanish_slice_by_slice_are_all_kept() -> None:
    made: Departures[str] = Departures()
    for number, name in enumerate(NAMES[:8]):
        made.vanished(name, "agent", number * 5.0)
        made.look(9 - number, number * 5.0)
    assert set(made.kept) == set(NAMES[:8])


def test_agents_that_vanish_far_apart_do_not_vanish_together() -> None:
    made: Departures[str] = Departures()
    for number, name in enumerate(NAMES[:9]):
        now_s = number * (TOGETHER_S + 1)
        made.vanished(name, "agent", now_s)
        made.look(9 - number, now_s)
    assert not made.kept


def test_agent_that_comes_back_or_is_said_to_stop_is_kept_no_more() -> None:
    made = departed(6, listed=4)
    assert made.forget(NAMES[0])
    assert NAMES[0] not in made.kept
    assert not made.forget(NAMES[9])


def test_agent_that_is_heard_is_kept_longer() -> None:
    made = departed(6, listed=4)
    made.heard(NAMES[0], KEPT_S - 1)
    made.look(4, KEPT_S)
    assert set(made.kept) == {NAMES[0]}
    made.heard(NAMES[9], KEPT_S)  # not one of them
    assert set(made.kept) == {NAMES[0]}
