"""Frames as a browser reads them; a slow tab loses them, and is given the whole picture again."""

import pytest

from agent.admin.frames import FRAMES_MAX, WAITING_MAX_BYTES, WRITE_BYTES, Waiting, frame, opening


def given(*frames: bytes) -> Waiting:
    """A tab that was given the whole picture."""
    waiting = Waiting()
    waiting.give_whole(frames)
    return waiting


def test_frame_has_number_name_and_one_line_of_data() -> None:
    assert frame("map", 7, b'{"a": 1}') == b'id: 7\nevent: map\ndata: {"a": 1}\n\n'


def test_browser_is_told_when_to_connect_again() -> None:
    assert opening() == b"retry: 2000\n\n"


def test_tab_that_came_wants_the_whole_picture_before_any_news() -> None:
    waiting = Waiting()
    waiting.give(b"news")
    assert waiting.wants_whole
    assert waiting.take() == b""


def test_frames_come_in_their_order_and_small_ones_together() -> None:
    waiting = given(b"hello", b"map")
    waiting.give(b"news")
    assert waiting.take() == b"hellomapnews"
    assert waiting.take() == b""


def test_large_frame_is_sent_alone() -> None:
    large = b"x" * (WRITE_BYTES + 1)
    waiting = given(b"hello", large, b"news")
    assert [waiting.take() for _ in range(3)] == [b"hello", large, b"news"]


@pytest.mark.parametrize(
    ("one", "count"), [(b"x", FRAMES_MAX + 1), (b"x" * 65_536, WAITING_MAX_BYTES // 65_536 + 1)]
)
def test_tab_that_is_too_slow_loses_what_waits_and_wants_the_whole_picture(one: bytes, count: int) -> None:
    waiting = given()
    for _ in range(count):
        waiting.give(one)
    assert (len(waiting), waiting.is_whole, waiting.wants_whole, waiting.lost) == (0, False, True, 1)


def test_slow_tab_is_given_nothing_until_it_has_the_whole_picture_again() -> None:
    waiting = given()
    for _ in range(FRAMES_MAX + 1):
        waiting.give(b"x")
    waiting.give(b"later")
    waiting.give_whole((b"hello",))
    waiting.give(b"news")
    assert waiting.take() == b"hellonews"


def test_picture_that_is_larger_than_what_may_wait_is_given_all_the_same() -> None:
    large = b"x" * (2 * WAITING_MAX_BYTES)
    assert given(large).take() == large


def test_news_that_do_not_fit_behind_a_large_picture_are_lost_and_the_picture_is_not_sent() -> None:
    waiting = given(b"x" * (2 * WAITING_MAX_BYTES))
    waiting.give(b"news")
    assert waiting.wants_whole
