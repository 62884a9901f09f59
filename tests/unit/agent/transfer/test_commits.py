"""Whether the blobs that this node's containerd was sent are committed to the store. In virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.content.store import Change, ChangeKind, Changes
from agent.observe.metrics import Metrics
from agent.pull.regard import Regard
from agent.pull.trust import Trust
from agent.transfer.commits import follow_commits
from tests.unit.agent.holders.test_tags import MemoryStore
from tests.unit.twins import loop_clock, make_policy, node, other_tasks, run_in_virtual_time, sha256
from topology.placement import NodeName

SUSPECTS = "shorthaul_suspect_sources_total"
A = node("a")


class ToldStore(MemoryStore):
    """A store whose changes the test makes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = Changes()

    def watch(self) -> AsyncIterator[Change]:
        return self.changes.watch()


class Following:
    """A store that is followed, and a trust that has seen a commit already."""

    def __init__(self) -> None:
        self.store = ToldStore()
        self.trust = Trust(commit_s=30.0, suspect_s=600.0)
        self.policy = make_policy(regard=Regard(cooloff_s=5.0, trust=self.trust))
        self.metrics = Metrics()

    def deliver(self, seed: object) -> None:
        self.trust.delivered(
            sha256(seed), [A], start=0, stop=10, size_bytes=10, taken=True, now_s=loop_clock()
        )

    async def change(self, seed: object, kind: ChangeKind = ChangeKind.ADDED) -> None:
        await asyncio.sleep(0.01)
        self.store.changes.publish(Change(kind, sha256(seed)))
        await asyncio.sleep(0.01)

    def distrusted(self, seed: object) -> frozenset[NodeName]:
        return frozenset(self.trust.reasons(sha256(seed), loop_clock()))

    @property
    def counted(self) -> float:
        lines = self.metrics.expose().decode().splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith(f"{SUSPECTS} "))


@asynccontextmanager
async def following() -> AsyncIterator[Following]:
    made = Following()
    task = asyncio.create_task(follow_commits(made.store, made.policy, made.metrics, loop_clock))
    made.deliver("first")
    await made.change("first")
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert not other_tasks()


def test_blob_that_appears_in_the_store_clears_its_sources() -> None:
    async def main() -> None:
        async with following() as made:
            made.deliver(1)
            await made.change(1)
            await asyncio.sleep(100.0)
            assert made.distrusted(1) == frozenset()
            assert made.counted == 0

    run_in_virtual_time(main())


@pytest.mark.parametrize("seen", [None, ChangeKind.REMOVED])
def test_blob_that_does_not_appear_makes_its_sources_suspect_in_time_and_they_are_counted(
    seen: ChangeKind | None,
) -> None:
    async def main() -> None:
        async with following() as made:
            made.deliver(1)
            if seen is not None:
                await made.change(1, seen)
            await asyncio.sleep(29.0)
            assert made.distrusted(1) == frozenset()
            await asyncio.sleep(3.0)
            assert made.distrusted(1) == {A}
            assert made.counted == 1

    run_in_virtual_time(main())


def test_store_that_does_not_answer_has_no_say() -> None:
    async def main() -> None:
        async with following() as made:
            made.deliver(1)
            made.store.problem = "containerd is gone"
            await asyncio.sleep(100.0)
            assert made.distrusted(1) == frozenset()

    run_in_virtual_time(main())
