"""When the server is asked again, by one agent and by thousands."""

import random

import pytest

from agent.holders.valkey.pacing import Breaker, Pacing


def pacing(members: int, *, tls: bool = False, seed: int = 0) -> Pacing:
    return Pacing(members=lambda: members, tls=tls, chance=random.Random(seed).uniform)


@pytest.mark.parametrize(("tls", "a_second"), [(False, 2000), (True, 500)])
@pytest.mark.parametrize("members", [200, 5000, 10_000])
def test_agents_that_lost_the_server_come_back_at_a_bounded_rate(
    tls: bool, a_second: int, members: int
) -> None:
    at_s = sorted(pacing(members, tls=tls, seed=each).first_s() for each in range(members))
    window_s = max(members / a_second, 0.01)
    in_each = [sum(1 for each in at_s if s <= each < s + window_s / 4) for s in (0, window_s / 2)]
    assert max(in_each) <= 0.35 * members  # a quarter, and what chance adds
    assert at_s[-1] <= window_s


def test_small_cluster_comes_back_at_once_and_asks_each_second() -> None:
    small = pacing(3)
    assert small.first_s() < 0.02
    assert all(0.5 <= small.next_s() <= 1.5 for _ in range(100))


def test_large_cluster_asks_a_server_that_fails_less_often_and_never_less_than_each_minute() -> None:
    assert all(10 <= pacing(10_000, tls=True, seed=each).next_s() <= 30 for each in range(100))
    assert pacing(10_000_000).spread_s == 30


@pytest.mark.parametrize(("members", "mean_s"), [(3, 10), (2500, 10), (5000, 20), (10_000, 40)])
def test_all_agents_together_look_at_a_server_that_works_at_a_bounded_rate(
    members: int, mean_s: float
) -> None:
    waits_s = [pacing(members, seed=each).look_s() for each in range(500)]
    assert 0.5 * mean_s <= min(waits_s) <= max(waits_s) <= 1.5 * mean_s


@pytest.mark.parametrize(("members", "tls"), [(3, False), (5000, False), (5000, True)])
def test_server_has_caught_up_only_after_every_agent_was_back_and_told_a_change(
    members: int, tls: bool
) -> None:
    for seed in range(200):
        agent = pacing(members, tls=tls, seed=seed)
        assert agent.next_s() + agent.first_s() + 2.0 < agent.caught_up_s


def test_breaker_closes_after_two_good_answers_in_a_row_and_opens_at_the_first_bad_one() -> None:
    breaker = Breaker()
    assert not breaker.is_closed
    for good, closed in (
        (True, False),
        (False, False),
        (True, False),
        (True, True),
        (True, True),
        (False, False),
    ):
        breaker.answered() if good else breaker.failed()
        assert breaker.is_closed == closed
