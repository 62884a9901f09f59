"""Claims of the whole cluster: the node that has its zone's claim asks the cluster's arbiter as well.

If another zone fetches the content, this node is its zone's gateway: it follows the nodes that the arbiter
names, and its own zone follows it. See `agent.holders.gateways` for whom it is told, and
`cold_start.scope` for why this is not the default.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from agent.config import ColdStartSettings
from agent.holders.claimant import Answer, Outcome
from agent.holders.claims import ClaimKey, Held
from agent.oci.digest import Digest
from agent.oci.reference import Addressed
from topology.placement import NodeName

TWO_GATEWAYS_BYTES = 1 << 30
"""A larger content is carried into a zone by two nodes: if one dies, the other has most of it."""

_AT_ONCE_S = 0.5


class Claims(Protocol):
    """Asks for claims, and keeps them. See `Claimant`, whose methods these are."""

    settings: ColdStartSettings

    def key_of(self, target: Addressed) -> ClaimKey:
        """The claim that is about this content under this name."""
        ...

    def has(self, key: ClaimKey) -> bool:
        """Whether this node's containerd is on its way to the registry for it."""
        ...

    async def ask(
        self, key: ClaimKey, *, beyond_bytes: int, wait_s: float, despite: NodeName | None = None
    ) -> Answer:
        """Ask for a claim, and wait. If it is granted, call `use` or `give_back` once."""
        ...

    def use(self, key: ClaimKey) -> None:
        """The client is sent to the registry with this claim."""
        ...

    def give_back(self, key: ClaimKey) -> None:
        """The client left, or got the content from elsewhere."""
        ...


class ClusterClaims:
    """Claims in two steps. ``claims``: takes those of either reach. A key is always that of the zone.

    ``size_of``: the size of a content that this node's containerd is about to fetch; None: not known.
    """

    def __init__(
        self,
        claims: Claims,
        *,
        size_of: Callable[[Digest], int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._size_of = size_of
        self.settings = claims.settings
        self._clock = clock

    def key_of(self, target: Addressed) -> ClaimKey:
        """See `Claims`."""
        return self._claims.key_of(target)

    def has(self, key: ClaimKey) -> bool:
        """Whether this node's containerd is on its way to the registry. A gateway's is not."""
        return self._claims.has(_across(key))

    async def ask(
        self, key: ClaimKey, *, beyond_bytes: int, wait_s: float, despite: NodeName | None = None
    ) -> Answer:
        """See `Claims`. Both steps together take ``wait_s`` at most."""
        until_s = self._clock() + wait_s
        near = await self._claims.ask(key, beyond_bytes=beyond_bytes, wait_s=wait_s, despite=despite)
        if near.outcome is Outcome.FOLLOWED and (self._size_of(key.digest) or 0) > TWO_GATEWAYS_BYTES:
            return await self._as_second_gateway(key, near, beyond_bytes)
        if near.outcome not in (Outcome.GRANTED, Outcome.ALONE):
            return near
        far: Answer | None = None
        try:
            left_s = max(0.0, until_s - self._clock())
            far = await self._claims.ask(
                _across(key), beyond_bytes=beyond_bytes, wait_s=left_s, despite=despite
            )
        finally:
            if far is None:  # the client left
                self._claims.give_back(key)
        if far.held is not None:
            self._claims.use(key)  # the zone is told of what containerd writes, wherever it comes from
            return replace(far, held=_without(far.held, despite))
        return far if near.outcome is Outcome.ALONE else near

    async def _as_second_gateway(self, key: ClaimKey, near: Answer, beyond_bytes: int) -> Answer:
        """Whom to follow in another zone, if the zone's second gateway is this node; else within the zone.

        The cluster's arbiter knows that, and answers at once: who fetches has begun.
        """
        far = await self._claims.ask(_across(key), beyond_bytes=beyond_bytes, wait_s=_AT_ONCE_S)
        if far.outcome is Outcome.GRANTED:  # nobody fetches any more; the zone's gateway will notice
            self._claims.give_back(_across(key))
        return near if far.held is None else far

    def use(self, key: ClaimKey) -> None:
        """See `Claims`."""
        self._claims.use(key)
        self._claims.use(_across(key))

    def give_back(self, key: ClaimKey) -> None:
        """See `Claims`."""
        self._claims.give_back(key)
        self._claims.give_back(_across(key))


def _without(held: Held, node: NodeName | None) -> Held:
    """The same without a source that gave nothing, if there is another one.

    If the last one, who fetched it, has all of it, the gateways before it need not.
    """
    others = tuple(source for source in held.sources if source != node) or held.sources
    return replace(held, sources=others, complete=held.complete and len(others) == 1)


def _across(key: ClaimKey) -> ClaimKey:
    return replace(key, cluster=True)
