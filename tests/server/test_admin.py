"""The admin port: health, metrics, and what the agent says of its choices."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .agents import ADMIN, LOCAL, SERVICE, Node, Site, digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Rings:
    """An asking node, a holder in its zone, and one in another."""

    asking: Node
    near: Node
    far: Node


@pytest.fixture(scope="module")
def rings() -> Iterator[Rings]:
    """The agents of this module."""
    with Site() as made:
        rings = Rings(
            asking=made.add("asking", zone="a"),
            near=made.add("near", zone="a"),
            far=made.add("far", zone="b"),
        )
        for holder in (rings.near, rings.far):
            holder.put(b"both have it")
        rings.far.put(b"far has it")
        rings.asking.put(b"own", b"own and empty is not")
        made.start()
        yield rings


def test_livez_and_readyz_say_ok(rings: Rings) -> None:
    for path in ("/livez", "/readyz"):
        reply = rings.asking.ask(path, port=ADMIN)
        assert (reply.status, reply.body) == (200, b"ok\n")


def test_explain_names_the_nearest_holder_and_why(rings: Rings) -> None:
    explained = rings.asking.explain(digest_of(b"both have it"))
    assert explained["local"] is False
    assert explained["choice"] == "near"
    listed = [(holder["node"], holder["tier"], holder["rank"]) for holder in explained["holders"]]
    assert listed == [("near", "zone", 1), ("far", "region", 2)]
    assert all(holder["reason"] for holder in explained["holders"])


def test_explain_agrees_with_what_a_pull_does(rings: Rings) -> None:
    for content in (b"both have it", b"far has it", b"own"):
        choice = rings.asking.explain(digest_of(content))["choice"]
        reply = rings.asking.blob(content)
        assert reply.body == content
        assert reply.headers["Shorthaul-Source"].startswith(f"node={choice};")


def test_explain_says_when_this_node_has_it(rings: Rings) -> None:
    explained = rings.asking.explain(digest_of(b"own"))
    assert (explained["local"], explained["choice"]) == (True, "asking")


def test_explain_says_when_nobody_has_it(rings: Rings) -> None:
    explained = rings.asking.explain(digest_of(b"nobody"))
    assert (explained["local"], explained["choice"], explained["holders"]) == (False, None, [])


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:x", "?digest=../../etc", "?other=1"])
def test_explain_of_a_bad_digest_is_400_with_a_hint(rings: Rings, query: str) -> None:
    reply = rings.asking.ask(f"/api/explain{query}", port=ADMIN)
    assert reply.status == 400
    assert reply.json()["error"]
    assert reply.json()["hint"]


def test_requests_are_listed_newest_first_with_their_facts(rings: Rings) -> None:
    rings.asking.blob(b"far has it")
    rings.asking.blob(b"own", port=SERVICE)
    rings.asking.blob(b"nobody")
    missing, own, far = rings.asking.requests()[:3]
    assert (missing["status"], missing["result"], missing["source"]) == (404, "not_found", "none")
    assert (own["path"], own["source"], own["tier"], own["bytes"]) == ("nodeport", "local", "node", 3)
    assert (far["path"], far["source"], far["node"], far["tier"]) == ("hostport", "peer", "far", "region")
    assert (far["status"], far["result"], far["bytes"], far["kind"]) == (200, "ok", 10, "blob")
    assert far["seconds"] >= far["first_byte_s"] >= 0


def test_metrics_count_requests_bytes_and_the_store(rings: Rings) -> None:
    node, labels = rings.asking, {"path": "hostport", "tier": "region"}
    requests = node.metric("shorthaul_requests_total", kind="blob", source="peer", result="ok", **labels)
    sent = node.metric("shorthaul_bytes_total", **labels)
    rings.asking.blob(b"far has it")
    assert node.metric(
        "shorthaul_requests_total", kind="blob", source="peer", result="ok", **labels
    ) == pytest.approx(requests + 1)
    assert node.metric("shorthaul_bytes_total", **labels) == pytest.approx(sent + 10)
    assert node.metric("shorthaul_store_blobs") == 2
    assert node.metric("shorthaul_store_bytes") == len(b"own") + len(b"own and empty is not")
    assert node.metric("shorthaul_peers") == 2
    assert node.metric("shorthaul_ready") == 1


def test_metrics_are_prometheus_text_without_nodes_addresses_or_digests(rings: Rings) -> None:
    rings.asking.blob(b"both have it")
    reply = rings.asking.ask("/metrics", port=ADMIN)
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    exposed = reply.body.decode()
    for unbounded in ("sha256:", rings.near.address, rings.asking.address, '"near"', '"far"', "library/app"):
        assert unbounded not in exposed


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/api/requests", "/api/explain"])
def test_what_the_admin_port_says_is_not_said_to_clients(rings: Rings, path: str) -> None:
    assert rings.asking.ask(path, port=LOCAL).status == 404


def test_the_admin_port_serves_no_content(rings: Rings) -> None:
    assert rings.asking.blob(b"own", port=ADMIN).status == 404
    assert rings.asking.ask("/readyz", port=ADMIN, method="POST").status == 405
