"""When a follower was left behind."""

import pytest

from agent.pull.events import Neighbours
from agent.pull.meter import Rate
from agent.pull.straggling import Straggling, may_straggle

MIB = 1 << 20
LOOKED = Straggling().looked(0.0)


@pytest.mark.parametrize(
    ("complete", "arriving", "left"),
    [(0, 0, False), (1, 0, True), (1, 2, False), (3, 3, True), (64, 400, False), (64, 20, True)],
)
def test_follower_is_left_behind_once_as_many_of_its_zone_are_complete_as_still_fetch_it(
    complete: int, arriving: int, *, left: bool
) -> None:
    assert LOOKED.answered(Neighbours(complete, arriving)).is_left_behind is left


@pytest.mark.parametrize(
    ("rate_bytes_per_s", "over_s", "left_bytes", "worth"),
    [(MIB, 3.0, 10 * MIB, True), (MIB, 0.5, 10 * MIB, False), (MIB, 3.0, MIB, False), (0, 3.0, 1, True)],
)
def test_change_is_worth_it_only_for_a_long_rest(
    rate_bytes_per_s: float, over_s: float, left_bytes: int, *, worth: bool
) -> None:
    rate = Rate(bytes_per_s=rate_bytes_per_s, over_s=over_s, source_bound=True)
    assert may_straggle(rate, left_bytes) is worth


def test_pauses_between_look_ups_grow_to_a_quarter_of_a_minute() -> None:
    straggling, now_s, times_s = Straggling(), 0.0, []
    for _ in range(8):
        straggling = straggling.looked(now_s)
        times_s.append(straggling.next_s - now_s)
        now_s = straggling.next_s
    assert times_s == [1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0, 16.0]


def test_only_the_answer_to_a_look_up_of_its_own_counts() -> None:
    done = Neighbours(9, 0)
    assert not Straggling().answered(done).is_left_behind
    assert not LOOKED.answered(None).is_left_behind
    assert not LOOKED.answered(done).judged().is_left_behind
    assert LOOKED.answered(done).answered(None).is_left_behind
