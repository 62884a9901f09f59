"""What this node sends to peers is counted under its name."""

from collections.abc import Callable

import pytest

from agent.observe.metrics import Metrics
from tests.unit.exposition import total


@pytest.mark.parametrize(
    ("count", "name", "labels", "value"),
    [
        (Metrics.shared, "uploads_shared_total", {}, 1),
        (Metrics.refused, "uploads_refused_total", {}, 1),
        (lambda metrics: metrics.uploads(2, 90), "upload_bytes_in_flight", {}, 90),
    ],
)
def test_fact_is_counted_under_its_name(
    count: Callable[[Metrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = Metrics()
    count(metrics)
    assert total(metrics.expose(), name, **labels) == value
