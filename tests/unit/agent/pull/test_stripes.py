"""Which part each of several holders fetches: every byte once, in order, and without a deadlock."""

import random

from hypothesis import given
from hypothesis import strategies as st

from agent.pull.stripes import Segment, Stripes
from tests.unit.twins import node

A, B, C = (node(name) for name in "abc")
SEGMENT = 100


def bounds(segment: Segment | None) -> tuple[int, int]:
    assert segment is not None
    return segment.start, segment.stop


def test_segments_are_taken_in_order_and_the_last_one_is_shorter() -> None:
    stripes = Stripes(50, 300, segment_bytes=SEGMENT)
    taken = [bounds(stripes.next_segment(name, room=True)) for name in (A, B, C)]
    assert taken == [(50, 150), (150, 250), (250, 300)]
    assert stripes.next_segment(A, room=True) is None
    assert not stripes.done


def test_nothing_to_fetch_is_done_at_once() -> None:
    stripes = Stripes(50, 50, segment_bytes=SEGMENT)
    assert stripes.done
    assert stripes.head is None
    assert stripes.next_segment(A, room=True) is None


def test_without_room_nothing_new_is_begun() -> None:
    stripes = Stripes(0, 300, segment_bytes=SEGMENT)
    assert stripes.next_segment(A, room=False) is None
    first = stripes.next_segment(A, room=True)
    assert bounds(first) == (0, 100)
    assert stripes.head is first
    assert stripes.next_segment(B, room=False) is None
    assert stripes.delivered() is first
    assert bounds(stripes.next_segment(B, room=True)) == (100, 200)


def test_what_a_holder_leaves_is_taken_before_anything_new_and_needs_no_room() -> None:
    stripes = Stripes(0, 1000, segment_bytes=SEGMENT)
    left = stripes.next_segment(A, room=True)
    stripes.next_segment(B, room=True)
    assert left is not None
    left.received_bytes = 30
    stripes.leave(A)
    assert stripes.next_segment(C, room=False) is left
    assert (left.owner, left.received_bytes) == (C, 30)


def test_whole_segment_of_one_that_left_is_not_fetched_again() -> None:
    stripes = Stripes(0, 200, segment_bytes=SEGMENT)
    whole = stripes.next_segment(A, room=True)
    assert whole is not None
    whole.received_bytes = SEGMENT
    assert whole.whole
    stripes.leave(A)
    assert bounds(stripes.next_segment(B, room=True)) == (100, 200)


def test_after_finish_no_segment_is_begun_and_what_is_pending_is_the_last() -> None:
    stripes = Stripes(0, 1000, segment_bytes=SEGMENT)
    stripes.next_segment(A, room=True)
    stripes.next_segment(B, room=True)
    stripes.finish()
    assert stripes.next_segment(C, room=True) is None
    stripes.leave(B)
    assert bounds(stripes.next_segment(C, room=True)) == (100, 200)
    assert [bounds(stripes.delivered()) for _ in range(2)] == [(0, 100), (100, 200)]
    assert stripes.done


@given(
    start=st.integers(0, 10_000),
    length=st.integers(0, 2_000),
    buffers=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_everything_is_delivered_once_and_in_order_whoever_comes_and_goes(
    start: int, length: int, buffers: int, seed: int
) -> None:
    """Lanes that fetch at different speeds and leave at any time; at most ``buffers`` segments ahead."""
    dice = random.Random(seed)
    stripes = Stripes(start, start + length, segment_bytes=SEGMENT)
    busy: dict[str, Segment] = {}
    position = start
    for _ in range(5_000):
        if stripes.done:
            break
        lane = node(dice.choice("abcd"))
        if lane in busy:
            segment = busy[lane]
            if dice.random() < 0.05:
                stripes.leave(lane)
                del busy[lane]
                continue
            segment.received_bytes += dice.randint(1, segment.length - segment.received_bytes)
            if segment.whole:
                del busy[lane]
        else:
            taken = stripes.next_segment(lane, room=len(stripes.pending) < buffers)
            if taken is not None:
                assert taken.owner == lane
                assert taken not in busy.values(), "two fetch one segment"
                busy[lane] = taken
        assert len(stripes.pending) <= buffers
        while stripes.head is not None and stripes.head.whole:
            segment = stripes.delivered()
            assert segment.start == position
            position = segment.stop
    assert stripes.done
    assert position == start + length
