"""Requests are counted where their names say, with labels of which there are few."""

from collections.abc import Callable

import pytest

from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord, Result, SourceBytes
from tests.unit.exposition import total
from tests.unit.twins import node
from topology.placement import Tier

HOSTPORT = RequestPath.HOSTPORT


def answered(**facts: object) -> RequestRecord:
    return RequestRecord(path=HOSTPORT, method="GET", kind="blob", **facts)  # type: ignore[arg-type]


def test_request_is_counted_by_listener_kind_source_tier_and_result() -> None:
    metrics = Metrics()
    metrics.request(answered(result=Result.CUT, tier=Tier.REGION))
    labels = {"path": "hostport", "kind": "blob", "source": "peer", "tier": "region", "result": "cut"}
    assert total(metrics.expose(), "requests_total", **labels) == 1
    assert total(metrics.expose(), "requests_total") == 1


def test_bytes_are_counted_by_the_tier_of_each_source() -> None:
    metrics = Metrics()
    sources = (SourceBytes(node("a"), Tier.ZONE, 7), SourceBytes(node("b"), Tier.REMOTE, 5))
    metrics.request(answered(tier=Tier.ZONE, sources=sources, body_bytes=12))
    metrics.request(answered(tier=Tier.NODE, body_bytes=3))
    exposed = metrics.expose()
    by_tier = [total(exposed, "bytes_total", tier=tier) for tier in ("zone", "remote", "node")]
    assert by_tier == [7, 5, 3]


def test_duration_is_that_of_content_and_not_of_standing_connections() -> None:
    metrics = Metrics()
    metrics.request(answered(tier=Tier.ZONE, seconds=0.3))
    metrics.request(RequestRecord(path=RequestPath.PEER, method="GET", kind="holders", seconds=7200.0))
    labels = {"path": "hostport", "tier": "zone", "result": "ok"}
    assert total(metrics.expose(), "request_duration_seconds_count") == 1
    assert total(metrics.expose(), "request_duration_seconds_sum", **labels) == pytest.approx(0.3)


def test_speed_is_that_of_bodies_that_are_large_enough_to_show_it() -> None:
    metrics = Metrics()
    metrics.request(answered(tier=Tier.ZONE, first_byte_s=0.1, seconds=0.3, body_bytes=2_000_000))
    metrics.request(answered(tier=Tier.ZONE, first_byte_s=0.1, seconds=0.1, body_bytes=5_000_000))
    metrics.request(answered(tier=Tier.ZONE, first_byte_s=0.1, seconds=0.3, body_bytes=1000))
    speeds = {"path": "hostport", "tier": "zone"}
    assert total(metrics.expose(), "body_speed_bytes_per_second_count", **speeds) == 2
    assert total(metrics.expose(), "body_speed_bytes_per_second_bucket", le="1e+07", **speeds) == 1


def test_first_byte_is_observed_only_where_there_was_one() -> None:
    metrics = Metrics()
    metrics.request(answered(tier=Tier.NODE, first_byte_s=0.002))
    metrics.request(answered(result=Result.NOT_FOUND))
    assert total(metrics.expose(), "first_byte_seconds_count") == 1


def test_first_byte_to_a_client_and_one_to_another_agent_are_told_apart() -> None:
    metrics = Metrics()
    metrics.request(answered(tier=Tier.ZONE, first_byte_s=0.004))
    metrics.request(
        RequestRecord(path=RequestPath.PEER, method="GET", kind="blob", tier=Tier.NODE, first_byte_s=0.001)
    )
    exposed = metrics.expose()
    by_path = {
        (path, source): total(exposed, "first_byte_seconds_count", path=path, source=source)
        for path, source in (("hostport", "peer"), ("peer", "local"))
    }
    assert by_path == {("hostport", "peer"): 1, ("peer", "local"): 1}


@pytest.mark.parametrize(
    ("count", "name", "labels", "value"),
    [
        (Metrics.redirect, "redirects_total", {}, 1),
        (lambda metrics: metrics.sent({"splice": 5, "copy": 2}), "sent_bytes_total", {"way": "splice"}, 5),
        (lambda metrics: metrics.saved("peer", 9, 0.5), "registry_saved_bytes_total", {"path": "peer"}, 9),
        (lambda metrics: metrics.saved("hostport", 9, 0.5), "registry_saved_usd_total", {}, 0.5),
    ],
)
def test_fact_is_counted_under_its_name(
    count: Callable[[Metrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = Metrics()
    count(metrics)
    assert total(metrics.expose(), name, **labels) == value
