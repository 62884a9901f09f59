"""What an agent knows of the topology, as its admin port tells it; peers that tell nonsense."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.holders.wire import PATH as HOLDERS_PATH
from agent.latency.wire import PATH, encode_report
from tests.frames import accept_head, frame
from topology.placement import NodeName, Region, Zone, ZoneKey
from topology.zones import Report

from .agents import ADMIN, PEER, Image, Node, Site, digest_of, fresh_address, make_image, wait_for
from .proofs import OPEN, proved
from .websocket import upgraded

PEERING = OPEN  # some of these tests ask the peer listener, and are no peers

ODD = 'r"a\\ck [bold]✓'
LATENCY = {"interval_s": 0.25, "window_s": 1.0, "report_s": 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Zones:
    """Two agents in two zones, and members that are no agents."""

    asking: Node
    holder: Node
    image: Image
    gone: str  # the address of a member that is no agent


@pytest.fixture(scope="module")
def zones() -> Iterator[Zones]:
    """The agents of this module."""
    image = make_image(b"layer" * 40_000, b"other layer" * 3_000)
    with Site(PEERING) as made:
        asking = made.add(
            "asking",
            zone="a",
            latency=LATENCY,
            costs={"pairs": [{"from": "b", "to": "a", "usd_per_gb": 1000}]},
            placement={
                "region": "r",
                "zone": "a",
                "labels": {"topology.kubernetes.io/zone": "elsewhere", "topology.rook.io/rack": ODD},
                "labels_file": "labels",
            },
        )
        (made.folder / "labels").write_text(
            'topology.kubernetes.io/region="r"\ntopology.rook.io/row="7"\nnot a label\n'
        )
        holder = made.add("holder", zone="b", latency=LATENCY)
        holder.put_image(image, "docker.io/library/app:v1")
        gone = fresh_address()
        made.add_member("gone", gone, zone="b")
        made.add_member(
            "deep",
            fresh_address(),
            region=None,
            zone=None,  # type: ignore[arg-type]
            labels={
                "topology.kubernetes.io/region": "r",
                "topology.kubernetes.io/zone": "c",
                "topology.k8s.aws/network-node-layer-1": "nn-1",
                "topology.k8s.aws/network-node-layer-2": "nn-2",
                "topology.k8s.aws/network-node-layer-3": "nn-3",
                "cloud.google.com/gce-topology-host": "h",
            },
        )
        made.start()
        yield Zones(asking=asking, holder=holder, image=image, gone=gone)


def page(node: Node, path: str) -> Any:
    """A page's JSON, which has no NaN and no Infinity."""
    reply = node.ask(path, port=ADMIN)
    assert reply.status == 200
    return json.loads(reply.body, parse_constant=lambda constant: pytest.fail(constant))


def of(node: Node, name: str) -> dict[str, Any]:
    (entry,) = (each for each in page(node, "/api/topology")["nodes"] if each["name"] == name)
    return dict(entry)


def test_placement_has_every_level_that_a_nodes_labels_name_in_order(zones: Zones) -> None:
    assert of(zones.asking, "deep")["placement"] == [
        ["region", "r"],
        ["zone", "c"],
        ["topology.k8s.aws/network-node-layer-1", "nn-1"],
        ["topology.k8s.aws/network-node-layer-2", "nn-2"],
        ["topology.k8s.aws/network-node-layer-3", "nn-3"],
        ["cloud.google.com/gce-topology-host", "h"],
    ]


def test_own_labels_come_from_settings_and_the_downward_api_and_may_have_odd_characters(
    zones: Zones,
) -> None:
    assert of(zones.asking, "asking")["placement"] == [
        ["region", "r"],
        ["zone", "a"],
        ["topology.rook.io/row", "7"],
        ["rack", ODD],
    ]


def test_labels_that_contradict_the_settings_are_reported_and_not_fatal(zones: Zones) -> None:
    problems = [each for each in page(zones.asking, "/api/topology")["problems"] if each["node"] == "asking"]
    assert len(problems) == 1
    assert "'elsewhere'" in problems[0]["problem"]
    assert problems[0]["hint"]


def test_labels_file_that_is_not_there_is_reported_and_not_fatal() -> None:
    with Site() as site:
        node = site.add("alone", placement={"zone": "a", "labels_file": "nowhere"})
        site.start()
        (problem,) = page(node, "/api/topology")["problems"]
        assert "nowhere" in problem["problem"]


def test_round_trips_are_measured_and_shown(zones: Zones) -> None:
    wait_for(lambda: of(zones.asking, "holder")["source"] == "measured", "the holder is measured")
    holder = of(zones.asking, "holder")
    assert holder["tier"] == "region"
    assert 0 < holder["rtt"]["min_us"] <= holder["rtt"]["low_us"]
    (peer,) = (each for each in page(zones.asking, "/api/latency")["peers"] if each["node"] == "holder")
    assert peer["measuring"]
    assert peer["samples"] > 0
    assert zones.asking.metric("shorthaul_rtt_samples_total", source="measurement") > 0


def test_peer_that_is_not_there_stands_at_its_zones_median(zones: Zones) -> None:
    wait_for(lambda: of(zones.asking, "gone")["source"] == "zone_pair", "the zone pair is measured")
    assert of(zones.asking, "gone")["rtt"] is None
    assert zones.asking.metric("shorthaul_latency_measurements_total", result="unreachable") > 0


def test_bytes_between_zones_are_accounted_with_their_price(zones: Zones) -> None:
    layer = zones.image.layers[0]
    before = page(zones.asking, "/api/costs")
    assert zones.asking.blob(layer).body == layer
    wait_for(lambda: page(zones.asking, "/api/costs")["bytes"] > before["bytes"], "it is accounted")
    costs = page(zones.asking, "/api/costs")
    (pair,) = costs["pairs"]
    assert (pair["source_zone"], pair["destination_zone"]) == ("r/b", "r/a")
    # The kernel's count: heads of responses count as well.
    assert len(layer) <= costs["bytes"] - before["bytes"] < len(layer) + 10_000
    assert pair["usd"] == pytest.approx(pair["bytes"] / 1e9 * 1000)
    labels = {"source_zone": "r/b", "destination_zone": "r/a"}
    assert zones.asking.metric("shorthaul_zone_bytes_total", **labels) == pair["bytes"]
    assert zones.asking.metric("shorthaul_zone_cost_usd_total", **labels) == pytest.approx(pair["usd"])


def test_new_connection_of_a_pull_measures_the_way(zones: Zones) -> None:
    assert zones.asking.blob(zones.image.layers[1]).status == 200
    assert zones.asking.metric("shorthaul_rtt_samples_total", source="connection") > 0


def test_image_is_explained_with_all_that_it_is_made_of(zones: Zones) -> None:
    explained = page(zones.asking, "/api/explain?image=app:v1")
    assert explained["image"] == "docker.io/library/app:v1"
    assert explained["digest"] == zones.image.digest
    assert explained["choice"] == "holder"
    content = [(each["digest"], each["kind"], each["choice"]) for each in explained["content"]]
    assert content == [
        (digest_of(zones.image.config), "config", "holder"),
        *((digest_of(layer), "layer", "holder") for layer in zones.image.layers),
    ]


@pytest.mark.parametrize(
    ("image", "status"),
    [("nobody/has:it", 404), ("app:latest", 404), ("UPPER/case", 400), ("app@sha256:beef", 400), ("", 400)],
)
def test_image_that_cannot_be_explained_gets_a_reason(zones: Zones, image: str, status: int) -> None:
    reply = zones.asking.ask(f"/api/explain?image={image}", port=ADMIN)
    assert reply.status == status
    assert reply.json()["code"]


def report(node: str, *, zones: dict[str, float] | None = None, load: int = 0) -> bytes:
    told = {ZoneKey(region=Region("r"), zone=Zone(zone)): rtt for zone, rtt in (zones or {}).items()}
    return encode_report(NodeName(node), Report(zones=told, nodes={}, load=load))


def test_absurd_values_of_a_peer_are_clamped_and_counted(zones: Zones) -> None:
    before = zones.asking.metric("shorthaul_rtt_absurd_total")
    with upgraded(zones.asking.address, PATH, source=zones.gone) as sock:
        told = b'{"node":"gone","zones":[["r","a",NaN],["r","b",1e300]],"nodes":[["deep",-5]],"load":-3}'
        sock.sendall(frame(told, masked=True))
        wait_for(lambda: zones.asking.metric("shorthaul_rtt_absurd_total") == before + 3, "they are counted")
    page(zones.asking, "/api/topology")
    page(zones.asking, "/api/latency")


@pytest.mark.parametrize("message", [b"nonsense", b"[]", b'{"node":1,"zones":[],"nodes":[],"load":0}'])
def test_message_that_is_no_report_ends_the_connection_and_is_counted(zones: Zones, message: bytes) -> None:
    before = zones.asking.metric("shorthaul_latency_reports_total", result="invalid")
    with upgraded(zones.asking.address, PATH) as sock:
        sock.sendall(frame(message, masked=True))
        wait_for(
            lambda: zones.asking.metric("shorthaul_latency_reports_total", result="invalid") == before + 1,
            "it is counted",
        )


def test_report_of_a_node_that_is_no_member_is_not_taken(zones: Zones) -> None:
    before = zones.asking.metric("shorthaul_latency_reports_total", result="stranger")
    with upgraded(zones.asking.address, PATH) as sock:
        sock.sendall(frame(report("stranger", zones={"a": 1.0}), masked=True))
        wait_for(
            lambda: zones.asking.metric("shorthaul_latency_reports_total", result="stranger") == before + 1,
            "it is counted",
        )


def test_member_that_speaks_from_another_address_is_not_believed(zones: Zones) -> None:
    before = zones.asking.metric("shorthaul_latency_reports_total", result="stranger")
    with upgraded(zones.asking.address, PATH, source=fresh_address()) as sock:
        sock.sendall(frame(report("gone", zones={"a": 9e6}), masked=True))
        wait_for(
            lambda: zones.asking.metric("shorthaul_latency_reports_total", result="stranger") == before + 1,
            "it is counted",
        )
    assert of(zones.asking, "gone")["cost_us"] < 1e6


def test_flood_of_messages_is_cut_off(zones: Zones) -> None:
    sent = 0
    with upgraded(zones.asking.address, PATH, source=zones.gone) as sock, suppress(OSError):
        while sent < 10_000:
            sock.sendall(frame(b"", masked=True))
            sent += 1
            time.sleep(0.001)
    assert sent < 10_000


def test_one_address_has_few_connections_and_a_new_one_when_it_closed_some(zones: Zones) -> None:
    source = fresh_address()
    with ExitStack() as stack:
        refused = 0
        for _ in range(10):
            try:
                stack.enter_context(upgraded(zones.asking.address, PATH, source=source))
            except AssertionError:  # no 101
                refused += 1
        assert 0 < refused < 10

    def fits() -> bool:
        try:
            with upgraded(zones.asking.address, PATH, source=source):
                return True
        except AssertionError:
            return False

    wait_for(fits, "the closed ones do not count")


def test_connection_whose_peer_vanished_is_not_kept(zones: Zones) -> None:
    descriptors = Path(f"/proc/{zones.asking.process.pid}/fd")
    for path in (PATH, HOLDERS_PATH):
        before = len(list(descriptors.iterdir()))
        for _ in range(20):
            with upgraded(zones.asking.address, path, source=fresh_address()):
                pass  # closed without a word, as by a peer that is killed
        wait_for(lambda before=before: len(list(descriptors.iterdir())) <= before + 3, "they are closed")  # type: ignore[misc]


@contextmanager
def chatterer(address: str) -> Iterator[list[int]]:
    """A peer that takes every WebSocket and then talks without end; gives the list of its connections."""
    opened: list[int] = []
    with socket.create_server((address, PEER)) as listener:

        def talk(sock: socket.socket) -> None:
            with sock, suppress(OSError):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += sock.recv(1) or b"\r\n\r\n"
                fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
                if "Sec-WebSocket-Key" not in fields:
                    return  # a request of another kind: this peer only talks
                sock.sendall(accept_head(fields["Sec-WebSocket-Key"], proved(fields)))
                opened.append(1)
                while True:
                    sock.sendall(frame(b"x" * 100) * 100)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    threading.Thread(target=talk, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield opened
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_peer_that_talks_without_end_is_dropped_and_does_not_hold_up_the_stop() -> None:
    address = fresh_address()
    with Site() as site, chatterer(address) as opened:
        site.add_member("chatterer", address)
        node = site.add("measuring", latency=LATENCY)
        site.start()
        wait_for(lambda: len(opened) >= 2, "it is measured, dropped, and measured again")
        assert node.process.stop(at_most_s=10.0) == 0


def test_reports_are_heard_on_the_peer_listener_only(zones: Zones) -> None:
    assert zones.asking.ask(PATH, port=PEER).status == 400
    assert zones.asking.ask(PATH).status == 404
