"""The admin port: health, metrics, and what the agent says of its choices."""

import base64
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest

from agent.holders.wire import PATH as QUESTIONS_PATH
from agent.latency.wire import PATH as REPORTS_PATH

from .agents import ADMIN, LOCAL, PEER, REPLY_S, SERVICE, Node, Site, digest_of, wait_for
from .proofs import OPEN
from .wire import connected, read_reply


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
            asking=made.add("asking", zone="a", http={"host_names": ["mirror.corp.example"]}, peering=OPEN),
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
    assert reply.json().keys() == {"code", "message", "hint"}
    assert all(reply.json().values())


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


def test_requests_say_when_they_arrived(rings: Rings) -> None:
    before_s = time.time()
    rings.asking.blob(b"own")
    after_s = time.time()
    (newest,) = rings.asking.ask("/api/requests?limit=1", port=ADMIN).json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", newest["started_at"])
    arrived_s = datetime.fromisoformat(newest["started_at"]).timestamp()
    assert before_s - 0.002 <= arrived_s <= after_s


@pytest.mark.parametrize("page", ["topology", "latency", "transfers", "costs", "flows", "scrub"])
def test_document_says_when_it_was_made(rings: Rings, page: str) -> None:
    made = datetime.fromisoformat(rings.asking.ask(f"/api/{page}", port=ADMIN).json()["time"])
    assert abs(made.timestamp() - time.time()) < REPLY_S


def test_explanation_says_when_it_was_made(rings: Rings) -> None:
    assert rings.asking.explain(digest_of(b"own"))["time"].endswith("Z")


@pytest.mark.parametrize("page", ["requests", "flows"])
@pytest.mark.parametrize("limit", ["0", "-1", "513", "all", "1.5"])
def test_limit_that_is_none_is_400_and_the_hint_says_what_to_write(
    rings: Rings, page: str, limit: str
) -> None:
    reply = rings.asking.ask(f"/api/{page}?limit={limit}", port=ADMIN)
    assert (reply.status, reply.json()["code"]) == (400, "QUERY_INVALID")
    assert "?limit=20" in reply.json()["hint"]


def test_what_is_no_http_gets_the_error_of_the_port_that_it_was_sent_to(rings: Rings) -> None:
    for port, key in ((ADMIN, "code"), (LOCAL, "errors")):
        with connected(rings.asking.address, port) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n")
            reply = read_reply(sock)
        assert reply.status == 400
        assert key in json.loads(reply.body)


@pytest.mark.parametrize("port", [LOCAL, SERVICE, PEER, ADMIN])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:9090", "localhost.evil.example", "far"])
def test_page_whose_own_name_leads_here_reads_nothing_on_any_listener(
    rings: Rings, port: int, host: str
) -> None:
    for path in ("/v2/", f"/v2/library/app/blobs/{digest_of(b'own')}", "/api/requests", "/metrics"):
        reply = rings.asking.ask(path, port=port, headers={"Host": host})
        assert reply.status == 403
        assert "http.host_names" in reply.body.decode()
        assert b"own" not in reply.body.replace(b"own name", b"")
        assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    ("target", "hosts"),
    [
        ("/api/costs", ["localhost", "evil.example"]),
        ("/api/costs", ["evil.example", "localhost"]),
        ("/api/costs", ["localhost", "localhost"]),
        ("/api/costs", ["localhost, evil.example"]),
        ("/api/costs", ["localhost:9090:evil.example"]),
        ("/api/costs", ["localhost@evil.example"]),
        ("/api/costs", ["127.0.0.1.evil.example."]),
        ("/api/costs", ["[::1].evil.example"]),
        ("/api/costs", ["localhost\x00.evil.example"]),
        ("/api/costs", ["localhost..", "localhost"]),
        ("http://localhost/api/costs", ["evil.example"]),
        ("http://user@localhost:9090/api/costs", ["evil.example:9090"]),
        ("//localhost/api/costs", ["evil.example"]),
    ],
)
def test_no_trick_with_names_opens_the_admin_port(rings: Rings, target: str, hosts: list[str]) -> None:
    lines = [f"GET {target} HTTP/1.1", *(f"Host: {host}" for host in hosts)]
    with connected(rings.asking.address, ADMIN) as sock:
        sock.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1"))
        reply = read_reply(sock)
    assert reply.status in (400, 403)
    assert b"usd" not in reply.body


@pytest.mark.parametrize("port", [LOCAL, SERVICE, PEER])
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:30020", "[::1]:30020", "asking", "ASKING:1", "mirror.corp.example"]
)
def test_client_may_use_addresses_localhost_the_nodes_name_and_names_of_the_settings(
    rings: Rings, port: int, host: str
) -> None:
    reply = rings.asking.blob(b"own", port=port, headers={"Host": host})
    assert (reply.status, reply.body) == (200, b"own")
    assert rings.asking.ask("/api/costs", port=ADMIN, headers={"Host": host}).status == 200


@pytest.mark.parametrize("port", [LOCAL, SERVICE, PEER, ADMIN])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_page_of_another_site_can_not_make_a_browser_ask(
    rings: Rings, port: int, headers: dict[str, str]
) -> None:
    asked = rings.near.metric("shorthaul_requests_total")
    for path in (
        f"/v2/library/app/blobs/{digest_of(b'both have it')}",
        f"/api/explain?digest={digest_of(b'x')}",
    ):
        assert rings.asking.ask(path, port=port, headers=headers).status == 403
    assert rings.near.metric("shorthaul_requests_total") == asked


@pytest.mark.parametrize("path", [QUESTIONS_PATH, REPORTS_PATH])
def test_page_in_a_browser_can_not_open_the_channels_of_agents(rings: Rings, path: str) -> None:
    key = base64.b64encode(bytes(16)).decode()
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }
    for origin in ("http://evil.example", "null"):
        reply = rings.asking.ask(path, port=PEER, headers={**upgrade, "Origin": origin})
        assert (reply.status, reply.oci_code()) == (403, "DENIED")


def test_refused_page_is_recorded_with_the_reason(rings: Rings) -> None:
    rings.asking.blob(b"own", headers={"Host": "evil.example"})
    (newest,) = rings.asking.ask("/api/requests?limit=1", port=ADMIN).json()
    assert (newest["status"], newest["result"]) == (403, "rejected")
    assert "evil.example" in newest["reason"]


def test_open_connections_are_counted_by_listener(rings: Rings) -> None:
    node = rings.asking

    def open_now() -> float:
        return node.metric("shorthaul_connections", listener="hostport")

    before = open_now()
    with connected(node.address, LOCAL), connected(node.address, LOCAL):
        wait_for(
            lambda: node.metric("shorthaul_connections", listener="hostport") == before + 2,
            "both are counted",
        )
    wait_for(lambda: node.metric("shorthaul_connections", listener="hostport") <= before, "both are gone")
    assert node.metric("shorthaul_connections", listener="admin") >= 1


def test_bytes_that_clients_got_here_are_saved_at_the_registry_and_those_for_agents_are_not(
    rings: Rings,
) -> None:
    node = rings.asking
    agent, containerd = {"User-Agent": "shorthaul"}, {"User-Agent": "containerd/1.7"}
    before, costs = (
        node.metric("shorthaul_registry_saved_bytes_total"),
        node.ask("/api/costs", port=ADMIN).json(),
    )
    node.blob(b"far has it", headers=containerd)
    node.blob(b"own", port=SERVICE, headers=containerd)
    node.blob(b"own", port=PEER, headers=agent)
    wait_for(node.is_idle, "no body moves")
    assert node.metric("shorthaul_registry_saved_bytes_total") == before + len(b"far has it") + len(b"own")
    after = node.ask("/api/costs", port=ADMIN).json()
    assert after["registry_bytes_saved"] == costs["registry_bytes_saved"] + len(b"far has it") + len(b"own")
    assert after["net_usd_saved"] == pytest.approx(after["registry_usd_saved"] - after["usd"], abs=1e-8)


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
    assert node.metric("shorthaul_peers_reachable") == 2
    assert node.metric("process_open_fds") > 0
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


def test_agents_without_a_server_say_that_the_peers_are_the_index(rings: Rings) -> None:
    index = json.loads(rings.asking.ask("/api/index", port=ADMIN).body)
    assert (index["index"], index["state"], index["problem"]) == ("scatter", "peers", None)
    assert (
        b"[+] the index: scatter: the peers are asked" in rings.asking.ask("/readyz?verbose", port=ADMIN).body
    )
    assert b"shorthaul_index_" not in rings.asking.ask("/metrics", port=ADMIN).body
