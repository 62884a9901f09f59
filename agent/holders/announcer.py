"""Tells the holder index what this node's store has, and what it no longer has."""

from collections.abc import Iterable
from typing import Protocol, assert_never

from agent.content.store import ChangeKind, ContentStore
from agent.oci.digest import Digest


class DigestListener(Protocol):
    """Is told which digests this node's store has. A `HolderIndex` is one."""

    def announce(self, digests: Iterable[Digest]) -> None:
        """See `HolderIndex.announce`."""
        ...

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """See `HolderIndex.withdraw`."""
        ...


async def announce_store(store: ContentStore, index: DigestListener) -> None:
    """Announce everything in the store. Then follow its changes until cancelled."""
    changes = store.watch()  # begins before the store is read, so that no change is missed
    index.announce(store.digests)
    async for change in changes:
        match change.kind:
            case ChangeKind.ADDED:
                index.announce((change.digest,))
            case ChangeKind.REMOVED:
                index.withdraw((change.digest,))
            case _:
                assert_never(change.kind)
