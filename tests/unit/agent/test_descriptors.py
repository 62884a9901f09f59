"""Waiting for a descriptor."""

import asyncio
import socket

from agent.descriptors import is_ready


async def test_a_descriptor_is_ready_once_it_can_be_read() -> None:
    near, far = socket.socketpair()
    with near, far:
        waiting = asyncio.create_task(is_ready(near.fileno(), 10.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        far.send(b"x")
        assert await waiting


async def test_a_descriptor_that_stays_silent_is_not_ready_in_time() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert not await is_ready(near.fileno(), 0.01)
        assert await is_ready(near.fileno(), 10.0, writing=True)
