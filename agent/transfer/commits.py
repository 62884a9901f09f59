"""Watches whether the blobs that this node's containerd was sent are committed to the store."""

import asyncio
from collections.abc import Callable

from agent.content.store import ChangeKind, ContentStore
from agent.observe.metrics import Metrics
from agent.pull.policy import Policy

_LOOK_S = 1.0


async def follow_commits(
    store: ContentStore, policy: Policy, metrics: Metrics, clock: Callable[[], float]
) -> None:
    """Report each committed blob to ``policy``, and let it suspect the sources of others. Until cancelled."""

    async def follow_store() -> None:
        async for change in store.watch():
            if change.kind is ChangeKind.ADDED:
                policy.committed(change.digest)

    async def follow_time() -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if store.problem is None:  # a store that does not answer proves nothing
                metrics.suspects(policy.suspect_overdue(clock(), store.holds))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow_store(), name="committed blobs")
        tasks.create_task(follow_time(), name="overdue blobs")
