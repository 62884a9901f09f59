"""Bytes on their way from a peer to a client: exact in any chunking, and nothing left behind."""

import asyncio
import random
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.peering.connections import PeerConnection
from agent.pull.bucket import TokenBucket
from agent.pull.events import Failure
from agent.pull.meter import Meter, Rate
from agent.transfer.answers import AttemptFailed
from agent.transfer.peers import PeerBody, PeerClient
from agent.transfer.relays import Relays
from agent.transfer.sink import ClientGone, ClientSink
from tests.unit.agent.transfer.relay import (
    KIB,
    MIB,
    Received,
    close,
    delivered,
    eager,
    exchanging,
    holders,
    pattern,
    reset,
    serving,
    serving_until,
    stall,
    wanted,
)
from tests.unit.agent.transfer.scripted import Connection, NoLeak, Script, ScriptedPeer, until

STALL_S = 5.0
CONTENT = pattern(3 * MIB + 12_345)
LARGE = pattern(16 * MIB)  # more than the buffers of two loopback connections hold
ZERO_COPY = pytest.mark.parametrize("zero_copy", [True, False], ids=["splice", "copy"])


@dataclass
class Relaying:
    """Relays one body. Records its rates and its connection."""

    relays: Relays
    client: PeerClient
    source: ScriptedPeer
    content: bytes
    start: int = 0
    stop: int | None = None
    stall_s: float = STALL_S
    rates: list[Rate] = field(default_factory=list)
    meter: Meter = field(default_factory=lambda: Meter(time.monotonic(), window_s=STALL_S))
    connection: PeerConnection | None = None
    body: PeerBody | None = None

    async def __call__(self, sink: ClientSink) -> None:
        spec = wanted(self.content, self.start, self.stop)
        body = self.body = await self.client.fetch(self.source.peer, spec)
        self.connection = body.connection
        try:
            await sink.begin(body.first)
            self.rates += [rate async for rate in self.relays.move(body, sink, self.meter, self.stall_s)]
        finally:
            body.close()

    @property
    def kept(self) -> bool:
        """Whether the connection went back to the pool and was not closed."""
        assert self.connection is not None
        return self.connection.socket.fileno() >= 0

    @property
    def wakes_for_bytes(self) -> int:
        assert self.connection is not None
        return self.connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


@ZERO_COPY
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_client_gets_exactly_the_bytes_whatever_pieces_they_come_in(zero_copy: bool, seed: int) -> None:
    dice = random.Random(seed)
    sizes = dice.choice(((1, 100), (1, 5000), (1, 300 * KIB), (MIB, 2 * MIB)))
    length = dice.randint(1, min(len(CONTENT), 300 * sizes[1]))
    start = dice.randint(0, len(CONTENT) - length)

    async def main() -> None:
        relays = Relays(zero_copy=zero_copy)
        async with holders(serving(CONTENT, pieces=lambda: dice.randint(*sizes))) as ((source,), client):
            relaying = Relaying(relays, client, source, CONTENT, start, start + length)
            async with exchanging(relaying, length=length) as exchange:
                assert await delivered(exchange, length) == CONTENT[start : start + length]
                assert exchange.ways.keys() <= {"memory", "splice" if zero_copy else "copy"}
                assert relaying.kept
                assert relaying.wakes_for_bytes == 1, "the next request would never be answered"
                assert relaying.meter.moved_bytes == length - exchange.ways["memory"]
        relays.close()

    with NoLeak():
        asyncio.run(main())


@ZERO_COPY
def test_bytes_move_on_the_loop_of_the_agent_as_well(zero_copy: bool) -> None:
    async def main() -> None:
        relays = Relays(zero_copy=zero_copy)
        async with holders(serving(LARGE)) as ((source,), client):
            relaying = Relaying(relays, client, source, LARGE)
            async with exchanging(relaying, length=len(LARGE)) as exchange:
                assert await delivered(exchange, len(LARGE)) == LARGE
        relays.close()

    uvloop.run(asyncio.sleep(0))  # which keeps a pipe for good
    with NoLeak():
        uvloop.run(main())


@ZERO_COPY
async def test_connection_serves_one_body_after_the_other(zero_copy: bool) -> None:
    relays = Relays(zero_copy=zero_copy)
    async with holders(serving(CONTENT)) as ((source,), client):
        for start in (0, 1, 2 * MIB):
            length = len(CONTENT) - start
            async with exchanging(
                Relaying(relays, client, source, CONTENT, start), length=length
            ) as exchange:
                assert await delivered(exchange, length) == CONTENT[start:]
        assert len(source.connections) == 1
    relays.close()


@ZERO_COPY
async def test_body_that_came_along_with_its_head_needs_no_moving(zero_copy: bool) -> None:
    relays = Relays(zero_copy=zero_copy)

    async def script(connection: Connection) -> None:
        await connection.request()
        head = f"HTTP/1.1 206 OK\r\ncontent-length: 100\r\ncontent-range: bytes 5-104/{len(CONTENT)}\r\n\r\n"
        await connection.send(head.encode() + CONTENT[5:105])
        await connection.closed()

    async with holders(script) as ((source,), client):
        relaying = Relaying(relays, client, source, CONTENT, 5, 105)
        async with exchanging(relaying, length=100) as exchange:
            assert await delivered(exchange, 100) == CONTENT[5:105]
            assert exchange.ways == {"memory": 100}
    relays.close()


@dataclass
class Broken:
    """A relay that failed: what its client had got before, and in which way."""

    got: bytes
    error: BaseException | None
    relaying: Relaying
    sink: ClientSink


async def broken(
    script: Script,
    *,
    zero_copy: bool,
    content: bytes = LARGE,
    stall_s: float = STALL_S,
) -> Broken:
    relays = Relays(zero_copy=zero_copy)
    async with holders(script) as ((source,), client):
        relaying = Relaying(relays, client, source, content, stall_s=stall_s)
        async with exchanging(relaying, length=len(content)) as exchange:
            await exchange.over.wait()
            await until(lambda: exchange.received.ended, "the client sees an end")
            assert exchange.sink is not None
            outcome = Broken(bytes(exchange.received.body), exchange.error, relaying, exchange.sink)
            assert not relaying.kept, "a connection in the middle of a body is of no more use"
    relays.close()
    return outcome


@ZERO_COPY
@pytest.mark.parametrize("at", [300 * KIB, 5 * MIB + 1, len(LARGE) - 1])
async def test_peer_that_closes_early_broke_off_and_what_it_gave_was_passed_on(
    at: int, zero_copy: bool
) -> None:
    async with NoLeak():
        outcome = await broken(serving_until(LARGE, at, close), zero_copy=zero_copy)
    assert isinstance(outcome.error, AttemptFailed)
    assert outcome.error.failure is Failure.BROKEN
    assert outcome.got == LARGE[:at]
    assert outcome.sink.sent_bytes == at


@ZERO_COPY
async def test_peer_that_resets_broke_off(zero_copy: bool) -> None:
    outcome = await broken(serving_until(LARGE, 5 * MIB, reset), zero_copy=zero_copy)
    assert isinstance(outcome.error, AttemptFailed)
    assert outcome.error.failure is Failure.BROKEN
    assert outcome.got == LARGE[: outcome.sink.sent_bytes]


@ZERO_COPY
async def test_peer_that_stalls_is_silent_and_what_it_gave_was_passed_on(
    zero_copy: bool,
) -> None:
    at = 5 * MIB + 77  # the last bytes are too few for the kernel to wake the loop
    outcome = await broken(serving_until(LARGE, at, stall), zero_copy=zero_copy, stall_s=0.4)
    assert isinstance(outcome.error, AttemptFailed)
    assert outcome.error.failure is Failure.SILENT
    assert outcome.got == LARGE[:at]
    assert outcome.relaying.meter.waited_s >= 0.4


async def test_time_in_which_this_node_did_not_run_is_no_silence_of_a_peer_that_then_goes_on() -> None:
    at = 5 * MIB

    async def hold_up(connection: Connection) -> None:
        await asyncio.sleep(0.02)  # the relay waits for the next byte now
        time.sleep(1.8)  # noqa: ASYNC251 - the whole process stands still
        await asyncio.sleep(0.2)  # the relay runs before the peer
        await connection.send(LARGE[at:])
        await connection.closed()

    relays = Relays(zero_copy=False)
    async with holders(serving_until(LARGE, at, hold_up)) as ((source,), client):
        relaying = Relaying(relays, client, source, LARGE, stall_s=1.0)
        async with exchanging(relaying, length=len(LARGE)) as exchange:
            assert await delivered(exchange, len(LARGE)) == LARGE
    relays.close()


@ZERO_COPY
async def test_peer_that_gives_a_little_again_and_again_is_not_silent(zero_copy: bool) -> None:
    """The pieces are too small for the kernel to wake the loop, and they come rarely."""
    content = pattern(MIB)
    relays = Relays(zero_copy=zero_copy)
    slow = serving(content, pieces=lambda: 40 * KIB, pause_s=0.03)
    async with holders(slow) as ((source,), client):
        relaying = Relaying(relays, client, source, content, stall_s=1.0)
        async with exchanging(relaying, length=len(content)) as exchange:
            assert await delivered(exchange, len(content)) == content
        assert relaying.rates, "it tells how it comes along"
        assert all(rate.source_bound for rate in relaying.rates)
        assert relaying.wakes_for_bytes == 1
    relays.close()


@ZERO_COPY
async def test_reader_slower_than_its_source_is_waited_for_and_the_source_is_not_blamed(
    zero_copy: bool,
) -> None:
    relays = Relays(zero_copy=zero_copy)
    may_read = asyncio.Event()

    async def late(reader: asyncio.StreamReader, received: Received) -> None:
        await may_read.wait()
        while part := await reader.read(MIB):
            received.body += part
        received.ended = True

    async with holders(serving(LARGE, pieces=lambda: 4 * MIB)) as ((source,), client):
        relaying = Relaying(relays, client, source, LARGE, stall_s=0.3)
        async with exchanging(relaying, length=len(LARGE), client=late) as exchange:
            await until(lambda: relaying.meter.moved_bytes > 0, "it has begun")
            before = -1
            while before != relaying.meter.moved_bytes:  # until the client's buffers are full
                before = relaying.meter.moved_bytes
                await asyncio.sleep(0.2)
            await asyncio.sleep(0.5)  # longer than a source may stall
            may_read.set()
            assert await delivered(exchange, len(LARGE)) == LARGE
            assert exchange.error is None
            assert exchange.sink is not None
            assert exchange.sink.held_s >= 0.5
            assert relaying.meter.waited_s < 0.5
    relays.close()


@ZERO_COPY
async def test_client_that_takes_nothing_for_its_time_is_gone(zero_copy: bool) -> None:
    relays = Relays(zero_copy=zero_copy)

    async def never(reader: asyncio.StreamReader, received: Received) -> None:
        await asyncio.Event().wait()

    async with NoLeak():
        async with holders(serving(LARGE, pieces=lambda: 4 * MIB)) as ((source,), client):
            relaying = Relaying(relays, client, source, LARGE)
            async with exchanging(relaying, length=len(LARGE), client=never, stall_s=0.2) as exchange:
                await exchange.over.wait()
                assert isinstance(exchange.error, ClientGone)
                assert not relaying.kept
                assert len(relays._pipes) == 0, "one that still holds bytes is of no more use"
        relays.close()


@ZERO_COPY
async def test_client_that_closes_is_gone_and_its_source_is_let_go(zero_copy: bool) -> None:
    relays = Relays(zero_copy=zero_copy)
    enough = asyncio.Event()

    async def some(reader: asyncio.StreamReader, received: Received) -> None:
        while len(received.body) < MIB:
            received.body += await reader.read(64 * KIB)
        enough.set()
        await asyncio.Event().wait()

    async with NoLeak():
        async with holders(serving(LARGE)) as ((source,), client):
            relaying = Relaying(relays, client, source, LARGE)
            async with exchanging(relaying, length=len(LARGE), client=some) as exchange:
                await enough.wait()
                assert exchange.task is not None
                assert not exchange.over.is_set()
            # The client's connection is closed by now.
            await exchange.over.wait()
            assert isinstance(exchange.error, ClientGone | asyncio.CancelledError)
            assert not relaying.kept
            await until(lambda: source.connections[0].over, "the peer is let go")
        relays.close()


@ZERO_COPY
@pytest.mark.parametrize("waits_for", ["source", "client"])
async def test_cancelled_relay_leaves_nothing_behind(waits_for: str, zero_copy: bool) -> None:
    relays = Relays(zero_copy=zero_copy)

    async def never(reader: asyncio.StreamReader, received: Received) -> None:
        await asyncio.Event().wait()

    script = serving_until(LARGE, 5 * MIB, stall) if waits_for == "source" else serving(LARGE)
    async with NoLeak():
        async with holders(script) as ((source,), client):
            relaying = Relaying(relays, client, source, LARGE)
            reads = eager if waits_for == "source" else never
            async with exchanging(relaying, length=len(LARGE), client=reads) as exchange:
                before = -1
                while before != relaying.meter.moved_bytes or not before:
                    before = relaying.meter.moved_bytes
                    await asyncio.sleep(0.1)
                assert exchange.task is not None
                exchange.task.cancel()
                await exchange.over.wait()
                assert isinstance(exchange.error, asyncio.CancelledError)
                assert not relaying.kept
        relays.close()


async def test_pipes_are_used_again_and_closed_in_the_end() -> None:
    relays = Relays(zero_copy=True)
    async with NoLeak():
        async with holders(serving(CONTENT)) as ((source,), client):
            for _ in range(3):
                relaying = Relaying(relays, client, source, CONTENT)
                async with exchanging(relaying, length=len(CONTENT)) as exchange:
                    await delivered(exchange, len(CONTENT))
                assert len(relays._pipes) == 1
        relays.close()


@ZERO_COPY
async def test_limit_is_kept(zero_copy: bool) -> None:
    relays = Relays(zero_copy=zero_copy)
    content, rate = pattern(MIB), 4 * MIB
    async with holders(serving(content)) as ((source,), client):
        relaying = Relaying(relays, client, source, content)
        started_s = time.monotonic()
        async with exchanging(relaying, length=len(content), limit=TokenBucket(rate)) as exchange:
            assert await delivered(exchange, len(content)) == content
            assert time.monotonic() - started_s >= len(content) / rate - 0.1, "but for a burst"
            assert exchange.sink is not None
            assert exchange.sink.held_s > 0
    relays.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("zero_copy", [True, False])
def test_without_a_descriptor_left_bytes_are_copied_and_arrive_unchanged(
    run: Callable[[Coroutine[None, None, None]], None], zero_copy: bool
) -> None:
    """aiohttp's transport copies them. It may still hold earlier bytes when the next ones come."""

    def dup(_: int) -> int:
        raise OSError(24, "Too many open files")

    length = 350 * KIB

    async def main() -> None:
        relays = Relays(zero_copy=zero_copy)
        slow = serving(CONTENT, pieces=lambda: 5 * KIB, pause_s=0.002)
        async with holders(slow) as ((source,), client):
            relaying = Relaying(relays, client, source, CONTENT, 0, length)

            async def late(reader: asyncio.StreamReader, received: Received) -> None:
                await asyncio.sleep(0.3)  # until the buffers in between are full
                await eager(reader, received)

            async with exchanging(
                relaying, length=length, client=late, narrow=True, duplicate=dup
            ) as exchange:
                got = await delivered(exchange, length)
                wrong = [at for at in range(0, length, KIB) if got[at : at + KIB] != CONTENT[at : at + KIB]]
                assert not wrong, f"{len(wrong)} KiB are wrong, the first at {wrong[0]}"
                assert len(got) == length
                assert exchange.ways.keys() == {"memory", "copy"}
        relays.close()

    run(main())
