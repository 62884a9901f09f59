"""Where peers are, and what bytes between zones cost, is told under its name."""

from collections.abc import Callable

import pytest

from agent.observe.metrics import Metrics
from tests.unit.exposition import total


def test_zone_that_is_gone_is_no_longer_exposed() -> None:
    metrics = Metrics()
    metrics.zone_rtts({"r/a": 300.0, "r/b": 900.0})
    metrics.zone_rtts({"r/a": 300.0})
    exposed = metrics.expose()
    assert total(exposed, "zone_rtt_seconds") == pytest.approx(0.0003)
    assert b"r/b" not in exposed


@pytest.mark.parametrize(
    ("count", "name", "labels", "value"),
    [
        (lambda metrics: metrics.measurement("lost"), "latency_measurements_total", {"result": "lost"}, 1),
        (lambda metrics: metrics.report("taken", absurd=2), "rtt_absurd_total", {}, 2),
        (lambda metrics: metrics.peers(4, cooling=1, reachable=2), "peers_cooling", {}, 1),
        (lambda metrics: metrics.peers(4, cooling=1, reachable=2), "peers_reachable", {}, 2),
        (
            lambda metrics: metrics.received("a", "b", 10, 0.5),
            "zone_cost_usd_total",
            {"source_zone": "a"},
            0.5,
        ),
    ],
)
def test_fact_is_counted_under_its_name(
    count: Callable[[Metrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = Metrics()
    count(metrics)
    assert total(metrics.expose(), name, **labels) == value
