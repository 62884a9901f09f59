"""The contract of a holder index, which knows the nodes that have a digest, and its values.

An index is soft state. It can be lost at any time and is rebuilt from the nodes' stores. A wrong entry costs
one 404 from a peer. One conformance suite, ``tests/conformance/test_holder_index.py``, runs on every
implementation. For tags see `agent.holders.tagfinder`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.documents.index import IndexSource, IndexState, IndexWarningEntry
from agent.oci.digest import Digest
from topology.placement import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """A node that is fetching the content now.

    ``available_bytes``: how many it can serve, from byte 0 on, of ``size_bytes`` in all.
    """

    node: NodeName
    available_bytes: int
    size_bytes: int

    @property
    def percent(self) -> int:
        """How much of it there is: 0 to 100."""
        return 100 * self.available_bytes // self.size_bytes if self.size_bytes else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """The nodes that have a digest.

    ``nodes`` have all of the content. ``in_flight`` have a part of it. No node is in both. ``exhaustive``:
    every member that may be asked was, so recently that asking again is useless. Some may not have answered:
    see `agent.pull.policy.Policy.unasked`. ``source``: who said so; None: the peers, as there is no server.
    ``arriving``: how many nodes of this node's zone are still fetching it; None: those of ``in_flight``.
    """

    nodes: tuple[NodeName, ...]
    exhaustive: bool
    in_flight: tuple[InFlight, ...] = ()
    source: IndexSource | None = None
    arriving: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStatus:
    """How an index is now, for people. What the fields mean: `agent.documents.index.IndexDocument`.

    ``reset_s``: when the server was last found to have lost what it was told, by the monotonic clock.
    ``silent``: tells which nodes of this zone tell it nothing. It looks at all members, so it is called for
    people only.
    """

    index: str = "scatter"
    state: IndexState = IndexState.PEERS
    problem: str | None = None
    hint: str = ""
    warnings: tuple[IndexWarningEntry, ...] = ()
    server: str | None = None
    cluster: str | None = None
    number: int | None = None
    announced: int = 0
    pending: int = 0
    resets: int = 0
    reset_s: float | None = None
    reset_reason: str | None = None
    silent: Callable[[], tuple[NodeName, ...]] = tuple
    latency_us: float | None = None
    used_bytes: int | None = None
    most_bytes: int | None = None
    policy: str | None = None


class HolderIndex(Protocol):
    """Finds the other nodes that have a digest, and tells them what this node has."""

    def announce(self, digests: Iterable[Digest]) -> None:
        """This node's store has these digests. Returns at once; `run` tells the other nodes."""
        ...

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """This node's store no longer has these digests. For each digest the last call counts."""
        ...

    def remembered(self, digest: Digest) -> Holders | None:
        """What `lookup` would return at once, from a cache. None if it would have to ask."""
        ...

    async def lookup(self, digest: Digest) -> Holders:
        """The holders, at least the near ones. May come from a cache. Never contains this node.

        Never raises because of a peer, or because the index is out of reach.
        """
        ...

    async def lookup_everyone(self, digest: Digest) -> Holders:
        """Every holder in the cluster, asked now and not from a cache. Like `lookup`, it never raises.

        The result is exhaustive, unless the index is out of reach.
        """
        ...

    def prefetch(self, digests: Sequence[Digest]) -> None:
        """Look these digests up in the background. Requests for them will come soon."""
        ...

    def forget(self, digest: Digest, node: NodeName) -> None:
        """A pull got no ``digest`` from ``node``: leave the node out until it is found again."""
        ...

    def status(self) -> IndexStatus:
        """How it is now. Made for each question of a person or a scrape: it may cost a little."""
        ...

    async def run(self) -> None:
        """Bring the calls of `announce` and `withdraw` to the index, until cancelled.

        Returns early if there is nothing to do.
        """
        ...

    async def close(self) -> None:
        """Stop all background work. Closing twice does nothing."""
        ...
