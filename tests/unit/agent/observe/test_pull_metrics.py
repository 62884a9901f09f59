"""What pulls from peers come to is counted under its name."""

from collections.abc import Callable

import pytest

from agent.observe.metrics import Metrics
from tests.unit.exposition import total


@pytest.mark.parametrize(
    ("count", "name", "labels", "value"),
    [
        (lambda metrics: metrics.question("silent"), "lookup_questions_total", {"result": "silent"}, 1),
        (lambda metrics: metrics.attempt("ok"), "peer_attempts_total", {"result": "ok"}, 1),
        (Metrics.hedge, "hedges_total", {}, 1),
        (lambda metrics: metrics.broke("silent"), "resumes_total", {"reason": "silent"}, 1),
        (Metrics.striped, "striped_bodies_total", {}, 1),
        (lambda metrics: metrics.suspects(3), "suspect_sources_total", {}, 3),
    ],
)
def test_fact_is_counted_under_its_name(
    count: Callable[[Metrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = Metrics()
    count(metrics)
    assert total(metrics.expose(), name, **labels) == value
