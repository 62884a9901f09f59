"""Each fact is counted where its name says, with labels of which there are few."""

from collections.abc import Callable

import pytest

from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord, Result, SourceBytes
from tests.unit.exposition import label_names, total
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


FACTS: list[tuple[Callable[[Metrics], None], str, dict[str, str], float]] = [
    (lambda metrics: metrics.question("silent"), "lookup_questions_total", {"result": "silent"}, 1),
    (lambda metrics: metrics.attempt("ok"), "peer_attempts_total", {"result": "ok"}, 1),
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
    (Metrics.shared, "uploads_shared_total", {}, 1),
    (Metrics.hedge, "hedges_total", {}, 1),
    (lambda metrics: metrics.broke("silent"), "resumes_total", {"reason": "silent"}, 1),
    (Metrics.striped, "striped_bodies_total", {}, 1),
    (Metrics.redirect, "redirects_total", {}, 1),
    (lambda metrics: metrics.sent({"splice": 5, "copy": 2}), "sent_bytes_total", {"way": "splice"}, 5),
    (Metrics.refused, "uploads_refused_total", {}, 1),
    (lambda metrics: metrics.suspects(3), "suspect_sources_total", {}, 3),
    (lambda metrics: metrics.scrubbed(9), "scrubbed_bytes_total", {}, 9),
    (lambda metrics: metrics.corrupt("read"), "corrupt_blobs_total", {"found_by": "read"}, 1),
    (lambda metrics: metrics.measurement("lost"), "latency_measurements_total", {"result": "lost"}, 1),
    (lambda metrics: metrics.report("taken", absurd=2), "rtt_absurd_total", {}, 2),
    (lambda metrics: metrics.remote_bytes(4, 5), "nodeport_remote_bytes_total", {"direction": "sent"}, 5),
    (
        lambda metrics: metrics.other_flows("hostport", "FAILED", 3),
        "other_flows_total",
        {"verdict": "FAILED"},
        3,
    ),
    (lambda metrics: metrics.contradictions(2), "flow_contradictions_total", {}, 2),
    (lambda metrics: metrics.store(2, 700, unreadable=3), "store_bytes", {}, 700),
    (lambda metrics: metrics.store(2, 700, unreadable=3), "store_unreadable_blobs", {}, 3),
    (lambda metrics: metrics.peers(4, cooling=1, reachable=2), "peers_cooling", {}, 1),
    (lambda metrics: metrics.peers(4, cooling=1, reachable=2), "peers_reachable", {}, 2),
    (lambda metrics: metrics.connections({"peer": 7}), "connections", {"listener": "peer"}, 7),
    (lambda metrics: metrics.saved("peer", 9, 0.5), "registry_saved_bytes_total", {"path": "peer"}, 9),
    (lambda metrics: metrics.saved("hostport", 9, 0.5), "registry_saved_usd_total", {}, 0.5),
    (lambda metrics: metrics.uploads(2, 90), "upload_bytes_in_flight", {}, 90),
    (lambda metrics: metrics.ready(True), "ready", {}, 1),
    (lambda metrics: metrics.proof(connected=True, proved=False), "probe_connected", {}, 1),
    (lambda metrics: metrics.received("a", "b", 10, 0.5), "zone_cost_usd_total", {"source_zone": "a"}, 0.5),
]


@pytest.mark.parametrize(("count", "name", "labels", "value"), FACTS, ids=[fact[1] for fact in FACTS])
def test_fact_is_counted_under_its_name(
    count: Callable[[Metrics], None], name: str, labels: dict[str, str], value: float
) -> None:
    metrics = Metrics()
    count(metrics)
    assert total(metrics.expose(), name, **labels) == value


def test_series_of_alarms_are_there_before_the_first_one() -> None:
    exposed = Metrics().expose().decode()
    assert 'shorthaul_corrupt_blobs_total{found_by="scrub"} 0.0' in exposed
    assert 'shorthaul_local_flows_total{endpoint="hostport",verdict="KUBE_PROXY"} 0.0' in exposed
    assert 'shorthaul_other_flows_total{endpoint="hostport",verdict="PROXIED"} 0.0' in exposed
    assert 'shorthaul_claims_total{outcome="lost",scope="zone"} 0.0' in exposed
    assert 'shorthaul_registry_fetches_avoided_total{kind="manifest"} 0.0' in exposed


def test_zone_that_is_gone_is_no_longer_exposed() -> None:
    metrics = Metrics()
    metrics.zone_rtts({"r/a": 300.0, "r/b": 900.0})
    metrics.zone_rtts({"r/a": 300.0})
    exposed = metrics.expose()
    assert total(exposed, "zone_rtt_seconds") == pytest.approx(0.0003)
    assert b"r/b" not in exposed


def test_no_label_is_named_for_a_node_an_address_or_a_digest() -> None:
    metrics = Metrics()
    metrics.request(answered(tier=Tier.ZONE, node=node("n"), first_byte_s=0.1, body_bytes=1))
    metrics.rtt(Tier.ZONE, 300.0, "connection")
    assert not label_names(metrics.expose()) & {"node", "peer", "address", "ip", "digest", "client"}


def test_two_agents_in_one_process_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.hedge()
    assert total(other.expose(), "hedges_total") == 0
