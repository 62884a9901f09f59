"""Whether the blobs that this node's containerd was sent are committed to the store. In virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.content.store import Change, ChangeKind, Room
from agent.observe.metrics import Metrics
from agent.oci.reference import Addressed, Kind, Repository
from agent.pull.regard import Regard
from agent.pull.trust import Trust
from agent.transfer.answers import FetchRequest
from agent.transfer.commits import Commits
from agent.transfer.peers import PeerBody
from tests.unit.evidence import MemoryStore, give_nothing, make_checks, make_commits
from tests.unit.twins import loop_clock, make_policy, node, other_tasks, run_in_virtual_time, sha256
from topology.placement import NodeName

SUSPECTS = "shorthaul_suspect_sources_total"
A = node("a")
SIZE = 10


class Following:
    """A store that is followed, and a trust that has seen a commit already."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.trust = Trust(commit_s=30.0, suspect_s=600.0)
        self.policy = make_policy(regard=Regard(cooloff_s=5.0, trust=self.trust))
        self.metrics = Metrics()
        self.asked: list[NodeName] = []
        self.checks = make_checks(self.policy, self.metrics, loop_clock, self._fetch)
        self.commits: Commits = make_commits(
            self.policy, self.metrics, loop_clock, checks=self.checks, store=self.store
        )

    async def _fetch(self, asked: NodeName, wanted: FetchRequest) -> PeerBody:
        self.asked.append(asked)
        return await give_nothing(asked, wanted)

    def deliver(self, seed: object, *, received: bool | None = None) -> None:
        target = Addressed(registry=None, repository=Repository("a"), kind=Kind.BLOB, digest=sha256(seed))
        self.checks.remember(target)
        now_s = loop_clock()
        self.trust.delivered(
            sha256(seed),
            [A],
            start=0,
            stop=SIZE,
            size_bytes=SIZE,
            taken=True,
            began_s=now_s,
            received=received,
            now_s=now_s,
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
    tasks = [asyncio.create_task(made.commits.run()), asyncio.create_task(made.checks.run())]
    made.deliver("first")
    await made.change("first")
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
def test_blob_that_does_not_appear_makes_its_sources_suspect_in_time_and_they_are_counted_and_checked(
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
            assert made.asked == [A]

    run_in_virtual_time(main())


def test_blob_that_is_collected_as_garbage_right_after_its_commit_makes_nobody_suspect() -> None:
    """``discard_unpacked_layers`` does so with every layer."""

    async def main() -> None:
        async with following() as made:
            made.deliver(1, received=True)
            await made.change(1)
            await made.change(1, ChangeKind.REMOVED)
            made.commits.requested(sha256(1), None)
            await asyncio.sleep(100.0)
            assert made.counted == 0

    run_in_virtual_time(main())


def test_store_that_does_not_answer_has_no_say() -> None:
    async def main() -> None:
        async with following() as made:
            made.deliver(1, received=True)
            made.store.problem = "containerd is gone"
            await asyncio.sleep(100.0)
            assert made.distrusted(1) == frozenset()

    run_in_virtual_time(main())


def test_containerd_that_was_killed_and_is_back_makes_nobody_suspect_when_it_requests_again() -> None:
    async def main() -> None:
        async with following() as made:
            for layer in range(24):
                made.deliver(layer, received=True)
            made.store.outages += 1  # its event stream broke, and works again
            for layer in range(24):
                made.commits.requested(sha256(layer), None)
            await asyncio.sleep(100.0)
            assert made.counted == 0
            made.deliver(1, received=True)
            made.commits.requested(sha256(1), None)
            assert made.distrusted(1) == {A}, "it was well this time"

    run_in_virtual_time(main())


@pytest.mark.parametrize(
    "free", [Room(free_bytes=0, free_files=9999), Room(free_bytes=1 << 40, free_files=0)]
)
def test_disk_that_was_full_for_a_while_makes_nobody_suspect(free: Room) -> None:
    async def main() -> None:
        async with following() as made:
            made.deliver(1, received=True)
            made.store.free = free
            await asyncio.sleep(2.0)
            made.store.free = Room(free_bytes=1 << 40, free_files=9999)
            await asyncio.sleep(100.0)
            made.commits.requested(sha256(1), None)
            assert made.counted == 0

    run_in_virtual_time(main())


def test_disk_that_is_full_only_now_makes_nobody_suspect_either() -> None:
    async def main() -> None:
        async with following() as made:
            made.deliver(1, received=True)
            made.store.free = Room(free_bytes=0, free_files=9999)
            made.commits.requested(sha256(1), None)
            assert made.counted == 0

    run_in_virtual_time(main())


def test_client_whose_blobs_the_store_is_not_writing_makes_nobody_suspect() -> None:
    async def main() -> None:
        async with following() as made:
            for _ in range(3):
                made.deliver(1, received=False)
                made.commits.requested(sha256(1), None)
            await asyncio.sleep(100.0)
            assert made.counted == 0

    run_in_virtual_time(main())


def test_slow_disk_that_is_still_writing_is_waited_for() -> None:
    async def main() -> None:
        async with following() as made:
            made.deliver(1, received=True)
            made.store.writing[sha256(1)] = True
            await asyncio.sleep(100.0)
            assert made.counted == 0
            await made.change(1)
            await asyncio.sleep(100.0)
            assert made.counted == 0

    run_in_virtual_time(main())


def test_delivered_blob_that_this_agent_can_not_read_makes_nobody_suspect() -> None:
    async def main() -> None:
        async with following() as run:
            run.deliver("closed")
            run.store.unreadable = {sha256("closed"): "permission denied"}
            await asyncio.sleep(100.0)
            assert not run.distrusted("closed")
            assert run.counted == 0

    run_in_virtual_time(main())
