"""Ends tasks that run in the background, and waits for events that need not come."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks, and wait until all have ended. What they return or raise is dropped."""
    ending = [*tasks]
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def at_once() -> None:
    """Wait for nothing."""


async def wait_for_event(event: asyncio.Event, at_most_s: float) -> None:
    """Return when the event is set, or after this time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_s):
            await event.wait()
