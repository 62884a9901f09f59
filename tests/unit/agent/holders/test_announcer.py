"""What is announced to the index: first the whole store, then each change, and nothing twice."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from agent.content.store import Change, ChangeKind, Changes
from agent.holders.announcer import announce_store
from agent.oci.digest import Digest
from tests.unit.agent.transfer.scripted import until
from tests.unit.evidence import MemoryStore
from tests.unit.twins import sha256

A, B, C = (sha256(name) for name in "abc")


@dataclass
class ChangingStore(MemoryStore):
    """A store that reports its changes."""

    changes: Changes = field(default_factory=Changes)

    def watch(self) -> AsyncIterator[Change]:
        return self.changes.watch()

    def add(self, digest: Digest) -> None:
        self.held.add(digest)
        self.changes.publish(Change(ChangeKind.ADDED, digest))

    def remove(self, digest: Digest) -> None:
        self.held.discard(digest)
        self.changes.publish(Change(ChangeKind.REMOVED, digest))


@dataclass
class NotingIndex:
    """Records what is announced to it."""

    told: list[tuple[str, set[Digest]]] = field(default_factory=list)

    def announce(self, digests: Iterable[Digest]) -> None:
        self.told.append(("announce", set(digests)))

    def withdraw(self, digests: Iterable[Digest]) -> None:
        self.told.append(("withdraw", set(digests)))


async def test_the_store_is_announced_and_then_every_change_in_order() -> None:
    store, index = ChangingStore(held={A, B}), NotingIndex()
    following = asyncio.create_task(announce_store(store, index))
    await until(lambda: index.told == [("announce", {A, B})], "what is there is announced")
    store.add(C)
    store.remove(A)
    store.add(A)
    changes = [("announce", {C}), ("withdraw", {A}), ("announce", {A})]
    await until(lambda: index.told[1:] == changes, "the changes are told")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert following.cancelled()
