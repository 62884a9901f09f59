"""What became of the blobs that this node's containerd was sent: the store tells, and time does."""

import asyncio
from collections.abc import Callable

from agent.content.store import ChangeKind, ContentStore
from agent.observe.metrics import Metrics
from agent.pull.trust import Trust

_LOOK_S = 1.0


async def follow_commits(
    store: ContentStore, trust: Trust, metrics: Metrics, clock: Callable[[], float]
) -> None:
    """Tell ``trust`` of every blob that appears, and have it judge those that do not. Until cancelled."""

    async def appeared() -> None:
        async for change in store.watch():
            if change.kind is ChangeKind.ADDED:
                trust.committed(change.digest)

    async def overdue() -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if store.problem is None:  # a store that does not answer has no say
                metrics.suspects(trust.suspect_overdue(clock(), store.holds))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(appeared(), name="appeared")
        tasks.create_task(overdue(), name="overdue")
