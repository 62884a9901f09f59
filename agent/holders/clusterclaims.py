"""Claims of the whole cluster: the node that has its zone's claim asks the cluster's arbiter as well.

If another zone fetches the content, this node is its zone's gateway: it follows the nodes that the arbiter
names, and its own zone follows it. See `agent.holders.gateways` for whom it is told, and
`cold_start.scope` for why this is not the default.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from agent.holders.claimant import Answer, Outcome
from agent.holders.claims import ClaimKey, Held
from agent.oci.reference import Addressed
from topology.placement import NodeName


class Claims(Protocol):
    """What a pull needs of claims. For each method see `agent.holders.claimant.Claimant`."""

    def key_of(self, target: Addressed) -> ClaimKey: ...

    def has(self, key: ClaimKey) -> bool: ...

    async def ask(
        self, key: ClaimKey, *, beyond_bytes: int, wait_s: float, despite: NodeName | None = None
    ) -> Answer: ...

    def use(self, key: ClaimKey) -> None: ...

    def give_back(self, key: ClaimKey) -> None: ...


class ClusterClaims:
    """Claims in two steps. ``claims``: takes those of either reach. A key is always that of the zone."""

    def __init__(self, claims: Claims, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._claims = claims
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

    def use(self, key: ClaimKey) -> None:
        """See `Claims`."""
        self._claims.use(key)
        self._claims.use(_across(key))

    def give_back(self, key: ClaimKey) -> None:
        """See `Claims`."""
        self._claims.give_back(key)
        self._claims.give_back(_across(key))


def _without(held: Held, node: NodeName | None) -> Held:
    """The same without a source that gave nothing, if there is another one."""
    others = tuple(source for source in held.sources if source != node)
    return replace(held, sources=others) if others else held


def _across(key: ClaimKey) -> ClaimKey:
    return replace(key, cluster=True)
