"""Which peers are asked a question when, and for how long each is waited for. Pure.

A question goes to the nearest ring of peers first, and then to the next one. Peers that cool off are asked
last and briefly: they will most probably not reply, but may be the only ones that know. A peer that does not
reply cools off. `agent.holders.asking` executes this. Times are seconds of one monotonic clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from agent.pull.regard import Regard
from topology.placement import NodeName

GRACE_LEAST_S = 0.002
"""Peers that have not replied get at least so long after the first answer."""


class NamedPeer(Protocol):
    """Whatever can be asked."""

    @property
    def name(self) -> NodeName:
        """The peer's node."""
        ...


P = TypeVar("P", bound=NamedPeer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[P]):
    """Ask these peers at once, and wait for them and for those of the steps before.

    ``deadline_s``: how long each of these peers has for its reply. ``wait_s``: how long to wait before the
    next step, unless the question is answered sooner.
    """

    peers: tuple[P, ...]
    deadline_s: float
    wait_s: float


class AskingPolicy:
    """One node's policy for questions. ``patience_s``, ``timeout_s``: see `LookupSettings`."""

    def __init__(self, *, regard: Regard, patience_s: float, timeout_s: float) -> None:
        self._regard = regard
        self._patience_s = patience_s
        self._timeout_s = timeout_s

    def by_ring(self, rings: Iterable[Sequence[P]], now_s: float) -> tuple[Step[P], ...]:
        """The steps for a question that the nearest peers may answer. ``rings``: the nearest first."""
        cooling = frozenset(self._regard.cooling(now_s))
        well: list[tuple[P, ...]] = []
        last: list[P] = []
        for ring in rings:
            well.append(tuple(peer for peer in ring if peer.name not in cooling))
            last += (peer for peer in ring if peer.name in cooling)
        return self._steps(well, last)

    def everyone(self, rings: Iterable[Sequence[P]], now_s: float) -> tuple[Step[P], ...]:
        """The steps for a question to all peers at once."""
        return self.by_ring([[peer for ring in rings for peer in ring]], now_s)

    def silent(self, node: NodeName, now_s: float) -> None:
        """The peer did not reply before its deadline, or could not be reached. It failed."""
        self._regard.failed(node, now_s)

    def _steps(self, rings: Iterable[tuple[P, ...]], last: Iterable[P]) -> tuple[Step[P], ...]:
        patience_s, timeout_s = self._patience_s, self._timeout_s
        steps = [Step(peers=ring, deadline_s=timeout_s, wait_s=patience_s) for ring in rings if ring]
        linger: Step[P] = Step(peers=(), deadline_s=timeout_s, wait_s=timeout_s)  # no farther ring is left
        last_resort = Step(peers=tuple(last), deadline_s=patience_s, wait_s=patience_s)
        return (*steps, linger, last_resort) if last_resort.peers else (*steps, linger)


def grace_s(took_s: float) -> float:
    """How long peers that have not replied yet are waited for after the first answer.

    ``took_s``: how long the first answer took. They get as long again, because equal holders should share
    the work.
    """
    return max(GRACE_LEAST_S, took_s)
