"""The measurer against real peers on loopback: it reports, rotates, gives up, and leaves nothing open."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import uvloop
from aiohttp import web

from agent.config import LatencySettings
from agent.latency.measurer import Measurer
from agent.latency.receiver import ReportDesk
from agent.latency.wire import PATH, NodeReport
from agent.members.member import Peer, Peers
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.peering.dial import Dialer
from agent.pull.regard import Regard
from tests.unit.agent.peering.raw import accept_upgrade, vanish
from tests.unit.agent.transfer.scripted import Connection, descriptors, opened_since, scripted
from tests.unit.twins import CREDENTIALS, located, node, other_tasks, peers, zone_key
from topology.placement import Placement

AT_MOST_S = 20.0
QUICK = {"interval_s": 0.02, "report_s": 0.05, "rotate_s": 36000.0}


@dataclass
class RealPeer:
    """A report desk on a loopback port."""

    address: tuple[str, int]
    desk: ReportDesk
    told: list[NodeReport] = field(default_factory=list)
    opened: int = 0

    def member(self, name: str, placement: Placement) -> Peer:
        host, port = self.address
        return Peer(name=node(name), address=host, port=port, placement=placement)


@asynccontextmanager
async def real_peer(at_port: int = 0) -> AsyncIterator[RealPeer]:
    made: list[RealPeer] = []
    desk = ReportDesk(lambda told, *_: made[0].told.append(told), lambda: None)

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        assert request.path == PATH
        made[0].opened += 1
        return await desk.serve(request, request.remote or "")

    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", at_port, reuse_address=True)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.append(RealPeer(address=(host, port), desk=desk))
    try:
        yield made[0]
    finally:
        await desk.close()
        await runner.cleanup()


@dataclass
class Running:
    measurer: Measurer
    roster: Roster
    metrics: Metrics
    regard: Regard

    def count(self, result: str) -> float:
        """The number of measurements with this result."""
        line = f'shorthaul_latency_measurements_total{{result="{result}"}} '
        found = [text for text in self.metrics.expose().decode().splitlines() if text.startswith(line)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0


@asynccontextmanager
async def running(members: Peers, **settings: object) -> AsyncIterator[Running]:
    roster = Roster(own=node("own"), placement=located("r", "a"))
    roster.update(members)
    metrics = Metrics()
    dialer = Dialer(credentials=CREDENTIALS, connect_s=3.0)
    regard = Regard(cooloff_s=5.0)
    roster.on_change(regard.members_changed)
    regard.members_changed(roster.peers)
    measurer = Measurer(
        roster=roster,
        regard=regard,
        settings=LatencySettings(**{**QUICK, **settings}),  # type: ignore[arg-type]
        metrics=metrics,
        load=lambda: 3,
        dialer=dialer,
    )
    async with dialer, measurer:
        task = asyncio.create_task(measurer.run())
        try:
            yield Running(measurer, roster, metrics, regard)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], what: str) -> None:
    loop = asyncio.get_running_loop()
    until_s = loop.time() + AT_MOST_S
    while not condition():
        assert loop.time() < until_s, f"not within {AT_MOST_S} s: {what}"
        await asyncio.sleep(0.005)


async def test_peer_is_measured_again_and_again() -> None:
    async with real_peer() as one, running(peers(one.member("p", located("r", "a")))) as run:
        await until(lambda: run.count("measured") >= 6, "samples")
        estimate = run.roster.topology.estimate(node("p"), run.measurer._clock())
        assert estimate is not None
        assert 0 < estimate.low_us < 10_000_000
        assert run.measurer.measured == ("p",)
        assert one.opened == 1


async def test_peer_hears_what_was_measured_and_how_busy_this_node_is() -> None:
    async with real_peer() as one, running(peers(one.member("p", located("r", "b")))) as run:
        await until(lambda: bool(one.told) and bool(one.told[-1].report.zones), "reports")
        told = one.told[-1]
        assert told.node == "own"
        assert told.report.load == 3
        assert told.report.zones.keys() == {zone_key("r/b")}
        assert run.count("measured")


async def test_peer_that_left_is_not_measured_any_more() -> None:
    async with real_peer() as one, real_peer() as other:
        stays, leaves = one.member("stays", located("r", "a")), other.member("leaves", located("r", "a"))
        async with running(peers(stays, leaves)) as run:
            await until(lambda: set(run.measurer.measured) == {"stays", "leaves"}, "two connections")
            run.roster.update(peers(stays))
            await until(lambda: run.measurer.measured == ("stays",), "one connection")
            await until(lambda: not len(other.desk), "the other end closed")


async def test_peer_that_moved_to_another_address_is_measured_there() -> None:
    async with (
        real_peer() as one,
        real_peer() as other,
        running(peers(one.member("p", located("r", "a")))) as run,
    ):
        await until(lambda: one.opened == 1, "a measuring connection")
        run.roster.update(peers(other.member("p", located("r", "a"))))
        await until(lambda: bool(other.told), "a report at the new address")


async def test_peer_that_was_listed_at_a_wrong_address_is_measured_at_the_right_one_at_once() -> None:
    async with real_peer() as gone:
        pass
    async with real_peer() as one, running(peers(gone.member("p", located("r", "a")))) as run:
        await until(lambda: run.count("unreachable") >= 2, "it failed twice")
        run.roster.update(peers(one.member("p", located("r", "a"))))
        assert run.regard.failure(node("p")) is None, "that was somebody else"
        await until(lambda: run.measurer.measured == ("p",), "a measuring connection")
        assert run.count("unreachable") == 2


async def test_peer_that_cannot_be_reached_is_counted_and_left_alone_for_a_while() -> None:
    async with real_peer() as gone:
        pass
    async with real_peer() as one:
        members = peers(gone.member("gone", located("r", "a")), one.member("p", located("r", "a")))
        async with running(members) as run:
            await until(lambda: run.count("measured") >= 10, "the other is measured")
            assert run.count("unreachable") == 1
            assert run.measurer.measured == ("p",)
            silence = run.regard.silence(node("gone"))
            assert silence is not None
            assert silence.words == "connection refused"


async def test_peer_that_was_silent_is_measured_as_soon_as_it_answered_anything() -> None:
    """Otherwise it would be left alone for up to a minute, because it failed often before."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, port = free.getsockname()
    came_back = Peer(name=node("p"), address=host, port=port, placement=located("r", "a"))
    async with running(peers(came_back)) as run:
        await until(lambda: run.count("unreachable") >= 2, "it failed twice: now it is left alone for 2 s")
        async with real_peer(port) as peer:
            run.regard.heard(node("p"), time.monotonic())
            await until(lambda: peer.opened == 1, "a measuring connection")
            assert run.regard.silence(node("p")) is None


async def test_connection_that_opens_is_a_sign_of_life() -> None:
    async with real_peer() as one, running(peers(one.member("p", located("r", "a")))) as run:
        run.regard.noted(node("p"), "connection refused", time.monotonic(), silent=True)
        await one.desk.close()
        await until(lambda: run.regard.silence(node("p")) is None, "it is heard")


async def test_peer_that_closes_the_connection_is_measured_anew() -> None:
    async with real_peer() as one, running(peers(one.member("p", located("r", "a")))) as run:
        await until(lambda: run.count("measured") >= 3, "samples")
        await one.desk.close()
        await until(lambda: one.opened >= 2, "a second connection")
        before = run.count("measured")
        await until(lambda: run.count("measured") >= before + 3, "more samples")


def test_peer_that_closes_the_connection_is_measured_anew_on_the_loop_of_the_agent() -> None:
    async def main() -> None:
        async with real_peer() as one, running(peers(one.member("p", located("r", "a")))) as run:
            for connections in range(2, 12):
                await until(lambda: len(one.desk) > 0, "a connection")
                await one.desk.close()
                await until(lambda count=connections: one.opened >= count, "another connection")  # type: ignore[misc]
            before = run.count("measured")
            await until(lambda: run.count("measured") >= before + 3, "more samples")

    uvloop.run(main())


async def test_peer_that_does_not_speak_the_protocol_is_unreachable() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        old = Peer(name=node("old"), address=host, port=port, placement=located("r", "a"))
        async with running(peers(old)) as run:
            await until(lambda: run.count("unreachable") == 1, "a refusal")
            assert run.measurer.measured == ()
            assert run.regard.silence(node("old")) is None  # it answers, although nothing useful
            failure = run.regard.failure(node("old"))
            assert failure is not None
            assert failure.words == "status 404, and not by an agent"


async def test_connections_are_bounded_and_everybody_has_a_turn() -> None:
    async with real_peer() as one:
        members = peers(*(one.member(f"p{number}", located("r", "a")) for number in range(6)))
        seen: set[str] = set()
        async with running(members, own_zone=2, connections_max=2, rotate_s=0.1) as run:

            def all_seen() -> bool:
                assert len(run.measurer.measured) <= 2
                seen.update(run.measurer.measured)
                return len(seen) == 6

            await until(all_seen, "everybody")


async def test_probing_that_is_turned_off_opens_nothing() -> None:
    async with real_peer() as one:
        roster = Roster(own=node("own"), placement=located("r", "a"))
        roster.update(peers(one.member("p", located("r", "a"))))
        measurer = Measurer(
            roster=roster,
            regard=Regard(cooloff_s=5.0),
            settings=LatencySettings(measure=False),
            metrics=Metrics(),
            load=lambda: 0,
            dialer=Dialer(credentials=CREDENTIALS, connect_s=3.0),
        )
        async with measurer:
            await measurer.run()
        assert one.opened == 0


async def test_node_without_peers_waits_for_some() -> None:
    async with real_peer() as one, running({}) as run:
        run.roster.update(peers(one.member("p", located("r", "a"))))
        await until(lambda: run.measurer.measured == ("p",), "a measuring connection")


@pytest.mark.parametrize("after", [0, 3])
async def test_prober_that_ends_leaves_no_task_and_no_connection(after: int) -> None:
    before = other_tasks()
    async with real_peer() as one:
        async with running(peers(one.member("p", located("r", "a")))) as run:
            await until(lambda: run.count("measured") >= after, "samples")
        await until(lambda: not len(one.desk), "the other end closed")
        assert run.measurer.measured == ()
    await until(lambda: other_tasks() <= before, "no task is left")


async def test_peers_that_vanish_without_a_word_are_measured_anew_and_leave_no_connection() -> None:
    async def accept(connection: Connection) -> None:
        await accept_upgrade(connection)
        await connection.closed()

    async with scripted(accept) as server:
        near = replace(server.peer, placement=located("r", "a"))
        members = peers(*(replace(near, name=node(f"p{number}")) for number in range(6)))
        before = descriptors()
        async with running(members, own_zone=6) as run:
            await until(lambda: len(run.measurer.measured) == 6, "six connections")
            for connection in server.connections[:6]:
                await vanish(connection.writer)
            await until(lambda: len(server.connections) == 12, "six new connections")
            await until(lambda: len(run.measurer.measured) == 6, "six connections again")
            await until(lambda: opened_since(before) == 12 + 6, "the peers' own sockets are left")
        for connection in server.connections[:6]:
            connection.reset()
