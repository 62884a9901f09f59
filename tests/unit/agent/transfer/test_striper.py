"""One body from several holders: all bytes once and in order, whichever holder fails; all memory released."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvloop

from agent.peering.connections import PeerConnection
from agent.pull.events import Failure, Limits
from agent.pull.stripes import SEGMENT_BYTES
from agent.pull.striping import Striping
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.peers import PeerBody, PeerClient
from agent.transfer.sink import ClientGone, ClientSink
from agent.transfer.striper import StripeBuffers, Striper
from tests.unit.agent.transfer.relay import (
    KIB,
    MIB,
    Exchange,
    Received,
    close,
    delivered,
    eager,
    exchanging,
    head_for,
    holders,
    part_asked_for,
    pattern,
    reset,
    serving,
    stall,
    wanted,
)
from tests.unit.agent.transfer.scripted import (
    Connection,
    NoLeak,
    Script,
    ScriptedPeer,
    answer,
    scripted,
    until,
)
from tests.unit.twins import other_tasks
from topology.placement import Tier
from topology.ranking import Ranked

SEGMENT = MIB  # here, so that bodies need not be large
CONTENT = pattern(5 * SEGMENT + 12_345)
SOME_BYTES = 200 * KIB
SERVES = serving(CONTENT, pieces=lambda: 200 * KIB, pause_s=0.002)  # so that all have a turn


def make_buffers(size_bytes: int) -> StripeBuffers:
    return StripeBuffers(size_bytes, segment_bytes=SEGMENT)


def after_segments(number: int, then: Callable[[Connection], Coroutine[None, None, None]]) -> Script:
    """Serve this many whole segments correctly, and break off within the next one."""

    async def script(connection: Connection) -> None:
        for _ in range(number):
            head = await connection.request()
            start, stop = part_asked_for(head, CONTENT)
            connection.writer.write(head_for(head, CONTENT) + CONTENT[start:stop])
            await connection.writer.drain()
        head = await connection.request()
        start, stop = part_asked_for(head, CONTENT)
        connection.writer.write(head_for(head, CONTENT) + CONTENT[start : min(stop, start + SOME_BYTES)])
        await connection.writer.drain()
        await then(connection)

    return script


def answering(response: bytes) -> Script:
    """Answer all requests in the same way."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(response)

    return script


@dataclass
class StripedBody:
    """Delivers a body from several peers, the first of which has begun with it."""

    peers: list[ScriptedPeer]
    client: PeerClient
    buffers: StripeBuffers
    policy: Striping = field(default_factory=Striping)
    stall_s: float = 5.0
    floor_bytes_per_s: float = 0.0
    alone_bytes_per_s: float = 1.0
    judged_s: float = 2.0
    content: bytes = CONTENT
    start: int = 0
    failures: list[tuple[str, Failure, int]] = field(default_factory=list)
    credits: Counter[str] = field(default_factory=Counter)
    connections: set[PeerConnection] = field(default_factory=set)
    held: list[int] = field(default_factory=list)  # segments in memory, each time that somebody was asked
    useless: bool | None = None
    fetched: int = 0
    bug_in_fetch: int | None = None

    def ranked(self, place: int) -> Ranked:
        return Ranked(node=self.peers[place].peer.name, tier=Tier.ZONE, rank=1)

    async def fetch(self, holder: Ranked, asked: FetchRequest) -> PeerBody:
        self.fetched += 1
        if self.fetched == self.bug_in_fetch:
            raise ZeroDivisionError
        peer = next(peer.peer for peer in self.peers if peer.peer.name == holder.node)
        body = await self.client.fetch(peer, asked)
        assert body.connection is not None
        self.connections.add(body.connection)
        return body

    def lost(self, holder: Ranked, error: AttemptFailed, given_bytes: int) -> None:
        self.failures.append((holder.node, error.failure, given_bytes))

    def credit(self, holder: Ranked, size_bytes: int) -> None:
        self.credits[holder.node] += size_bytes

    async def __call__(self, sink: ClientSink) -> None:
        body = await self.fetch(self.ranked(0), wanted(self.content, self.start))
        await sink.begin(body.first)
        with self.buffers.share() as share:
            striper = Striper(
                wanted(self.content),
                body.position,
                len(self.content),
                limits=Limits(
                    patience_s=0.5,
                    deadline_s=10.0,
                    attempts_max=1,
                    stall_s=self.stall_s,
                    floor_bytes_per_s=self.floor_bytes_per_s,
                ),
                striping=self.policy,
                alone_bytes_per_s=self.alone_bytes_per_s,
                share=share,
                fetch=self.fetch,
                failed=self.lost,
                credit=self.credit,
                judged_s=self.judged_s,
            )
            others = [self.ranked(place) for place in range(1, len(self.peers))]
            watching = asyncio.create_task(self.watch(lambda: share.held))
            try:
                self.useless = await striper.run(sink, self.ranked(0), body, others)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def watch(self, held: Callable[[], int]) -> None:
        while True:
            self.held.append(held())
            await asyncio.sleep(0.001)


@dataclass
class Outcome:
    """The result of a striped body."""

    striping: StripedBody
    exchange: Exchange

    @property
    def got(self) -> bytes:
        return bytes(self.exchange.received.body)

    @property
    def failures(self) -> dict[str, Failure]:
        return {name: failure for name, failure, _ in self.striping.failures}


@asynccontextmanager
async def striping(
    *scripts: Script,
    client: Callable[[asyncio.StreamReader, Received], Coroutine[None, None, None]] = eager,
    sink_stall_s: float = 10.0,
    narrow: bool = False,
    buffers: StripeBuffers | None = None,
    **settings: object,
) -> AsyncIterator[tuple[StripedBody, Exchange]]:
    """A body that is being delivered. At the end no memory and no task of it may be left."""
    tasks = other_tasks()
    async with NoLeak(), holders(*scripts) as (peers, peer_client):
        buffers = buffers or make_buffers(4 * SEGMENT)
        made = StripedBody(peers, peer_client, buffers, **settings)  # type: ignore[arg-type]
        length = len(made.content) - made.start
        async with exchanging(
            made, length=length, client=client, stall_s=sink_stall_s, narrow=narrow
        ) as exchange:
            yield made, exchange
            await exchange.over.wait()
            assert buffers.free == 4, "memory was not given back"
            assert not {task for task in other_tasks() if task.get_name() == "lane"}, "a lane goes on"
    assert other_tasks() <= tasks


async def striped(*scripts: Script, **settings: object) -> Outcome:
    """A body from these peers, to its end."""
    async with striping(*scripts, **settings) as (made, exchange):  # type: ignore[arg-type]
        await exchange.over.wait()
        sent = exchange.sink.sent_bytes if exchange.sink else 0
        await until(lambda: len(exchange.received.body) >= sent, "what was sent has arrived")
    return Outcome(made, exchange)


def check_credits(outcome: Outcome) -> None:
    """All bytes after the first ones were credited to the holders that gave them."""
    sink = outcome.exchange.sink
    assert sink is not None
    assert outcome.striping.credits.total() == sink.ways["stripe"]
    assert sink.sent_bytes == sink.ways["stripe"] + sink.ways["memory"]


async def test_all_bytes_come_once_and_in_order_and_from_every_holder() -> None:
    outcome = await striped(SERVES, SERVES, SERVES, SERVES)
    assert outcome.exchange.error is None
    assert outcome.got == CONTENT
    assert outcome.failures == {}
    assert outcome.striping.useless is False
    assert outcome.striping.credits.keys() == {"p0", "p1", "p2", "p3"}
    check_credits(outcome)


def test_bytes_come_on_the_loop_of_the_agent_as_well() -> None:
    async def main() -> None:
        async with scripted(SERVES):
            pass  # a descriptor that libuv keeps for its loop is open now
        outcome = await striped(SERVES, SERVES, SERVES)
        assert outcome.got == CONTENT

    uvloop.run(main())


async def test_segments_may_be_as_large_as_they_are() -> None:
    content = pattern(3 * SEGMENT_BYTES + 1)
    outcome = await striped(
        *[serving(content)] * 3, content=content, buffers=StripeBuffers(4 * SEGMENT_BYTES)
    )
    assert outcome.got == content
    check_credits(outcome)


async def test_body_may_begin_anywhere() -> None:
    start = 2 * SEGMENT - 77
    outcome = await striped(SERVES, SERVES, start=start)
    assert outcome.got == CONTENT[start:]
    check_credits(outcome)


async def test_connections_are_used_again_and_as_they_were_before() -> None:
    async with striping(SERVES, SERVES) as (made, exchange):
        assert await delivered(exchange, len(CONTENT)) == CONTENT
        kept = [connection for connection in made.connections if connection.socket.fileno() >= 0]
        assert kept
        for connection in kept:
            assert connection.socket.getsockopt(1, 18) == 1, "SO_RCVLOWAT"
        assert len(made.peers[1].connections) == 1
        assert len(made.peers[1].requests) >= 2


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (close, {Failure.BROKEN}),
        (reset, {Failure.BROKEN}),
        (stall, {Failure.SILENT, Failure.LAGGING}),  # whatever is noticed first
    ],
)
@pytest.mark.parametrize("fails", [0, 1])
async def test_lane_that_fails_leaves_its_part_to_the_others(
    fails: int, then: Callable[[Connection], Coroutine[None, None, None]], expected: set[Failure]
) -> None:
    scripts = [SERVES, SERVES, SERVES]
    scripts[fails] = after_segments(0, then)
    outcome = await striped(*scripts, stall_s=0.4)
    assert outcome.exchange.error is None
    assert outcome.got == CONTENT
    assert outcome.failures.keys() == {f"p{fails}"}
    assert set(outcome.failures.values()) <= expected
    check_credits(outcome)


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (answer(status=404), Failure.MISSING),
        (answer(status=429, shorthaul_wait_ms=70), Failure.BUSY),
        (answer(status=500), Failure.ERROR),
        (b"SSH-2.0\r\n\r\n", Failure.INVALID),
        (answer(b"x" * 1000), Failure.OTHER_SIZE),
        (answer(content_length=len(CONTENT)), Failure.INVALID),
        (
            answer(status=206, content_length=10, content_range=f"bytes 0-9/{len(CONTENT)}"),
            Failure.INVALID,
        ),
    ],
)
async def test_lane_that_answers_otherwise_is_left_and_the_others_go_on(
    response: bytes, failure: Failure
) -> None:
    outcome = await striped(SERVES, answering(response), SERVES)
    assert outcome.got == CONTENT
    assert outcome.failures == {"p1": failure}
    assert outcome.striping.credits.keys() == {"p0", "p2"}


async def test_what_a_lane_gave_before_it_failed_is_told_and_used() -> None:
    outcome = await striped(SERVES, after_segments(0, close), SERVES)
    assert outcome.got == CONTENT
    assert outcome.striping.failures == [("p1", Failure.BROKEN, SOME_BYTES)]
    assert outcome.striping.credits["p1"] == SOME_BYTES


async def test_when_all_lanes_fail_the_body_ends_with_a_failure_where_it_is() -> None:
    outcome = await striped(after_segments(0, close), *[after_segments(1, close)] * 2)
    assert isinstance(outcome.exchange.error, AttemptFailed)
    assert outcome.failures == dict.fromkeys(("p0", "p1", "p2"), Failure.BROKEN)
    assert 0 < len(outcome.got) < len(CONTENT)
    assert CONTENT.startswith(outcome.got)
    check_credits(outcome)


async def test_body_goes_on_from_one_alone_when_only_one_is_left() -> None:
    """The segments that began are delivered. The rest needs no memory and no copying."""
    outcome = await striped(SERVES, answering(answer(status=404)))
    assert outcome.exchange.error is None
    assert outcome.striping.useless is False
    assert 0 < len(outcome.got) < len(CONTENT)
    assert CONTENT.startswith(outcome.got)


async def test_slow_lane_is_dismissed_and_does_not_hold_up_the_reader() -> None:
    crawls = serving(CONTENT, pieces=lambda: 4 * KIB, pause_s=0.02)
    started_s = time.monotonic()
    outcome = await striped(crawls, SERVES, SERVES)
    assert outcome.got == CONTENT
    assert outcome.failures == {"p0": Failure.LAGGING}
    alone_s = SEGMENT / (4 * KIB) * 0.02
    assert time.monotonic() - started_s < alone_s / 2
    check_credits(outcome)


async def test_lane_below_the_floor_is_given_up() -> None:
    crawls = serving(CONTENT, pieces=lambda: 100, pause_s=0.02)

    async def gives_nothing_to_compare_with(connection: Connection) -> None:
        await connection.request()
        await connection.closed()

    outcome = await striped(
        crawls,
        gives_nothing_to_compare_with,
        stall_s=0.5,
        floor_bytes_per_s=65536.0,
        start=len(CONTENT) - 2 * SEGMENT,
    )
    assert isinstance(outcome.exchange.error, AttemptFailed)
    assert outcome.failures == {"p0": Failure.SLOW, "p1": Failure.SILENT}


async def test_reader_slower_than_its_sources_is_waited_for_and_memory_stays_bounded() -> None:
    may_read = asyncio.Event()

    async def late(reader: asyncio.StreamReader, received: Received) -> None:
        await may_read.wait()
        await eager(reader, received)

    content = pattern(7 * SEGMENT)
    scripts = [serving(content)] * 4
    async with striping(*scripts, client=late, content=content, narrow=True) as (made, exchange):
        await until(lambda: bool(made.held) and made.held[-1] == 4, "all memory is used")
        await asyncio.sleep(0.1)
        assert made.held[-1] == 4
        may_read.set()
        assert await delivered(exchange, len(content)) == content
        assert max(made.held) == 4
        assert made.failures == []


async def test_bodies_share_the_memory_and_each_has_two_segments_for_certain() -> None:
    buffers = make_buffers(6 * SEGMENT)
    with buffers.share() as one:
        taken = [one.acquire() for _ in range(4)]
        assert one.held == 4
        assert Striping().lanes_max(buffers.free, 0.0) > 1
        with buffers.share() as other:
            assert buffers.free == 0
            assert Striping().lanes_max(buffers.free, 0.0) == 1, "no room for a third"
            assert not one.room
            assert other.room
            two = [other.acquire(), other.acquire()]
            assert not other.room
            one.release(taken.pop())
            assert one.room, "its own memory is used again"
            assert not other.room
            for memory in two:
                other.release(memory)
        for memory in taken:
            one.release(memory)
    assert buffers.free == 6


@pytest.mark.parametrize("size_bytes", [0, SEGMENT, 2 * SEGMENT - 1])
def test_without_memory_for_two_segments_nothing_is_striped(size_bytes: int) -> None:
    assert Striping().lanes_max(make_buffers(size_bytes).free, 0.0) == 1


async def test_several_that_are_no_faster_than_one_end_what_they_have_begun() -> None:
    paced = serving(CONTENT, pieces=lambda: 256 * KIB, pause_s=0.05)
    async with striping(paced, paced, alone_bytes_per_s=1e12, judged_s=0.1) as (made, exchange):
        await exchange.over.wait()
        assert exchange.error is None
        assert made.useless
        assert exchange.sink is not None
        sent = exchange.sink.sent_bytes
        assert 0 < sent < len(CONTENT)
        await until(lambda: len(exchange.received.body) >= sent, "it arrives")
        assert CONTENT.startswith(exchange.received.body)
        assert made.policy.lanes_max(made.buffers.free, time.monotonic()) == 1
        assert made.failures == []


@pytest.mark.parametrize("when", ["receiving", "sending", "asking"])
async def test_cancelling_gives_back_memory_connections_and_tasks(when: str) -> None:
    async def some(reader: asyncio.StreamReader, received: Received) -> None:
        received.body += await reader.readexactly(SOME_BYTES)
        await asyncio.Event().wait()

    async def silent(connection: Connection) -> None:
        await connection.request()
        await connection.closed()

    scripts = {"receiving": after_segments(1, stall), "sending": SERVES, "asking": silent}
    first = after_segments(0, stall) if when != "sending" else SERVES
    reads = some if when == "sending" else eager
    others = [scripts[when]] * 2
    async with striping(first, *others, client=reads, narrow=when == "sending") as (made, exchange):
        await until(lambda: made.fetched >= 3, "it is under way")
        await asyncio.sleep(0.2)
        assert exchange.task is not None
        exchange.task.cancel()
        await exchange.over.wait()
        assert isinstance(exchange.error, asyncio.CancelledError)
        assert made.failures == []


async def test_client_that_goes_gives_back_all() -> None:
    async def some(reader: asyncio.StreamReader, received: Received) -> None:
        received.body += await reader.readexactly(SEGMENT)
        await asyncio.Event().wait()

    async with striping(SERVES, SERVES, client=some, sink_stall_s=0.2, narrow=True) as (made, exchange):
        await exchange.over.wait()
        assert isinstance(exchange.error, ClientGone)
        assert made.failures == []


async def test_bug_in_a_lane_ends_the_body_at_once_and_is_not_taken_for_a_peers_failure() -> None:
    outcome = await striped(SERVES, SERVES, bug_in_fetch=2)
    assert isinstance(outcome.exchange.error, ZeroDivisionError)
    assert outcome.failures == {}
