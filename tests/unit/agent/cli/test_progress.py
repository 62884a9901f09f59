"""How far a command is."""

import io
import threading
import time

import pytest

from agent.cli.progress import Course, shown


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _wait_for(stream: io.StringIO, text: str) -> None:
    ended_s = time.monotonic() + 60
    while text not in stream.getvalue():
        assert time.monotonic() < ended_s, stream.getvalue()
        threading.Event().wait(0.02)


def test_estimate_follows_what_is_done() -> None:
    clock = _Clock()
    course = Course("pull", clock=clock)
    clock.now_s += 30
    course.step("layers", 0.25)
    assert course.left_s == pytest.approx(90)
    assert course.words == "pull: layers, 25 %, 30 s so far, about 90 s left"


def test_estimate_by_the_usual_time_where_nobody_knows_how_much_is_done() -> None:
    clock = _Clock()
    course = Course("bench", about_s=300, clock=clock)
    clock.now_s += 60
    course.step("latency")
    assert course.words == "bench: latency, 20 %, 60 s so far, about 4 min left"
    clock.now_s += 300
    assert course.words == "bench: latency, 99 %, 6 min so far, longer than the usual 5 min"


def test_nothing_is_guessed_where_nothing_is_known() -> None:
    clock = _Clock()
    course = Course("wait", clock=clock)
    clock.now_s += 5
    assert (course.left_s, course.done, course.words) == (None, None, "wait, 5 s so far")


def test_estimate_says_nothing_before_there_is_anything_to_say() -> None:
    clock = _Clock()
    course = Course("pull", clock=clock)
    course.step("", 0.5)
    clock.now_s += 0.5
    assert course.left_s is None


@pytest.mark.parametrize(("share", "done"), [(-1.0, 0.0), (0.0, 0.0), (2.0, 1.0)])
def test_share_stays_within_its_bounds(share: float, done: float) -> None:
    course = Course("pull", clock=_Clock())
    course.step("", share)
    assert course.done == done


def test_what_is_done_at_once_shows_nothing() -> None:
    for stream in (io.StringIO(), _Terminal()):
        with shown(Course("quick", about_s=1), stream):
            pass
        assert stream.getvalue() == ""


def test_a_pipe_gets_whole_lines_without_colours_after_two_seconds() -> None:
    stream = io.StringIO()
    with shown(Course("pull", about_s=100), stream) as course:
        course.step("layer [1] of 3")
        _wait_for(stream, "\n")
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("pull: layer [1] of 3, 2 %, 2 s so far, about 98 s left")
    assert "\x1b" not in line


def test_a_terminal_gets_a_bar_that_goes_away_and_no_colour_with_no_color(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = _Terminal()
    with shown(Course("pull", about_s=100), stream) as course:
        course.step("layer [1] of 3")
        _wait_for(stream, "so far")
    text = stream.getvalue()
    assert "pull: layer [1] of 3" in text
    assert "\x1b[3" not in text  # no colour
    assert text.rstrip().endswith("\x1b[2K")  # the bar's line is erased


def test_a_terminal_that_cant_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = _Terminal()
    with shown(Course("pull"), stream):
        _wait_for(stream, "so far\n")
    assert "\x1b" not in stream.getvalue()
