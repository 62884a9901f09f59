"""A deadline that this node itself missed is not the server's fault."""

import asyncio
import socket
import time

import pytest

from agent.holders.valkey.deadline import in_time
from agent.holders.valkey.trouble import IndexDown
from agent.holders.valkey.wire import Reply
from agent.observe.index_metrics import IndexTrouble


def answer() -> "asyncio.Future[list[Reply]]":
    return asyncio.get_running_loop().create_future()


async def test_answer_in_time_is_given() -> None:
    told = answer()
    asyncio.get_running_loop().call_later(0.001, told.set_result, [b"x"])
    assert await in_time(told, 60.0) == [b"x"]


async def test_silence_is_the_servers_fault() -> None:
    with pytest.raises(IndexDown) as silent:
        await in_time(answer(), 0.01)
    assert silent.value.kind is IndexTrouble.SLOW
    assert "10 ms" in silent.value.words


async def test_answer_that_came_while_this_node_was_held_up_is_read() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    told = answer()
    reading = asyncio.create_task(_read(reader, told))
    waiting = asyncio.create_task(in_time(told, 0.05))
    await asyncio.sleep(0)
    theirs.send(b"reply\n")  # it is in the socket before the deadline
    time.sleep(0.3)  # noqa: ASYNC251 - this holds the event loop up, and so the timer
    assert await waiting == [b"reply\n"]
    await reading
    theirs.close()
    writer.close()


async def test_error_that_was_told_is_raised() -> None:
    told = answer()
    told.set_exception(IndexDown(IndexTrouble.FULL, "w", "h"))
    with pytest.raises(IndexDown, match="w"):
        await in_time(told, 1.0)


async def _read(reader: asyncio.StreamReader, told: "asyncio.Future[list[Reply]]") -> None:
    told.set_result([await reader.readline()])
