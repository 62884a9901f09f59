"""Striping: when it is allowed, when it was useless, and which lane is given up."""

import pytest

from agent.pull.events import Limits
from agent.pull.meter import TICK_S
from agent.pull.striping import JUDGED_S, Gain, Striping, is_lagging

MIB = 1 << 20
ALONE_BYTES_PER_S = 100.0 * MIB


def test_striping_that_was_useless_is_not_tried_for_a_while() -> None:
    striping = Striping()
    assert striping.lanes_max(4, 100.0) == 4
    striping.was_useless(100.0)
    assert striping.lanes_max(4, 159.0) == 1
    assert striping.lanes_max(4, 160.0) == 4


@pytest.mark.parametrize(("free_segments", "lanes_max"), [(-1, 1), (0, 1), (1, 1), (2, 4), (9, 4)])
def test_body_is_striped_only_with_memory_for_two_segments(free_segments: int, lanes_max: int) -> None:
    assert Striping().lanes_max(free_segments, 0.0) == lanes_max


def judged(rate: float, *, over_s: float = JUDGED_S, held_s: float = 0.0, lane_failed: bool = False) -> bool:
    """Whether the gain is too small after ``over_s`` at a rate that is this many times that of one alone."""
    gain = Gain(100.0, sent_bytes=5, held_s=1.0, alone_bytes_per_s=ALONE_BYTES_PER_S)
    return gain.is_too_small(
        100.0 + over_s,
        sent_bytes=5 + round(rate * ALONE_BYTES_PER_S * over_s),
        held_s=1.0 + held_s,
        lane_failed=lane_failed,
    )


@pytest.mark.parametrize(("rate", "useless"), [(0.0, True), (1.0, True), (1.19, True), (1.21, False)])
def test_striping_is_useless_unless_it_is_a_fifth_faster_than_one_holder(rate: float, useless: bool) -> None:
    assert judged(rate) == useless


def test_gain_is_not_judged_too_early() -> None:
    assert not judged(0.0, over_s=JUDGED_S - 0.01)


@pytest.mark.parametrize(("held_s", "useless"), [(JUDGED_S / 2, True), (JUDGED_S / 2 + 0.01, False)])
def test_reader_that_is_slower_than_its_sources_is_no_evidence_against_striping(
    held_s: float, useless: bool
) -> None:
    assert judged(1.0, held_s=held_s) == useless


def test_lanes_beside_one_that_failed_are_no_evidence_against_striping() -> None:
    assert not judged(1.0, lane_failed=True)


def test_each_judgement_looks_at_the_time_since_the_one_before() -> None:
    gain = Gain(0.0, sent_bytes=0, held_s=0.0, alone_bytes_per_s=100.0)
    assert not gain.is_too_small(2.0, sent_bytes=1000, held_s=0.0, lane_failed=False)
    assert not gain.is_too_small(3.0, sent_bytes=1000, held_s=0.0, lane_failed=False)
    assert gain.is_too_small(4.0, sent_bytes=1000, held_s=0.0, lane_failed=False)


@pytest.mark.parametrize(
    ("bytes_per_s", "over_s", "lagging"),
    [(49.0, TICK_S, True), (50.0, TICK_S, False), (0.0, TICK_S - 0.01, False)],
)
def test_lane_is_dismissed_if_an_idle_one_is_more_than_twice_as_fast(
    bytes_per_s: float, over_s: float, lagging: bool
) -> None:
    assert is_lagging(bytes_per_s, 100.0, over_s=over_s) == lagging


@pytest.mark.parametrize(
    ("bytes_per_s", "over_s", "too_slow"), [(99.0, 3.0, True), (100.0, 3.0, False), (0.0, 2.9, False)]
)
def test_holder_below_the_floor_is_too_slow_once_it_was_so_for_the_stall_time(
    bytes_per_s: float, over_s: float, too_slow: bool
) -> None:
    limits = Limits(patience_s=0.5, deadline_s=10.0, attempts_max=1, stall_s=3.0, floor_bytes_per_s=100.0)
    assert limits.is_too_slow(bytes_per_s, over_s=over_s) == too_slow
