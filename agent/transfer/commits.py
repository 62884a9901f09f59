"""Watches whether the blobs that this node's containerd was sent are committed to the store."""

import asyncio
from collections.abc import Callable, Mapping, Set

from agent.content.store import ChangeKind, ContentStore
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.ranges import RangeSpec
from agent.pull.policy import Policy
from agent.pull.wellness import StoreLook, Wellness
from agent.transfer.checks import Checks
from topology.placement import NodeName

_LOOK_S = 1.0


class Commits:
    """What becomes of delivered blobs in this node's store. `run` it.

    ``checks``: hashes what the suspects give.
    """

    def __init__(
        self,
        *,
        store: ContentStore,
        policy: Policy,
        checks: Checks,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._policy = policy
        self._checks = checks
        self._metrics = metrics
        self._clock = clock
        self._wellness = Wellness(look_s=_LOOK_S)

    def receiving(self, digest: Digest) -> bool | None:
        """Whether this node's containerd is writing the blob. None: that can't be seen."""
        return self._store.receiving(digest)

    def requested(self, digest: Digest, range_spec: RangeSpec | None) -> None:
        """This node's containerd requests a blob. If it was sent all of it before, that blob was bad."""
        self._look()
        suspects = self._policy.requested(digest, range_spec, self._clock())
        if suspects:
            self._suspected({digest: suspects})

    async def run(self) -> None:
        """Tell the policy of committed blobs, let it suspect the sources of others. Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_store(), name="committed blobs")
            tasks.create_task(self._follow_time(), name="overdue blobs")

    async def _follow_store(self) -> None:
        async for change in self._store.watch():
            if change.kind is ChangeKind.ADDED:
                self._policy.committed(change.digest, self._clock())

    async def _follow_time(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._look()
            overdue = self._policy.suspect_overdue(
                self._clock(), holds=self._is_committed, receiving=self._store.receiving
            )
            self._suspected(overdue)

    def _is_committed(self, digest: Digest) -> bool:
        """Whether the store has the blob. One that this agent can't read is no peer's fault."""
        return self._store.holds(digest) or digest in self._store.unreadable

    def _look(self) -> None:
        """If the store was not well since the last look, what it was sent meanwhile proves nothing."""
        room, now_s = self._store.room(), self._clock()
        look = StoreLook(
            works=self._store.problem is None,
            outages=self._store.outages,
            free_bytes=None if room is None else room.free_bytes,
            free_files=None if room is None else room.free_files,
            pending_bytes=self._policy.pending_bytes,
        )
        if not self._wellness.well_since_last(look, now_s):
            self._policy.store_unwell(now_s)

    def _suspected(self, suspects: Mapping[Digest, Set[NodeName]]) -> None:
        for digest, nodes in suspects.items():
            self._metrics.suspects(len(nodes))
            self._checks.begin(digest, nodes)
