"""Waits until a descriptor can be read or written, on the event loop."""

import asyncio


async def is_ready(fd: int, at_most_s: float, *, writing: bool = False) -> bool:
    """Wait until a descriptor can be read or written. False if it can't within ``at_most_s``."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[bool] = loop.create_future()
    timer = loop.call_later(at_most_s, _settle, ready, False)
    (loop.add_writer if writing else loop.add_reader)(fd, _settle, ready, True)
    try:
        return await ready
    finally:
        timer.cancel()
        (loop.remove_writer if writing else loop.remove_reader)(fd)


def _settle(ready: "asyncio.Future[bool]", outcome: bool) -> None:
    if not ready.done():
        ready.set_result(outcome)
