"""How long a peer that failed is left alone: twice as long after each failure in a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pull.cooloff import CoolOff
from tests.unit.twins import node

A, B = node("a"), node("b")
FIRST_S, MOST_S = 5.0, 80.0


@pytest.fixture
def cooloff() -> CoolOff:
    return CoolOff(first_s=FIRST_S, most_s=MOST_S)


def test_peer_that_never_failed_is_not_left_alone(cooloff: CoolOff) -> None:
    assert cooloff.left_s(A, 0.0) == 0.0
    assert list(cooloff.resting(0.0)) == []


def test_first_failure_costs_the_first_time(cooloff: CoolOff) -> None:
    cooloff.failed(A, 100.0)
    assert cooloff.left_s(A, 100.0) == 5.0
    assert cooloff.left_s(A, 104.0) == 1.0
    assert cooloff.left_s(A, 105.0) == 0.0
    assert cooloff.left_s(B, 100.0) == 0.0
    assert list(cooloff.resting(104.0)) == [A]
    assert list(cooloff.resting(105.0)) == []


def test_each_failure_after_a_rest_doubles_the_next_up_to_the_most(cooloff: CoolOff) -> None:
    now_s, rests_s = 0.0, []
    for _ in range(7):
        cooloff.failed(A, now_s)
        rests_s.append(cooloff.left_s(A, now_s))
        now_s += rests_s[-1]
    assert rests_s == [5.0, 10.0, 20.0, 40.0, 80.0, 80.0, 80.0]


def test_failures_during_a_rest_are_echoes_and_double_nothing(cooloff: CoolOff) -> None:
    for _ in range(50):
        cooloff.failed(A, 100.0)
    assert cooloff.left_s(A, 100.0) == 5.0
    cooloff.failed(A, 104.0)
    assert cooloff.left_s(A, 104.0) == 5.0, "but it is left alone for the first time from each of them"
    cooloff.failed(A, 109.0)
    assert cooloff.left_s(A, 109.0) == 10.0


def test_echo_never_shortens_a_rest(cooloff: CoolOff) -> None:
    cooloff.failed(A, 0.0)
    cooloff.failed(A, 5.0)
    cooloff.failed(A, 6.0)
    assert cooloff.left_s(A, 6.0) == 9.0


def test_peer_that_proved_to_be_well_starts_anew(cooloff: CoolOff) -> None:
    cooloff.failed(A, 0.0)
    cooloff.failed(A, 5.0)
    cooloff.succeeded(A)
    cooloff.succeeded(B)
    assert cooloff.left_s(A, 5.0) == 0.0
    cooloff.failed(A, 6.0)
    assert cooloff.left_s(A, 6.0) == FIRST_S


def test_failures_long_ago_do_not_count(cooloff: CoolOff) -> None:
    cooloff.failed(A, 0.0)
    cooloff.failed(A, 5.0 + MOST_S)
    assert cooloff.left_s(A, 5.0 + MOST_S) == FIRST_S


def test_members_that_left_are_forgotten(cooloff: CoolOff) -> None:
    cooloff.failed(A, 0.0)
    cooloff.failed(B, 0.0)
    cooloff.keep_only([B, node("c")])
    assert list(cooloff.resting(1.0)) == [B]


def test_most_below_the_first_counts_as_the_first() -> None:
    cooloff = CoolOff(first_s=5.0, most_s=1.0)
    cooloff.failed(A, 0.0)
    cooloff.failed(A, 5.0)
    assert cooloff.left_s(A, 5.0) == 5.0


def test_no_cool_off_at_all_if_there_is_none_to_be() -> None:
    cooloff = CoolOff(first_s=0.0, most_s=0.0)
    for now_s in (0.0, 0.0, 1.0):
        cooloff.failed(A, now_s)
        assert cooloff.left_s(A, now_s) == 0.0
        assert list(cooloff.resting(now_s)) == []


@given(failures=st.lists(st.tuples(st.floats(0.0, 200.0), st.booleans()), min_size=1, max_size=30))
def test_every_failure_leaves_a_peer_alone_for_the_first_time_at_least_and_the_most_at_most(
    failures: list[tuple[float, bool]],
) -> None:
    cooloff = CoolOff(first_s=FIRST_S, most_s=MOST_S)
    now_s = 0.0
    for after_s, well in failures:
        now_s += after_s
        if well:
            cooloff.succeeded(A)
            assert cooloff.left_s(A, now_s) == 0.0
        cooloff.failed(A, now_s)
        left_s = cooloff.left_s(A, now_s)
        assert left_s + 1e-9 >= FIRST_S
        assert left_s <= MOST_S + 1e-9
        assert (A in cooloff.resting(now_s)) == (left_s > 0)


def test_cool_off_that_a_failure_began_stays_the_same_while_it_lasts(cooloff: CoolOff) -> None:
    cooloff.failed(A, 100.0)
    assert [cooloff.of_failure_s(A, now_s) for now_s in (100.0, 104.0)] == [5.0, 5.0]
    cooloff.failed(A, 105.0)
    assert [cooloff.of_failure_s(A, now_s) for now_s in (105.0, 114.0)] == [10.0, 10.0]


def test_cool_off_of_a_peer_that_does_not_cool_off_is_what_a_failure_would_begin(cooloff: CoolOff) -> None:
    assert cooloff.of_failure_s(A, 0.0) == 5.0
    cooloff.failed(A, 0.0)
    assert cooloff.of_failure_s(A, 5.0) == 10.0
    assert cooloff.of_failure_s(A, 5.0 + MOST_S) == 5.0
    assert cooloff.left_s(A, 5.0) == 0.0, "asking changes nothing"


@given(failures_s=st.lists(st.floats(0.0, 200.0), max_size=8))
def test_cool_off_of_a_failure_is_what_is_left_at_once_after_it(failures_s: list[float]) -> None:
    cooloff = CoolOff(first_s=FIRST_S, most_s=MOST_S)
    for now_s in sorted(failures_s):
        cooloff.failed(A, now_s)
        assert cooloff.of_failure_s(A, now_s) == cooloff.left_s(A, now_s)
