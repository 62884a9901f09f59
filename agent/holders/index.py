"""The contract of a holder index, and the values it speaks in.

An index is soft state: it can be lost at any time, and a wrong entry costs one 404 from a peer. One
conformance suite, ``tests/conformance/test_holder_index.py``, runs on every implementation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.oci.digest import Digest
from agent.oci.manifest import Descriptor
from agent.oci.reference import Named
from topology.placement import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Who has a digest. ``complete``: every peer was asked just now, so there is no use in asking more."""

    nodes: tuple[NodeName, ...]
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TagAnswer:
    """What a peer knows of a tag; ``age_s``: seconds since that peer last saw it from the registry."""

    node: NodeName
    name: Named
    descriptor: Descriptor
    age_s: float


class HolderIndex(Protocol):
    """Finds holders."""

    async def lookup(self, digest: Digest) -> Holders:
        """Holders of the nearest ring that has any; may come from a cache. Never raises for a peer's sake."""
        ...

    async def lookup_all(self, digest: Digest) -> Holders:
        """Every holder in the cluster, asked now; `Holders.complete` is true."""
        ...

    def prefetch(self, digests: Sequence[Digest]) -> None:
        """Look these up in the background: the requests for them are about to come."""
        ...

    def forget(self, digest: Digest, node: NodeName) -> None:
        """``node`` turned out not to have ``digest``."""
        ...

    async def lookup_tag(self, name: Named, *, max_age_s: float) -> tuple[TagAnswer, ...]:
        """Answers not older than ``max_age_s``, freshest first.

        With a registry named: of the nearest ring that has any. Without: of every peer, so that the
        caller sees whether the name is unique.
        """
        ...
