"""Tells the holder index what this node shares, and what it no longer has."""

from collections.abc import Iterable
from typing import Protocol, assert_never

from agent.content.offer import Offer
from agent.content.store import ChangeKind
from agent.oci.digest import Digest


class DigestListener(Protocol):
    """Is told which digests this node's store has. A `HolderIndex` is one."""

    def announce(self, digests: Iterable[Digest]) -> None:
        """See `HolderIndex.announce`."""
        ...

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """See `HolderIndex.withdraw`."""
        ...


async def announce_store(offer: Offer, index: DigestListener) -> None:
    """Announce everything in the store that is shared. Then follow the changes of the store and of the filter
    until cancelled.
    """
    store = offer.store
    changes = store.watch()  # begins before the store is read, so that no change is missed
    teller = _Teller(offer, index)
    store.on_tag(lambda change: teller.named(change.image.descriptor.digest))
    offer.registries.on_change(teller.rejudge)
    teller.start()
    async for change in changes:
        match change.kind:
            case ChangeKind.ADDED:
                teller.added(change.digest)
            case ChangeKind.REMOVED:
                teller.removed(change.digest)
            case _:
                assert_never(change.kind)


class _Teller:
    """Announces what is shared, and holds back what is not. The names of a blob are known after the blob."""

    def __init__(self, offer: Offer, index: DigestListener) -> None:
        self._offer = offer
        self._index = index
        self._held_back: set[Digest] = set()

    def start(self) -> None:
        digests = frozenset(self._offer.store.digests)
        self._held_back = {digest for digest in digests if not self._offer.shares(digest)}
        self._index.announce(digests - self._held_back)

    def rejudge(self) -> None:
        """The filter changed: withdraw what is excluded now, announce what is not excluded any more."""
        digests, before = frozenset(self._offer.store.digests), self._held_back
        self._held_back = {digest for digest in digests if not self._offer.shares(digest)}
        if excluded := self._held_back - before:
            self._index.withdraw(excluded)
        if included := (digests & before) - self._held_back:
            self._index.announce(included)

    def added(self, digest: Digest) -> None:
        if self._offer.shares(digest):
            self._index.announce((digest,))
        else:
            self._held_back.add(digest)

    def removed(self, digest: Digest) -> None:
        self._held_back.discard(digest)
        self._index.withdraw((digest,))

    def named(self, digest: Digest) -> None:
        """A name of the digest was written: it may be shared from now on, or no longer."""
        shares = self._offer.shares(digest)
        if shares and digest in self._held_back:
            self._held_back.discard(digest)
            self._index.announce((digest,))
        elif not shares and digest not in self._held_back and self._offer.store.holds(digest):
            self._held_back.add(digest)
            self._index.withdraw((digest,))
