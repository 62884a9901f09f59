"""How far a row of simulations is."""

import io

import pytest
from rich.console import Console

from benchmarks.simulator.progress import Estimate, watching


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_estimate_counts_runs_by_their_work() -> None:
    clock = _Clock()
    estimate = Estimate([1.0, 3.0], clock)
    estimate.ended()
    clock.now_s += 10
    assert estimate.share(0.0) == pytest.approx(0.25)
    assert estimate.left_s(0.0) == pytest.approx(30.0)
    clock.now_s += 10
    assert estimate.left_s(1 / 3) == pytest.approx(20.0)


def test_estimate_says_nothing_before_there_is_anything_to_say() -> None:
    clock = _Clock()
    estimate = Estimate([1.0], clock)
    clock.now_s += 0.5
    assert estimate.left_s(0.9) is None


def test_a_pipe_gets_a_line_for_each_run_and_no_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    with watching(console, [1.0, 1.0]) as watched:
        for name in ("one", "two"):
            with watched.run(name) as tell:
                tell(0.5, "half")
    assert console.file.getvalue() == "1 of 2: one …\n2 of 2: two …\n"  # type: ignore[attr-defined]


def test_a_terminal_gets_a_bar_with_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with watching(console, [1.0]) as watched, watched.run("everyone, 300 nodes") as tell:
        tell(0.5, "12 s")
        assert watched._bar is not None
        watched._bar.refresh()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 of 1: everyone, 300 nodes, 12 s" in text
    assert "50 %" in text
    assert "\x1b[3" not in text  # no colour


def test_work_of_no_weight_is_not_divided_by() -> None:
    assert Estimate([0.0]).share(0.5) == 0.0
