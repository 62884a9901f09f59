"""What is announced to the index: first the whole store, then each change, and nothing twice."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agent.content.offer import Offer
from agent.content.store import Change, ChangeKind, Changes
from agent.holders.announcer import announce_store
from agent.oci.digest import Digest
from agent.oci.filters import parse_patterns
from tests.unit.agent.holders.test_tags import image, make_offer
from tests.unit.agent.oci.test_patterns import by_digest
from tests.unit.agent.transfer.scripted import until
from tests.unit.evidence import MemoryStore
from tests.unit.twins import named, sha256

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


@asynccontextmanager
async def announcing(store: ChangingStore, offer: Offer | None = None) -> AsyncIterator[NotingIndex]:
    """What is announced of a store. The usual ``offer`` excludes ``docker.io/acme/*``."""
    index = NotingIndex()
    offer = offer or make_offer(store, exclude=("docker.io/acme/*",))
    following = asyncio.create_task(announce_store(offer, index))
    await until(lambda: bool(index.told), "what is there is announced")
    yield index
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert following.cancelled()


async def test_what_is_not_served_is_not_announced() -> None:
    store = ChangingStore(held={sha256("secret"), A, B})
    store.names.replace([image(named(repository="acme/secret"), "secret"), image(named(), "a")])
    async with announcing(store) as index:
        assert index.told == [("announce", {A})]


async def test_blob_is_announced_when_a_name_of_it_is_mirrored_and_withdrawn_when_none_is_any_more() -> None:
    store = ChangingStore(held={sha256("secret")})
    secret = image(named(repository="acme/secret"), "secret")
    async with announcing(store) as index:
        store.names.replace([secret])
        store.names.replace([secret, image(named(), "secret")])
        assert index.told[1:] == [("announce", {sha256("secret")})]
        store.names.replace([secret])
        assert index.told[2:] == [("withdraw", {sha256("secret")})]


async def test_blob_that_is_fetched_is_announced_as_soon_as_it_is_there() -> None:
    store = ChangingStore(held=set())
    offer = make_offer(store, exclude=("docker.io/acme/*",))
    async with announcing(store, offer) as index:
        offer.fetching(by_digest("library/nginx", "docker.io", A))
        store.add(B)
        store.add(A)
        await until(lambda: len(index.told) == 2, "it is announced before it has a name")
        assert index.told[1:] == [("announce", {A})]


async def test_name_of_content_that_is_not_here_announces_nothing() -> None:
    store = ChangingStore(held={A})
    store.names.replace([image(named(), "a")])
    async with announcing(store) as index:
        store.names.replace([image(named(), "a"), image(named(repository="other/b"), "gone")])
        assert index.told == [("announce", {A})]


async def test_the_store_is_announced_and_then_every_change_in_order() -> None:
    store = ChangingStore(held={A, B})
    async with announcing(store, make_offer(store)) as index:
        assert index.told == [("announce", {A, B})]
        store.add(C)
        store.remove(A)
        store.add(A)
        changes = [("announce", {C}), ("withdraw", {A}), ("announce", {A})]
        await until(lambda: index.told[1:] == changes, "the changes are told")


async def test_filter_that_changes_withdraws_what_it_excludes_and_announces_what_it_admits() -> None:
    store = ChangingStore(held={sha256("secret"), sha256("open")})
    store.names.replace(
        [image(named(repository="acme/secret"), "secret"), image(named(repository="other/open"), "open")]
    )
    offer = make_offer(store, exclude=("docker.io/acme/*",))
    async with announcing(store, offer) as index:
        assert index.told == [("announce", {sha256("open")})]
        offer.registries.replace(parse_patterns(["*"]), parse_patterns(["docker.io/other/*"]))
        assert index.told[1:] == [("withdraw", {sha256("open")}), ("announce", {sha256("secret")})]
        offer.registries.replace(parse_patterns(["*"]), parse_patterns(["docker.io/other/*"]))
        assert len(index.told) == 3
