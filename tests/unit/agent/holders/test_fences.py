"""What a node makes of another one's fence, and what it tells of its own."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.holders.claims import DONE_S, LEASE_S
from agent.holders.fences import (
    TAKEN_OVER_MAX,
    Fence,
    FenceState,
    FenceWatch,
    KeptFence,
    Next,
    Say,
    decode,
)
from tests.unit.twins import node

START_S = 5.0
OTHER = Fence(node=node("other"), number=7)
OWN = Fence(node=node("own"), number=9)


def watch(*, beyond_bytes: int = 0, usable: bool = True) -> FenceWatch:
    return FenceWatch(beyond_bytes=beyond_bytes, usable=lambda _: usable, start_s=START_S)


@given(
    name=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?", fullmatch=True),
    number=st.integers(1, 1 << 62),
    available=st.integers(0, 1 << 62),
    state=st.sampled_from(FenceState),
)
def test_what_the_server_keeps_is_read_as_it_was_written(
    name: str, number: int, available: int, state: FenceState
) -> None:
    fence = Fence(node=node(name), number=number, available_bytes=available, state=state)
    assert decode(fence.encode()) == fence
    assert fence.encode().startswith(fence.owner)


@given(value=st.binary(max_size=400))
def test_whatever_a_server_says_is_a_fence_or_none(value: bytes) -> None:
    fence = decode(value)
    assert fence is None or decode(fence.encode()) == fence


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"other",
        b"other 7 0",
        b"other 7 0 x",
        b"other 0 0 f",
        b"other -7 0 f",
        b"other 7 -1 f",
        b"other 7 99999999999999999999999 f",
        b" 7 0 f",
        b"other seven 0 f",
        b"\xff\xfe 7 0 f",
        b"a b 7 0 f",
        b"x" * 300 + b" 7 0 f",
        b"other 7 0 f\n" * 100,
    ],
)
def test_what_no_agent_wrote_is_no_fence(value: bytes) -> None:
    assert decode(value) is None


def test_number_of_one_node_is_no_beginning_of_another_number() -> None:
    assert not replace(OTHER, number=71).encode().startswith(OTHER.owner)


def test_fence_lives_as_long_as_a_claim_and_a_complete_one_as_long_as_it_is_told_of() -> None:
    assert (OTHER.lease_s, replace(OTHER, state=FenceState.COMPLETE).lease_s) == (LEASE_S, DONE_S)


def test_node_that_has_more_than_is_needed_is_followed() -> None:
    assert watch().judge(replace(OTHER, available_bytes=1), 0.0) is Next.FOLLOW
    assert watch(beyond_bytes=5).judge(replace(OTHER, available_bytes=5), 0.0) is Next.WAIT
    complete = replace(OTHER, state=FenceState.COMPLETE)
    assert watch(beyond_bytes=5).judge(complete, 0.0) is Next.FOLLOW


def test_node_that_has_not_begun_is_waited_for_as_long_as_by_an_arbiter() -> None:
    looking = watch()
    assert [looking.judge(OTHER, at_s) for at_s in (0.0, 4.9, 5.0)] == [Next.WAIT, Next.WAIT, Next.TAKE_OVER]


def test_node_that_gets_on_is_waited_for_and_so_is_the_next_one() -> None:
    looking = watch(beyond_bytes=100)
    assert looking.judge(OTHER, 0.0) is Next.WAIT
    assert looking.judge(replace(OTHER, available_bytes=50), 4.0) is Next.WAIT
    assert looking.judge(replace(OTHER, available_bytes=50), 8.0) is Next.WAIT
    assert looking.judge(replace(OTHER, number=8), 8.9) is Next.WAIT
    assert looking.judge(replace(OTHER, number=8), 13.0) is Next.WAIT
    assert looking.judge(replace(OTHER, number=8), 14.0) is Next.TAKE_OVER


def test_node_whose_containerd_is_busy_is_waited_for_and_not_for_ever() -> None:
    looking, queued = watch(), replace(OTHER, state=FenceState.QUEUED)
    verdicts = [looking.judge(queued, float(at_s)) for at_s in range(60)]
    assert verdicts[:40] == [Next.WAIT] * 40
    assert verdicts[-1] is not Next.WAIT


def test_node_that_can_not_be_followed_is_not_waited_for() -> None:
    assert watch(usable=False).judge(replace(OTHER, available_bytes=9), 0.0) is Next.TAKE_OVER


def test_server_that_goes_on_saying_so_is_not_believed() -> None:
    looking = watch(usable=False)
    verdicts = [looking.judge(OTHER, 0.0) for _ in range(TAKEN_OVER_MAX + 2)]
    assert verdicts == [Next.TAKE_OVER] * TAKEN_OVER_MAX + [Next.IGNORE] * 2


@given(
    seen=st.lists(
        st.tuples(
            st.floats(0, 3),
            st.sampled_from(["a", "b"]),
            st.integers(1, 3),
            st.integers(0, 10),
            st.sampled_from(FenceState),
        ),
        max_size=60,
    )
)
def test_one_fence_without_progress_is_never_waited_for_longer_than_a_queue_may_take(
    seen: list[tuple[float, str, int, int, FenceState]],
) -> None:
    looking, now_s, waits_since_s = watch(beyond_bytes=10), 0.0, dict[tuple[str, int, int], float]()
    for pause_s, name, number, available, state in seen:
        now_s += pause_s
        fence = Fence(node=node(name), number=number, available_bytes=available, state=state)
        if looking.judge(fence, now_s) is Next.WAIT:
            since_s = waits_since_s.setdefault((name, number, available), now_s)
            if len({*waits_since_s}) == 1:
                assert now_s - since_s <= 9 * START_S
        else:
            waits_since_s.clear()


def kept(*, used_s: float | None = 0.0, available_bytes: int = 0) -> KeptFence:
    fence = replace(OWN, available_bytes=available_bytes)
    return KeptFence(fence=fence, grew_s=0.0, told_s=0.0, pulls=0 if used_s is not None else 1, used_s=used_s)


def look(
    fence: KeptFence, available_bytes: int | None, now_s: float, *, held: bool = False, queued: bool = False
) -> Say:
    return fence.look(available_bytes, now_s, held=held, queued=queued, start_s=START_S)


def test_first_bytes_are_told_at_once_and_the_rest_once_a_second() -> None:
    fence = kept()
    assert look(fence, 0, 0.5) is Say.NOTHING
    assert look(fence, 10, 0.6) is Say.RENEW
    assert look(fence, 20, 1.0) is Say.NOTHING
    assert look(fence, 30, 1.6) is Say.RENEW
    assert fence.fence == replace(OWN, available_bytes=30)


def test_content_that_is_there_is_told_of_as_complete() -> None:
    fence = kept()
    assert look(fence, None, 0.1, held=True) is Say.RENEW
    assert fence.fence.state is FenceState.COMPLETE


def test_fence_that_nobody_needs_is_dropped() -> None:
    fence = kept(used_s=None)
    assert look(fence, None, 0.1) is Say.NOTHING
    fence.pulls = 0
    assert look(fence, None, 0.2) is Say.DROP


def test_fetch_that_ended_without_the_content_is_dropped_and_a_commit_is_given_a_moment() -> None:
    fence = kept(available_bytes=10)
    assert [look(fence, None, at_s) for at_s in (0.2, 0.9)] == [Say.NOTHING, Say.NOTHING]
    assert look(fence, 10, 1.1) is Say.RENEW
    assert [look(fence, None, at_s) for at_s in (1.2, 2.2)] == [Say.NOTHING, Say.DROP]


def test_fetch_that_does_not_begin_makes_way_for_the_next_node_and_comes_back_when_it_does() -> None:
    fence = kept()
    for at_s in range(1, 5):
        assert look(fence, 0, float(at_s)) is Say.RENEW
    assert look(fence, 0, 5.0) is Say.LAPSE
    assert look(fence, 0, 6.0) is Say.NOTHING
    assert look(fence, 1, 7.0) is Say.RENEW


def test_fetch_that_stalls_makes_way_later_because_a_slow_registry_is_worth_it() -> None:
    fence = kept()
    look(fence, 10, 0.1)
    assert look(fence, 10, 15.0) is Say.RENEW
    assert look(fence, 10, 15.2) is Say.LAPSE


def test_fetch_that_waits_for_others_of_this_node_is_renewed_as_queued() -> None:
    fence = kept()
    assert look(fence, 0, 6.0, queued=True) is Say.RENEW
    assert fence.fence == replace(OWN, state=FenceState.QUEUED)
    assert look(fence, 1, 6.1, queued=True) is Say.RENEW
    assert fence.fence == replace(OWN, available_bytes=1)


def test_what_its_owner_left_behind_is_dropped() -> None:
    fence = kept()
    look(fence, 10, 0.1)
    assert look(fence, 10, 60.2) is Say.DROP
