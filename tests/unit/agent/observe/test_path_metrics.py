"""Verdicts on connections are counted under their names."""

from collections.abc import Callable

import pytest

from agent.observe.metrics import Metrics
from tests.unit.exposition import total


@pytest.mark.parametrize(
    ("count", "name", "labels", "value"),
    [
        (lambda metrics: metrics.remote_bytes(4, 5), "nodeport_remote_bytes_total", {"direction": "sent"}, 5),
        (
            lambda metrics: metrics.other_flows("hostport", "FAILED", 3),
            "other_flows_total",
            {"verdict": "FAILED"},
            3,
        ),
        (lambda metrics: metrics.contradictions(2), "flow_contradictions_total", {}, 2),
        (lambda metrics: metrics.proof(connected=True, proved=False), "probe_connected", {}, 1),
    ],
)
def test_fact_is_counted_under_its_name(
    count: Callable[[Metrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = Metrics()
    count(metrics)
    assert total(metrics.expose(), name, **labels) == value
