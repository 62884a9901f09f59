"""Waits for an answer of the server, and does not blame it for a time in which this node did not run.

When this node's event loop is held up, the deadline and the answer are both there when it goes on, and timers
come first. So a late timer gives the answer as long again.
"""

import asyncio

from agent.holders.valkey.trouble import of_silence
from agent.holders.valkey.wire import Reply

NOTICED_S = 0.02
"""A timer that is later than that shows that this node was held up. On an idle one it is 1 ms late."""


async def in_time(told: "asyncio.Future[list[Reply]]", timeout_s: float) -> list[Reply]:
    """The answer. Raises `IndexDown`, also if there is none in time. The future is left alone then."""
    loop = asyncio.get_running_loop()
    due_s = loop.time() + timeout_s
    await asyncio.wait((told,), timeout=timeout_s)
    if not told.done() and loop.time() - due_s > NOTICED_S:
        await asyncio.wait((told,), timeout=timeout_s)
    if not told.done():
        raise of_silence(timeout_s)
    return told.result()
