"""Figures that are written into pages."""

from benchmarks.simulator.judging import judge
from benchmarks.simulator.pages import fill, marked, parts_of
from benchmarks.simulator.workloads import WORKLOADS
from tests.unit.benchmarks.simulator.runs import made_up
from tests.unit.twins import REPOSITORY_ROOT

_PAGES = ("README.md", "docs/simulator.md")


def test_a_part_is_written_anew_and_the_rest_stays() -> None:
    page = "before\n<!-- simulator: short -->\nold\n<!-- /simulator: short -->\nafter\n"
    filled = fill(page, {"short": "new"})
    assert filled == "before\n<!-- simulator: short -->\nnew\n<!-- /simulator: short -->\nafter\n"
    assert fill(filled, {"short": "new"}) == filled


def test_a_part_without_figures_stays_as_it_is() -> None:
    page = "<!-- simulator: churn -->\nold\n<!-- /simulator: churn -->\n"
    assert fill(page, {"short": "new"}) == page


def test_every_part_of_the_pages_is_one_that_there_is() -> None:
    runs = [made_up(workload=name) for name in WORKLOADS]
    parts = parts_of(runs, [*judge(runs)])
    for page in _PAGES:
        names = marked((REPOSITORY_ROOT / page).read_text())
        assert names, page
        assert set(names) <= parts.keys()


def test_short_table_has_a_row_for_each_policy() -> None:
    runs = [made_up(), made_up(policy="dht-3", scope="none", registry_copies=5000.0)]
    short = parts_of(runs, [*judge(runs)])["short"].splitlines()
    assert short[0] == "5,000 nodes in 10 zones, 1,000 MB, seed 1."
    assert len(short) == 6
    assert short[5].startswith("| dht-3 |")
    assert "| 5,000 |" in short[5]
