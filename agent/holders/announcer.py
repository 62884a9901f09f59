"""Tells the holder index what this node shares, and what it no longer has."""

from collections.abc import Iterable, Set
from typing import Protocol, assert_never

from agent.content.offer import Offer
from agent.content.references import Key, key_of
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
    offer.sharing.on_change(teller.rejudge)
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

    def rejudge(self, contents: Set[Key] | None) -> None:
        """Withdraw what is not shared any more, and announce what is now. None: it may be any content."""
        known = self._offer.store.digests
        digests = frozenset(each for each in known if contents is None or key_of(each) in contents)
        held_back = frozenset(each for each in digests if not self._offer.shares(each))
        shared = (digests & self._held_back) - held_back
        excluded = held_back - self._held_back
        self._held_back = (self._held_back - shared) | excluded
        if excluded:
            self._index.withdraw(excluded)
        if shared:
            self._index.announce(shared)

    def added(self, digest: Digest) -> None:
        if self._offer.shares(digest):
            self._index.announce((digest,))
        else:
            self._held_back.add(digest)

    def removed(self, digest: Digest) -> None:
        self._held_back.discard(digest)
        self._index.withdraw((digest,))
