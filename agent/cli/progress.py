"""How far a command is, and about how long it will still take. On standard error.

On a terminal it is a bar. Elsewhere it is a line after two seconds and then every ten: a log stays readable.
Nothing is shown before two seconds, and nothing of what shows it is imported before. Colours follow NO_COLOR.
A terminal that can't move its cursor gets lines.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from agent.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

PROGRESS_VARIABLE = "SHORTHAUL_PROGRESS"
"""``off``: nothing is shown, for who reads every word on standard error."""

SHOWN_AFTER_S = 2.0
"""What is done within this time shows nothing."""

_LINE_EACH_S = 10.0
_BAR_EACH_S = 0.25
_EARLY_SHARE, _EARLY_S = 0.02, 1.0  # before that an estimate is a guess


@dataclass(slots=True)
class Course:
    """How far something is. ``about_s``: how long it takes as a rule; None: nobody knows.

    The clock is monotonic: a wall clock that jumps moves nothing.
    """

    name: str
    about_s: float | None = None
    clock: Callable[[], float] = time.monotonic
    doing: str = ""
    _share: float | None = None
    _began_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._began_s = self.clock()

    def step(self, doing: str, share: float | None = None) -> None:
        """Say what runs now. ``share``: how much of all is done, 0 to 1, if that is known."""
        self.doing = doing
        if share is not None:
            self._share = min(1.0, max(0.0, share))

    @property
    def taken_s(self) -> float:
        """Seconds since it began."""
        return self.clock() - self._began_s

    @property
    def left_s(self) -> float | None:
        """About how many seconds are left. None: it can't be said, or it takes longer than usual."""
        taken_s = self.taken_s
        if self._share is not None and self._share >= _EARLY_SHARE and taken_s >= _EARLY_S:
            return taken_s * (1 - self._share) / self._share
        if self.about_s is not None and taken_s < self.about_s:
            return self.about_s - taken_s
        return None

    @property
    def done(self) -> float | None:
        """How much is done, 0 to 1. By what is known, or else by the usual time. None: neither."""
        if self._share is not None:
            return self._share
        return None if self.about_s is None else min(0.99, self.taken_s / self.about_s)

    @property
    def words(self) -> str:
        """All of it in one line."""
        done = self.done
        parts = (
            f"{self.name}: {self.doing}" if self.doing else self.name,
            "" if done is None else f"{100 * done:.0f} %",
            f"{_duration(self.taken_s)} so far",
            self.left_words,
        )
        return ", ".join(filter(None, parts))

    @property
    def left_words(self) -> str:
        """The estimate in words."""
        left_s = self.left_s
        if left_s is not None:
            return f"about {_duration(left_s)} left"
        late = self._share is None and self.about_s is not None
        return f"longer than the usual {_duration(self.about_s or 0.0)}" if late else ""


@contextmanager
def shown(course: Course, stream: TextIO | None = None, *, redirects: bool = True) -> Iterator[Course]:
    """Show it for as long as the context lasts. ``stream``: None for standard error, if that is wanted.

    ``redirects``: what is printed meanwhile goes above the bar, where both are on the same terminal.
    """
    if stream is None and os.environ.get(PROGRESS_VARIABLE) == "off":
        yield course
        return
    ended = threading.Event()
    thread = threading.Thread(
        target=_show, args=(course, stream or sys.stderr, ended, redirects), name="progress", daemon=True
    )
    thread.start()
    try:
        yield course
    finally:
        ended.set()
        thread.join()


@contextmanager
def until_said(course: Course) -> Iterator[Course]:
    """Show it until the command says something, or ends: one that waits for an agent, and then answers."""
    with ExitStack() as stack:
        stack.enter_context(shown(course, redirects=False))
        if isinstance(sys.stdout, Output):
            sys.stdout.before = stack.close
        yield course


def _show(course: Course, stream: TextIO, ended: threading.Event, redirects: bool) -> None:
    if ended.wait(SHOWN_AFTER_S):
        return
    from rich.console import Console

    console = Console(file=stream)
    if console.is_terminal and not console.is_dumb_terminal:
        _show_bar(course, console, ended, redirects)
    else:
        _show_lines(course, console, ended)


def _show_lines(course: Course, console: "Console", ended: threading.Event) -> None:
    while True:
        try:
            console.print(course.words, highlight=False, markup=False, soft_wrap=True)
        except OSError:  # nobody reads it any more: the command goes on
            return
        if ended.wait(_LINE_EACH_S):
            return


def _show_bar(course: Course, console: "Console", ended: threading.Event, redirects: bool) -> None:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[told]}", markup=False),
    )
    redirected = (
        redirects and sys.stdout.isatty()
    )  # lines of output go above the bar, and never into a pipe's neighbour
    with Progress(*columns, console=console, transient=True, redirect_stdout=redirected) as bar:
        task = bar.add_task(course.name, total=1.0, told="")
        while True:
            done = course.done
            told = ", ".join(filter(None, (f"{_duration(course.taken_s)} so far", course.left_words)))
            bar.update(
                task,
                description=f"{course.name}: {course.doing}" if course.doing else course.name,
                total=None if done is None else 1.0,
                completed=done or 0.0,
                told=told,
            )
            if ended.wait(_BAR_EACH_S):
                return


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
