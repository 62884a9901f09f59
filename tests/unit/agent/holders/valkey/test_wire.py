"""One connection: what a server may answer, and what ends it."""

import asyncio
import ssl
from typing import Any

import pytest
from valkey.asyncio.connection import Connection

from agent.holders.valkey.trouble import IndexDown, Refused, of_connecting
from agent.holders.valkey.wire import REPLY_MOST_BYTES, Command, Wire, greet, open_wire, packed
from agent.observe.index_metrics import IndexTrouble
from benchmarks.lab.valkey import ValkeyServer
from tests.unit.agent.holders.valkey.rig import listening

HELLO = b"%1\r\n+proto\r\n:3\r\n"


async def replies(sent: bytes, count: int = 1) -> list[Any]:
    """What a connection reads from a server that sends this."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        writer.write_eof()
        await asyncio.sleep(60)

    async with listening(answer) as place:
        wire = await connected(place)
        try:
            return [await wire.read() for _ in range(count)]
        finally:
            wire.end()


async def connected(place: str) -> Wire:
    host, _, port = place.rpartition(":")
    return await open_wire(place, (host, int(port)), tls=None, server_name=host)


GOOD = [
    (b"+OK\r\n", b"OK"),
    (b":7\r\n", 7),
    (b"$3\r\na\r\n\r\n", b"a\r\n"),
    (b"_\r\n", None),
    (b"*2\r\n_\r\n*1\r\n:1\r\n", [None, [1]]),
    (b"%1\r\n+a\r\n:1\r\n", {b"a": 1}),
    (b">2\r\n+invalidate\r\n_\r\n+OK\r\n", b"OK"),
]


@pytest.mark.parametrize(("sent", "reply"), GOOD)
async def test_reply_is_read(sent: bytes, reply: object) -> None:
    assert await replies(sent) == [reply]


async def test_error_about_one_command_is_a_reply_and_one_about_the_server_is_raised() -> None:
    refused, after = await replies(b"-WRONGTYPE no\r\n:1\r\n", 2)
    assert isinstance(refused, Refused)
    assert (refused.code, after) == ("WRONGTYPE", 1)
    with pytest.raises(IndexDown) as raised:
        await replies(b"-LOADING soon\r\n")
    assert raised.value.kind is IndexTrouble.NOT_READY


GARBAGE = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x15\x03\x03\x00\x02\x02\x46\r\n",
    b"\r\n",
    b"$5x\r\n",
    b"$-5\r\n",
    b"*-3\r\n",
    b"*x\r\n",
    b"$%d\r\n" % (REPLY_MOST_BYTES + 1),
    b"$999999999999999999\r\n",
    b"*1000000000\r\n",
    b"*20000\r\n" + b"*20000\r\n" * 20,
    b"*1\r\n" * 30_000,
    b"%1\r\n*0\r\n:1\r\n",
    b"x" * 200_000 + b"\r\n",
    b">1\r\n" * 30_000,
]


@pytest.mark.parametrize("sent", GARBAGE, ids=lambda sent: repr(sent[:20]))
async def test_what_no_server_of_the_index_answers_is_refused_and_takes_no_memory(sent: bytes) -> None:
    with pytest.raises(IndexDown) as refused:
        await replies(sent)
    assert refused.value.kind is IndexTrouble.GARBAGE
    assert len(refused.value.words) < 300


@pytest.mark.parametrize("sent", [b"", b"+O", b"$100\r\nabc", b"*3\r\n:1\r\n"])
async def test_connection_that_ends_within_a_reply_is_lost(sent: bytes) -> None:
    with pytest.raises(IndexDown) as refused:
        await replies(sent)
    assert refused.value.kind is IndexTrouble.UNREACHABLE


@pytest.mark.parametrize("sent", [b"+OK\r\n", b":1\r\n", b"-ERR no\r\n"])
async def test_greeting_that_is_no_greeting_is_garbage(sent: bytes) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await asyncio.sleep(60)

    async with listening(answer) as place:
        wire = await connected(place)
        with pytest.raises(IndexDown) as refused:
            await greet(wire, login=(), name="me")
        wire.end()
    assert refused.value.kind is IndexTrouble.GARBAGE


async def test_greeting_logs_in_and_says_who_this_is() -> None:
    got: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"me\r\n"))
        got.append(await reader.readuntil(b"7\r\n"))
        writer.write(HELLO + b"+OK\r\n")
        await asyncio.sleep(60)

    async with listening(answer) as place:
        wire = await connected(place)
        await greet(wire, login=("user", "pass word"), name="me", database=7)
        wire.end()
    assert got[0].split(b"\r\n")[2::2][:6] == [b"HELLO", b"3", b"AUTH", b"user", b"pass word", b"SETNAME"]


async def test_connection_that_was_ended_takes_nothing_more() -> None:
    async def answer(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with listening(answer) as place:
        wire = await connected(place)
        wire.end()
        wire.end()
        with pytest.raises(IndexDown):
            wire.write([("PING",)])
        assert wire.unsent_bytes == 0


@pytest.mark.parametrize(
    "command",
    [("PING",), ("SET", "key", b"\x00\r\n\xff", "EX", 7800, "NX"), ("SETBIT", "k\u00e4y", 0, 1), ("GET", "")],
)
def test_command_is_sent_as_the_client_itself_would_send_it(command: Command) -> None:
    assert packed([command, ("TIME",)]) == b"".join(
        Connection(protocol=3).pack_commands([command, ("TIME",)])
    )


async def test_server_that_speaks_no_tls_is_told_from_one_that_is_away(valkey: ValkeyServer) -> None:
    tls = ssl.create_default_context()
    target = (valkey.address, valkey.port)
    with pytest.raises(OSError, match="handshake") as refused:  # it waits for the end of a command
        await open_wire("h:1", target, tls=tls, server_name="h", handshake_s=0.1)
    trouble = of_connecting(refused.value, "h:1")
    assert trouble.kind is IndexTrouble.SLOW
    assert "did not answer the handshake" in trouble.words
    assert "without the s" in trouble.hint
