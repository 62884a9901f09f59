"""How long a peer is waited for while its body is fetched."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.pull.events import Failure
from agent.pull.lateness import held_up, in_words
from agent.transfer.answers import AttemptFailed


@asynccontextmanager
async def not_silent_for(stall_s: float) -> AsyncIterator[None]:
    """Give the peer so long for what is waited for inside.

    Raises `AttemptFailed`: the peer was silent, or this node itself did not run.
    """
    started_s = time.monotonic()
    try:
        async with asyncio.timeout(stall_s):
            yield
    except TimeoutError as error:
        raise silence(stall_s, time.monotonic() - started_s - stall_s) from error


def silence(stall_s: float, late_s: float) -> AttemptFailed:
    """What a time-out means. ``late_s``: by how much it came too late."""
    if held_up(late_s):
        return AttemptFailed(Failure.CUT_OFF, in_words(late_s))
    return AttemptFailed(Failure.SILENT, f"no byte for {stall_s} s")
