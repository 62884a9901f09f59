"""The agent tells how it is itself, each fact under its name."""

from collections.abc import Callable

import pytest

from agent.observe.metrics import Metrics
from tests.unit.exposition import total


@pytest.mark.parametrize(
    ("count", "name", "labels", "value"),
    [
        (lambda metrics: metrics.connections({"peer": 7}), "connections", {"listener": "peer"}, 7),
        (lambda metrics: metrics.ready(True), "ready", {}, 1),
    ],
)
def test_fact_is_counted_under_its_name(
    count: Callable[[Metrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = Metrics()
    count(metrics)
    assert total(metrics.expose(), name, **labels) == value
