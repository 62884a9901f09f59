"""What a report does: a peer speaks for itself only. The connections are tested in test_measurer.py."""

import gc
import tracemalloc
from contextlib import AsyncExitStack

import pytest

from agent.latency.receiver import ReportDesk, receive_report
from agent.latency.wire import PATH, NodeReport, encode_report
from agent.members.identities import Identities
from agent.members.member import Peer
from agent.members.problems import Problems
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.peering.dial import Dialer
from agent.peering.websocket import PeerSocket
from agent.pull.regard import Regard
from tests.unit.agent.peering.raw import web_server
from tests.unit.agent.transfer.scripted import until
from tests.unit.twins import CREDENTIALS, located, node, peer, peers
from topology.placement import NodeName, Placement, Zone, ZoneKey
from topology.zones import REPORT_ZONES_MAX, Report

WHERE = located("eu", "eu-a", ("rack", "7"))


def received(
    name: str, address: str, placement: Placement | None = WHERE, proved: str | None = None
) -> list[tuple[NodeName, Placement]]:
    """Whom a report in this name from this address places, and where."""
    roster, placed = Roster(own=node("own"), placement=located()), list[tuple[NodeName, Placement]]()
    roster.update(peers(peer("one", located())))

    def place(told: Peer, where: Placement) -> None:
        placed.append((told.name, where))

    receive_report(
        roster,
        Identities(instance="i", roster=roster, problems=Problems(), report_ttl_s=60.0),
        Regard(cooloff_s=5.0, cooloff_max_s=80.0, report_s=15.0),
        Metrics(),
        lambda _node: None,
        place,
        NodeReport(node=node(name), report=Report(zones={}, nodes={}), placement=placement),
        address,
        None if proved is None else node(proved),
    )
    return placed


def test_peer_says_where_it_is_from_its_own_address() -> None:
    assert received("one", "192.0.2.1") == [("one", WHERE)]


@pytest.mark.parametrize(
    ("name", "address"), [("one", "192.0.2.9"), ("two", "192.0.2.1"), ("own", "192.0.2.1")]
)
def test_nobody_says_where_another_one_is(name: str, address: str) -> None:
    assert received(name, address) == []


def test_proved_name_counts_and_not_the_address() -> None:
    assert received("one", "203.0.113.1", proved="one") == [("one", WHERE)]
    assert received("one", "192.0.2.1", proved="two") == []
    assert received("own", "192.0.2.1", proved="own") == []


def test_agent_of_before_says_nothing() -> None:
    assert received("one", "192.0.2.1", None) == []


async def test_last_report_of_a_peer_is_not_kept_while_the_next_is_waited_for() -> None:
    zones = {
        ZoneKey(region=None, zone=Zone(f"{'z' * 200}{number}")): 1.0 for number in range(REPORT_ZONES_MAX)
    }
    message = encode_report(node("one"), Report(zones=zones, nodes={}))
    heard: list[str] = []
    desk = ReportDesk(lambda received, *_: heard.append(received.node), lambda: None)
    async with (
        web_server(lambda request: desk.serve(request, f"at {request.remote}:{id(request)}")) as server,
        Dialer(credentials=CREDENTIALS, connect_s=5.0) as dialer,
        AsyncExitStack() as stack,
    ):
        opened: list[PeerSocket] = []
        for _ in range(8):
            opened.append(
                await dialer.open_websocket(server.peer(), PATH, timeout_s=5.0, message_max_bytes=1024)
            )
            stack.push_async_callback(opened[-1].close)
        tracemalloc.start()
        try:
            for socket in opened:
                await socket.send(message)
            await until(lambda: len(heard) == len(opened), "all reports came")
            gc.collect()
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept_bytes < 4 * len(message), "of eight reports of this length"
