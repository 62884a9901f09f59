"""The contract of a holder index: who has which content. And the values that it speaks in.

An index is soft state. It can be lost at any time and is rebuilt from the nodes' stores. A wrong entry costs
one 404 from a peer. One conformance suite, ``tests/conformance/test_holder_index.py``, runs on every
implementation. Tags are not its business: see `agent.holders.tagfinder`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.oci.digest import Digest
from topology.placement import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """A node that is fetching the content now. ``available_bytes``: it can serve so many, from the start."""

    node: NodeName
    available_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Who has a digest.

    ``nodes`` have all of the content; ``in_flight`` have a part of it; no node is in both. ``exhaustive``:
    every member was asked just now, so that asking more is of no use.
    """

    nodes: tuple[NodeName, ...]
    exhaustive: bool
    in_flight: tuple[InFlight, ...] = ()


class HolderIndex(Protocol):
    """Finds the other nodes that have a digest, and tells them what this node has."""

    def announce(self, digests: Iterable[Digest]) -> None:
        """This node's store has these. Returns at once; `run` makes it known to the others."""
        ...

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """This node's store does not have these any more. The last call for a digest counts."""
        ...

    async def lookup(self, digest: Digest) -> Holders:
        """Holders, the near ones at least. May come from a cache. Never names this node.

        Never raises because of a peer or of an index that is out of reach.
        """
        ...

    async def lookup_everyone(self, digest: Digest) -> Holders:
        """Every holder in the cluster, asked now and not from a cache. Never raises, as `lookup`.

        The result is exhaustive, unless the index is out of reach.
        """
        ...

    def prefetch(self, digests: Sequence[Digest]) -> None:
        """Look these up in the background: requests for them are about to come."""
        ...

    def forget(self, digest: Digest, node: NodeName) -> None:
        """A pull found that ``node`` does not have ``digest``: leave it out until it is found again."""
        ...

    async def run(self) -> None:
        """Keep the index in step with the calls of `announce` and `withdraw`, until cancelled.

        Returns early where there is nothing to keep.
        """
        ...

    async def close(self) -> None:
        """End what runs in the background. Closing twice does nothing."""
        ...
