"""One connection for many callers, and servers that break the order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from agent.holders.valkey.lane import Lane
from agent.holders.valkey.trouble import IndexDown, of_silence
from agent.holders.valkey.wire import open_wire
from agent.observe.index_metrics import IndexTrouble
from tests.unit.agent.holders.valkey.rig import listening

PING = ("PING",)
_PING_BYTES = b"*1\r\n$4\r\nPING\r\n"


class Scripted:
    """A server that answers what a test lets it."""

    def __init__(self) -> None:
        self.got = b""
        self.answers: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading = asyncio.create_task(self._read(reader))
        try:
            while (sent := await self.answers.get()) is not None:
                writer.write(sent)
                await writer.drain()
        finally:
            reading.cancel()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(65536):
            self.got += chunk


@asynccontextmanager
async def lane() -> AsyncIterator[tuple[Lane, Scripted, list[Sequence[bytes] | None]]]:
    """A connection to a server that does what it is told."""
    server = Scripted()
    invalid: list[Sequence[bytes] | None] = []
    async with listening(server.answer) as place:
        host, _, port = place.rpartition(":")
        made = Lane(await open_wire(place, (host, int(port)), tls=None, server_name=host), invalid.append)
        try:
            yield made, server, invalid
        finally:
            await made.close()
            await made.close()


async def test_replies_go_to_whoever_asked_in_turn() -> None:
    async with lane() as (made, server, _):
        one, two = made.send([PING, PING]), made.send([PING])
        server.answers.put_nowait(b":1\r\n:2\r\n:3\r\n")
        assert (await one, await two) == ([1, 2], [3])
        assert made.place.startswith("127.0.0.1:")


async def test_late_reply_is_not_taken_for_the_next_callers() -> None:
    async with lane() as (made, server, _):
        late = made.send([PING])
        made.give_up(of_silence(0.1))
        with pytest.raises(IndexDown):
            await late
        drained = asyncio.create_task(made.drained())
        next_one = made.send([PING])
        server.answers.put_nowait(b":1\r\n:2\r\n")
        assert await next_one == [2]
        await drained


async def test_server_that_hangs_up_ends_everybodys_waiting_and_says_why() -> None:
    async with lane() as (made, server, invalid):
        waiting = [made.send([PING]) for _ in range(3)]
        server.answers.put_nowait(None)
        for each in waiting:
            with pytest.raises(IndexDown) as lost:
                await each
            assert lost.value.kind is IndexTrouble.UNREACHABLE
        assert made.lost.done()
        assert invalid == [None]
        with pytest.raises(IndexDown):
            await made.send([PING])


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"-ERR max number of clients reached\r\n", IndexTrouble.NOT_READY),
        (b"-DENIED protected mode\r\n", IndexTrouble.DENIED),
        (b"-ERR whatever\r\n", IndexTrouble.GARBAGE),
        (b"+OK\r\n", IndexTrouble.GARBAGE),
        (b"@\r\n", IndexTrouble.GARBAGE),
    ],
)
async def test_what_a_server_says_unasked_is_why_the_connection_ends(sent: bytes, kind: IndexTrouble) -> None:
    async with lane() as (made, server, _):
        server.answers.put_nowait(sent)
        assert (await made.lost).kind is kind


async def test_one_error_about_the_server_is_that_of_all_commands_sent_together() -> None:
    async with lane() as (made, server, _):
        together, alone = made.send([PING, ("SET", "a", 1)]), made.send([PING])
        server.answers.put_nowait(b"+PONG\r\n-OOM command not allowed\r\n+PONG\r\n")
        with pytest.raises(IndexDown) as full:
            await together
        assert full.value.kind is IndexTrouble.FULL
        assert await alone == [b"PONG"]


async def test_only_what_shall_be_tracked_is_and_the_answer_to_that_is_nobodys_reply() -> None:
    async with lane() as (made, server, invalid):
        made.is_tracking = True
        tracked, plain = made.send([PING], tracked=True), made.send([PING])
        server.answers.put_nowait(b"+OK\r\n:1\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n:2\r\n")
        assert (await tracked, await plain) == ([1], [2])
        assert server.got.count(b"CACHING") == 1
        assert invalid == [[b"k"]]


async def test_other_messages_of_a_server_are_ignored() -> None:
    async with lane() as (made, server, invalid):
        asked = made.send([PING])
        server.answers.put_nowait(b">3\r\n+message\r\n+a\r\n+b\r\n>1\r\n+invalidate\r\n+PONG\r\n")
        assert await asked == [b"PONG"]
        assert invalid == []


async def test_server_that_does_not_read_is_not_sent_more_and_more() -> None:
    async with lane() as (made, _, __):
        sent = 0
        while (told := made.send([("SET", "k", b"x" * (1 << 20))])) and not told.done():
            sent += 1
            assert sent < 64
        with pytest.raises(IndexDown) as full:
            await told
        assert full.value.kind is IndexTrouble.SLOW


async def test_move_of_a_slot_is_told() -> None:
    async with lane() as (made, server, _):
        moves: list[str] = []
        made.moved = moves.append
        asked = made.send([PING])
        server.answers.put_nowait(b"-MOVED 7 10.0.0.1:6379\r\n")
        with pytest.raises(IndexDown) as moved:
            await asked
        assert moved.value.passes
        assert moves == ["MOVED 7 10.0.0.1:6379"]
