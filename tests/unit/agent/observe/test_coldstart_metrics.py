"""Who fetched what nobody had, and who followed, is counted under its name."""

from collections.abc import Callable

import pytest

from agent.observe.metrics import Metrics
from tests.unit.exposition import total
from topology.placement import Tier


@pytest.mark.parametrize(
    ("count", "name", "labels", "value"),
    [
        (lambda metrics: metrics.claim("lost"), "claims_total", {"scope": "zone", "outcome": "lost"}, 1),
        (lambda metrics: metrics.claim("granted", "cluster"), "claims_total", {"scope": "cluster"}, 1),
        (
            lambda metrics: metrics.claim_waited("followed", 0.5),
            "claim_wait_seconds_sum",
            {"outcome": "followed"},
            0.5,
        ),
        (
            lambda metrics: metrics.claims_open(held=1, waiting=2, decided=3),
            "claims_open",
            {"part": "waiting"},
            2,
        ),
        (
            lambda metrics: metrics.in_flight_received(Tier.ZONE, 7),
            "in_flight_received_bytes_total",
            {"tier": "zone"},
            7,
        ),
        (lambda metrics: metrics.followers(3), "followers", {}, 3),
        (lambda metrics: metrics.followed(2), "tree_depth_bucket", {"le": "2.0"}, 1),
        (
            lambda metrics: metrics.registry_avoided("config"),
            "registry_fetches_avoided_total",
            {"kind": "config"},
            1,
        ),
    ],
)
def test_fact_is_counted_under_its_name(
    count: Callable[[Metrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = Metrics()
    count(metrics)
    assert total(metrics.expose(), name, **labels) == value
