"""What this node's store has, and what is wrong with it, is told under its name."""

from collections.abc import Callable

import pytest

from agent.observe.metrics import Metrics
from tests.unit.exposition import total


@pytest.mark.parametrize(
    ("count", "name", "labels", "value"),
    [
        (lambda metrics: metrics.scrubbed(9), "scrubbed_bytes_total", {}, 9),
        (lambda metrics: metrics.corrupt("read"), "corrupt_blobs_total", {"found_by": "read"}, 1),
        (lambda metrics: metrics.store(2, 700, unreadable=3), "store_bytes", {}, 700),
        (lambda metrics: metrics.store(2, 700, unreadable=3), "store_unreadable_blobs", {}, 3),
    ],
)
def test_fact_is_counted_under_its_name(
    count: Callable[[Metrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = Metrics()
    count(metrics)
    assert total(metrics.expose(), name, **labels) == value
