"""The membership over HTTP: who is a peer, how soon, what an ill control plane does, and what agents say."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest

from agent.members.member import Peer
from agent.members.own import Learned
from benchmarks.lab.apiserver import NODES, SLICES, FakeApiServer, Pod, node_object, slice_object
from tests.unit.agent.members.kubernetes.following_one import OWN_POD, following, pods
from tests.unit.agent.transfer.scripted import until
from tests.unit.twins import located, node
from topology.labels import ZONE_LABEL
from topology.placement import Placement, Zone

AT_MOST_S = 2.0
"""What the whole way of a change may take: the double, the watch, and telling it."""


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        running.put(NODES, node_object("own", {ZONE_LABEL: "a"}))
        running.put_slices(pods("a", "b", "c"))
        yield running


async def test_listed_agents_are_peers_with_the_zone_of_their_slice(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        peer = followed.lists[-1][node("a")]
    assert (peer.address, peer.port) == ("10.0.0.98", 30020)
    assert peer.placement == Placement(zone=Zone("a"), partial=True)


async def test_agent_that_stops_is_left_out_within_two_seconds(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        loop = asyncio.get_running_loop()
        for number in range(3):
            stops = number % 2 == 0
            b = pods("b", ready=not stops, serving=True, terminating=stops)[1:]
            started_s = loop.time()
            server.put_slices([*pods("a", "c"), *b])
            await followed.until_peers(*("ac" if stops else "abc"))
            assert loop.time() - started_s < 5 * AT_MOST_S


async def test_hundred_changes_at_once_are_told_together(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        told = len(followed.lists)
        for number in range(100):
            server.put(
                SLICES,
                slice_object(f"more-{number}", [Pod(node=f"n{number}", address=f"10.1.0.{number + 1}")]),
            )
        await until(lambda: len(followed.names) == 103, "all are peers")
        assert len(followed.lists) - told <= 50


async def test_change_that_changes_no_agent_is_not_told(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        told = len(followed.lists)
        new = Pod(node="a", address="10.0.0.98", ready=False)
        server.put_slices([*pods("a", "b", "c"), new])  # its successor is not ready yet
        server.put_slices([*pods("b", "c"), Pod(node="a", address="10.0.0.98")])
        server.put_slices([*pods("a", "b", "c", "d")])
        await followed.until_peers("a", "b", "c", "d")
        assert len(followed.lists) == told + 1


async def test_nobody_listed_is_an_empty_list_and_not_silence(server: FakeApiServer) -> None:
    server.put_slices([])
    async with following(server) as followed:
        await until(lambda: followed.lists == [{}], "the first list")


async def test_server_that_is_away_takes_no_peer_and_is_said(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        assert followed.membership.problem is None
        await server.stop()
        await until(lambda: followed.membership.problem is not None, "a problem")
        assert "refused" in str(followed.membership.problem)
        assert followed.membership.hint
        silent_s = followed.membership.silent_s
        assert followed.names == {"a", "b", "c"}
        server.put_slices(pods("a", "b", "c", "d"))
        await server.start()
        await followed.until_peers("a", "b", "c", "d")
        assert followed.membership.problem is None
        assert silent_s is not None
        assert followed.membership.silent_s is not None


async def test_server_that_was_restored_empty_takes_no_peer_at_once(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        server.restore()
        server.put_slices([OWN_POD])
        await followed.until_problem("3 agents vanished")
        assert followed.names == {"a", "b", "c"}
        server.put_slices(pods("b", "c"))
        await until(lambda: not followed.says("3 agents vanished"), "they are listed again")


async def test_control_plane_that_lost_its_nodes_takes_no_peer_at_once(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        server.put_slices(pods("a", "b", "c", ready=False))  # no kubelet is heard: none of them stops
        await followed.until_problem("3 agents vanished")
        assert followed.names == {"a", "b", "c"}


async def test_agents_that_are_all_stopped_are_all_left_out(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        server.put_slices(pods("a", "b", "c", ready=False, terminating=True))
        await followed.until_peers()
        server.put_slices([])
        await asyncio.sleep(0.3)  # for what should not happen
        assert followed.names == set()
        assert not followed.says("vanished")


async def test_kept_agent_that_is_said_to_stop_is_left_out(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        server.put_slices(pods("a", "b", "c", ready=False))
        await followed.until_problem("3 agents vanished")
        one, *others = pods("b", "c", "a", ready=False)
        server.put_slices(
            [one, *others[:-1], Pod(node="a", address="10.0.0.98", ready=False, terminating=True)]
        )
        await followed.until_peers("b", "c")


async def test_own_endpoint_is_no_peer_whatever_its_name(server: FakeApiServer) -> None:
    server.put_slices([*pods("a"), Pod(node="other", address=OWN_POD.address)])
    async with following(server) as followed:
        await followed.until_peers("a")
        await followed.until_problem("other: listed at the address of another agent")


async def test_of_two_nodes_with_one_address_the_later_one_is_a_peer(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        server.put_slices([*pods("a", "b", "c"), Pod(node="new", address="10.0.0.98")])
        await followed.until_peers("b", "c", "new")
        server.put_slices([*pods("b", "c"), Pod(node="new", address="10.0.0.98")])
        await until(lambda: not followed.says("address of another"), "the old node has gone")
        assert followed.names == {"b", "c", "new"}


async def test_labels_of_this_node_come_from_its_node_late_and_again(server: FakeApiServer) -> None:
    server.put(NODES, node_object("own", {}))
    async with following(server) as followed:
        await until(lambda: set(followed.labels) == set(Learned), "the labels")
        assert ZONE_LABEL not in followed.labels[Learned.NODE]
        assert followed.labels[Learned.SLICE] == {ZONE_LABEL: "a"}
        for zone in ("b", "c"):
            server.put(NODES, node_object("own", {ZONE_LABEL: zone, "rack": "1"}))
            await until(
                lambda now=zone: followed.labels[Learned.NODE].get(ZONE_LABEL) == now,  # type: ignore[misc]
                "its zone",
            )


async def test_without_node_labels_no_node_is_asked_for_and_the_slice_has_the_zone(
    server: FakeApiServer,
) -> None:
    async with following(server, node_labels=False) as followed:
        await followed.until_peers("a", "b", "c")
        assert followed.labels == {Learned.SLICE: {ZONE_LABEL: "a"}}
    assert not server.asked.lists[NODES] + server.asked.watches[NODES]


async def test_node_that_may_not_be_read_is_said_once_and_the_peers_are_there(server: FakeApiServer) -> None:
    server.forbidden.add(NODES)
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        await followed.until_problem("this node's Node can't be read")
        assert followed.membership.problem is None
        await asyncio.sleep(1.0)  # for what should not happen
    assert server.asked.refused == 1


def at(name: str, address: str = "10.0.0.98", zone: str = "a") -> Peer:
    return Peer(name=node(name), address=address, port=30020, placement=located(None, zone))


async def test_agent_says_its_region_and_its_rack(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        said = located("eu", "a", ("rack", "7"))
        followed.membership.placed(at("a"), said)
        await until(lambda: followed.lists[-1][node("a")].placement == said, "where it says that it is")
        told = len(followed.lists)
        followed.membership.placed(at("a"), said)
        await asyncio.sleep(0.3)  # for what should not happen
        assert len(followed.lists) == told


async def test_log_tells_who_came_and_left_and_not_that_agents_say_where_they_are(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        followed.membership.placed(at("a"), located("eu", "a"))
        await until(lambda: not followed.lists[-1][node("a")].placement.partial, "where a says that it is")
        assert not [line for line in caplog.messages if "changed" in line]
        server.put_slices(pods("a", "b"))
        await followed.until_peers("a", "b")
        await until(lambda: "peers changed" in caplog.messages, "that c has left")


async def test_agent_does_not_talk_itself_into_another_zone(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        followed.membership.placed(at("a"), located("eu", "b", ("rack", "7")))
        await followed.until_problem("a says that it is in zone 'b'")
        assert followed.lists[-1][node("a")].placement == Placement(zone=Zone("a"), partial=True)


async def test_zone_of_a_slice_completes_what_an_agent_without_a_node_says(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        followed.membership.placed(at("a"), located())
        followed.membership.placed(at("b", "10.0.0.99"), located("eu"))
        await until(lambda: not followed.lists[-1][node("b")].placement.partial, "what b says")
        assert followed.lists[-1][node("b")].placement == located("eu", "a")
        assert followed.lists[-1][node("a")].placement == Placement(zone=Zone("a"), partial=True)


async def test_word_of_an_agent_at_an_address_of_before_does_not_count(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        followed.membership.placed(at("a", "10.7.7.7"), located("eu", "a", ("rack", "7")))
        server.put_slices(pods("a", "b", "c", "d"))
        await followed.until_peers("a", "b", "c", "d")
        assert followed.lists[-1][node("a")].placement.partial


async def test_agent_without_a_zone_in_its_slice_is_where_it_says(server: FakeApiServer) -> None:
    server.put_slices(pods("a", zone=None))
    async with following(server) as followed:
        await followed.until_peers("a")
        followed.membership.placed(at("a"), located("eu", "b"))
        await until(lambda: followed.lists[-1][node("a")].placement == located("eu", "b"), "where it says")


async def test_five_thousand_agents_in_slices_of_a_hundred_are_one_list_and_one_event_per_change() -> None:
    many = [
        Pod(
            node=f"node-{number}",
            address=f"10.{1 + number // 250}.0.{number % 250 + 1}",
            zone="abc"[number % 3],
        )
        for number in range(5000)
    ]
    async with FakeApiServer() as server:
        server.put_slices(many)
        async with following(server, node_labels=False) as followed:
            await until(lambda: len(followed.names) == 5000, "all of them")
            sent_bytes = server.asked.sent_bytes
            chosen = random.Random(1).randrange(100)
            gone = [pod for number, pod in enumerate(many[:100]) if number != chosen]
            server.put(SLICES, slice_object("shorthaul-peers-000", gone))
            await until(lambda: len(followed.names) == 4999, "one has gone")
            assert server.asked.sent_bytes - sent_bytes < 50_000  # that slice, and nothing else
    assert sum(server.asked.lists.values()) == 1
    assert sum(server.asked.watches.values()) == 1


async def test_reading_again_asks_for_nothing(server: FakeApiServer) -> None:
    async with following(server) as followed:
        await followed.until_peers("a", "b", "c")
        asked = len(server.asked.queries)
        followed.membership.reread()
        await asyncio.sleep(0.2)  # for what should not happen
        assert len(server.asked.queries) == asked


@pytest.mark.parametrize("stops", [True, False])
async def test_pod_that_stops_is_not_told_to_be_missing_and_one_that_is_not_ready_is(
    server: FakeApiServer, stops: bool
) -> None:
    own = Pod(node="own", address=OWN_POD.address, ready=False, terminating=stops)
    later_s = 0.0
    async with following(server, clock=lambda: time.monotonic() + later_s) as followed:
        await followed.until_peers("a", "b", "c")
        server.put_slices([own, *pods("a", "b")[1:]])
        await followed.until_peers("a", "b")
        later_s = 100.0
        server.put_slices([own, *pods("a", "b", "c")[1:]])
        await followed.until_peers("a", "b", "c")
        await until(lambda: followed.says("but not this node") is not stops, "it is told, or is not")
        await asyncio.sleep(0.2)  # for what should not happen
        assert followed.says("but not this node") is not stops
