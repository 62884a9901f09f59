"""The tables and lines of simulated runs."""

import io

from rich.console import Console

from benchmarks.simulator.judging import judge
from benchmarks.simulator.table import markdown, number, tables, verdicts
from tests.unit.benchmarks.simulator.runs import made_up


def _printed(*runs: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    for table in tables(runs):  # type: ignore[arg-type]
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_each_workload_has_a_table_and_each_policy_a_row() -> None:
    text = _printed(made_up(), made_up(policy="dht-3", scope="none", dead_dials=7), made_up(workload="churn"))
    assert text.count("5,000 nodes in 10 zones, 1,000 MB") == 2
    assert "shorthaul, zone" in text
    assert "7 of 10,000" in next(line for line in text.splitlines() if "dht-3" in line)


def test_markdown_has_as_many_cells_in_each_row_as_in_its_head() -> None:
    lines = markdown([made_up(), made_up(policy="oracle")]).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1


def test_a_verdict_says_the_figure_and_its_bound() -> None:
    lines = [*verdicts([*judge([made_up(p99_s=16.0)])])]
    assert "✗ everyone, scope zone: the slowest 1 % take at most 1.5 × the median: 2 (at most 1.5)" in lines
    assert sum(line.startswith("✓") for line in lines) == len(lines) - 1


def test_what_is_not_a_number_is_shown_as_a_dash() -> None:
    assert number(float("nan")) == "–"
