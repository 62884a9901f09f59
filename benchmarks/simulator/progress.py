"""How far a row of simulations is, and about how long it will still take.

On a terminal that is a bar. Elsewhere it is a line for each run that begins, and a line now and then: a log
stays readable.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_SAY_S = 30.0  # without a terminal: so often a run that takes long says how far it is


@dataclass(slots=True)
class Estimate:
    """About how long the rest takes, from the work so far. ``weights``: of the runs, in any unit."""

    weights: list[float]
    clock: Callable[[], float] = time.monotonic
    _began_s: float = field(init=False)
    _done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._began_s = self.clock()

    def ended(self) -> None:
        """One more run is over."""
        self._done += 1

    def share(self, of_run: float) -> float:
        """How much of all the work is done. ``of_run``: of the one that runs now, 0 to 1."""
        whole = sum(self.weights) or 1.0
        running = self.weights[self._done] * min(1.0, of_run) if self._done < len(self.weights) else 0.0
        return (sum(self.weights[: self._done]) + running) / whole

    def left_s(self, of_run: float) -> float | None:
        """The seconds that are left. None: too early to say."""
        share, taken_s = self.share(of_run), self.clock() - self._began_s
        return None if share < 0.02 or taken_s < 1.0 else taken_s * (1 - share) / share


Tell = Callable[[float, str], None]
"""How far the run is, from 0 to 1, and what it is doing."""


class Watching:
    """Shows the progress of runs, one after another. Use `watching`."""

    def __init__(self, console: Console, weights: list[float], bar: Progress | None) -> None:
        self._console = console
        self._estimate = Estimate(weights)
        self._bar = bar
        self._runs = len(weights)
        self._number = 0
        self._said_s = 0.0
        self._name = ""
        self._task = None if bar is None else bar.add_task("", total=1.0, left="")

    @contextmanager
    def run(self, name: str) -> Iterator[Tell]:
        """One run. Call what this gives with how far it is."""
        self._number, self._name, self._said_s = self._number + 1, name, time.monotonic()
        if self._bar is None:
            self._say(f"{self._number} of {self._runs}: {name} …")
        self._show(0.0, "")
        yield self._show
        self._estimate.ended()

    def _show(self, of_run: float, doing: str) -> None:
        left = self._left(of_run)
        if self._bar is not None and self._task is not None:
            what = f"{self._number} of {self._runs}: {self._name}" + (f", {doing}" if doing else "")
            self._bar.update(self._task, completed=self._estimate.share(of_run), description=what, left=left)
        elif time.monotonic() - self._said_s >= _SAY_S:
            self._said_s = time.monotonic()
            self._say("  " + ", ".join(filter(None, (f"{100 * of_run:.0f} %", doing, left))))

    def _left(self, of_run: float) -> str:
        left_s = self._estimate.left_s(of_run)
        if left_s is None:
            return ""
        return f"about {left_s:.0f} s left" if left_s < 100 else f"about {left_s / 60:.0f} min left"

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


@contextmanager
def watching(console: Console, weights: list[float]) -> Iterator[Watching]:
    """Show the progress of so many runs. ``weights``: about how much work each is, in any unit."""
    if not console.is_terminal:
        yield Watching(console, weights, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Watching(console, weights, bar)
