"""The facts of an index in a server: counted where their names say, and absent where there is no server."""

import re
from collections.abc import Callable

import pytest

from agent.documents.index import IndexSource
from agent.observe.index_metrics import FencedOutcome, IndexMetrics, IndexTrouble
from agent.observe.metrics import Metrics
from tests.unit.exposition import label_names, total
from tests.unit.twins import REPOSITORY_ROOT

FACTS: list[tuple[Callable[[IndexMetrics], None], str, dict[str, str], float]] = [
    (lambda index: index.up(True), "index_up", {}, 1),
    (
        lambda index: index.lookup(IndexSource.FALLBACK, found=True),
        "index_lookups_total",
        {"source": "fallback", "result": "found"},
        1,
    ),
    (
        lambda index: index.lookup(IndexSource.SERVER, found=False),
        "index_lookups_total",
        {"source": "server", "result": "nobody"},
        1,
    ),
    (lambda index: index.answered(0.0007), "index_lookup_seconds_bucket", {"le": "0.001"}, 1),
    (lambda index: index.announced(9, pending=2), "index_announced_digests", {}, 9),
    (lambda index: index.announced(9, pending=2), "index_pending_changes", {}, 2),
    (IndexMetrics.reset, "index_resets_total", {}, 1),
    (lambda index: index.failed(IndexTrouble.FULL), "index_errors_total", {"kind": "full"}, 1),
    (lambda index: index.fenced(FencedOutcome.HELD), "claims_fenced_total", {"outcome": "held"}, 1),
]


@pytest.mark.parametrize(("count", "name", "labels", "value"), FACTS, ids=[fact[1] for fact in FACTS])
def test_fact_is_counted_under_its_name(
    count: Callable[[IndexMetrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = Metrics()
    count(metrics.index)
    assert total(metrics.expose(), name, **labels) == value
    assert total(metrics.expose(), name.removesuffix("_bucket")) == value or name.endswith("_bucket")


def test_agent_without_a_server_has_no_metric_of_it() -> None:
    assert b"shorthaul_index_" not in Metrics().expose()
    assert b"fenced" not in Metrics().expose()


def test_series_of_alarms_are_there_before_the_first_one() -> None:
    metrics = Metrics()
    metrics.index.up(False)
    exposed = metrics.expose().decode()
    for kind in IndexTrouble:
        assert f'shorthaul_index_errors_total{{kind="{kind.value}"}} 0.0' in exposed
    assert 'shorthaul_index_lookups_total{result="found",source="fallback"} 0.0' in exposed
    assert 'shorthaul_claims_fenced_total{outcome="lost"} 0.0' in exposed


def test_help_of_errors_lookups_and_fences_names_every_value_of_the_label() -> None:
    metrics = Metrics()
    metrics.index.up(True)
    helps = {
        line.split()[2]: line
        for line in metrics.expose().decode().splitlines()
        if line.startswith("# HELP shorthaul_")
    }
    values: list[tuple[str, type[IndexTrouble] | type[IndexSource] | type[FencedOutcome]]] = [
        ("shorthaul_index_errors_total", IndexTrouble),
        ("shorthaul_index_lookups_total", IndexSource),
        ("shorthaul_claims_fenced_total", FencedOutcome),
    ]
    for name, kind in values:
        for each in kind:
            assert each.value in helps[name]


def test_no_label_is_named_for_a_server_a_node_or_a_digest() -> None:
    metrics = Metrics()
    metrics.index.up(True)
    metrics.index.lookup(IndexSource.CACHE, found=True)
    assert not label_names(metrics.expose()) & {"server", "address", "node", "digest", "cluster"}


@pytest.mark.parametrize("page", ["large-clusters.md", "operations.md"])
def test_every_metric_of_the_index_that_a_page_names_is_exposed(page: str) -> None:
    metrics = Metrics()
    metrics.index.up(True)
    exposed = {
        line.split()[2] for line in metrics.expose().decode().splitlines() if line.startswith("# HELP")
    }
    text = (REPOSITORY_ROOT / "docs" / page).read_text(encoding="utf-8")
    named = {
        name.removesuffix("_bucket") for name in re.findall(r"shorthaul_(?:index|claims_fenced)\w+", text)
    }
    assert len(named) >= 4
    assert named <= exposed
