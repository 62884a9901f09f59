"""Waits: longer after each failure, spread over the agents, and never none for a server that ends every
watch.

"""

import random

import pytest

from agent.members.kubernetes.pacing import (
    BRIEF_LONGEST_S,
    BRIEF_S,
    BRIEF_SOON_S,
    LONGEST_S,
    SPREAD_MAX_S,
    Pacing,
)


def pacing(agents: int = 3) -> Pacing:
    return Pacing(agents=lambda: agents, chance=random.Random(1).uniform)


def test_failures_are_repeated_at_growing_intervals_up_to_a_minute() -> None:
    made = pacing()
    waits = [made.failed() for _ in range(20)]
    assert all(wait > 0 for wait in waits)
    assert waits[0] < 1.0
    assert max(waits) <= LONGEST_S + 1
    assert min(waits[10:]) >= LONGEST_S / 2


def test_server_says_when_to_come_back_but_not_in_a_year() -> None:
    made = pacing()
    assert made.failed(20.0) >= 10.0
    assert made.failed(1e9) <= LONGEST_S + 1


def test_watch_that_ends_after_minutes_is_resumed_at_once() -> None:
    made = pacing()
    assert all(made.ended(300.0) < 0.1 for _ in range(100))


@pytest.mark.parametrize(("agents", "longest_s"), [(3, BRIEF_SOON_S), (5000, BRIEF_LONGEST_S)])
def test_watches_that_end_every_second_are_resumed_more_rarely_the_more_agents_there_are(
    agents: int, longest_s: float
) -> None:
    made = pacing(agents)
    waits = [made.ended(1.0) for _ in range(20)]
    assert all(wait >= 0.25 for wait in waits)
    assert longest_s / 2 <= min(waits[10:]) <= max(waits) <= longest_s
    made.ended(BRIEF_S)
    assert made.ended(1.0) <= 0.5  # all is well again


def test_five_thousand_agents_come_back_spread_over_time() -> None:
    resumes = sorted(pacing_of(number).failed() for number in range(5000))
    assert most_in_a_second(resumes) <= 800
    relists = sorted(pacing_of(number).expired() for number in range(5000))
    assert most_in_a_second(relists) <= 200
    assert relists[-1] <= SPREAD_MAX_S


def test_server_that_forgets_each_version_at_once_is_not_asked_for_a_list_each_time() -> None:
    made = pacing()
    waits = [made.expired() for _ in range(20)]
    assert waits[0] < 0.1
    assert min(waits[10:]) >= 30.0


def pacing_of(seed: int) -> Pacing:
    return Pacing(agents=lambda: 5000, chance=random.Random(seed).uniform)


def most_in_a_second(waits: list[float]) -> int:
    return max(sum(1 for wait in waits if start <= wait < start + 1) for start in range(int(waits[-1]) + 1))
