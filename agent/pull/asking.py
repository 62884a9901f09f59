"""Which peers are asked a question when, and for how long each is waited for. Pure.

The nearest peers are asked together, up to `AskingPolicy.at_once` of them; farther ones follow ring by ring.
Near peers are preferred when a holder is chosen: a near one that has not replied is waited for, as long as it
usually takes, although a farther one has answered. Peers as near as the first holder get as long again as its
answer took, because equal holders should share the work. Nobody waits for farther ones.
Peers that cool off are asked last and briefly: they will most probably not reply, but may be the only ones
that know. A peer that does not reply cools off. `agent.holders.asking` executes this. Times are seconds of
one monotonic clock.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Generic, Protocol, TypeVar

from agent.pull.regard import Regard
from topology.placement import NodeName

NOBODY = 1 << 30
"""The ring of the nearest peer that is waited for, if none is. It is farther than any."""

_LEAST_S = 0.005  # a shorter wait would depend on what this process does at the moment
_SMOOTHING, _SPREAD_SMOOTHING, _SPREADS = 1 / 8, 1 / 4, 4  # RFC 6298: how long TCP waits for an answer


class NamedPeer(Protocol):
    """Whatever can be asked."""

    @property
    def name(self) -> NodeName:
        """The peer's node."""
        ...


P = TypeVar("P", bound=NamedPeer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[P]):
    """A peer that is asked. ``ring``: how near it is; 0 is the nearest ring. ``deadline_s``: how long it has.

    ``late_s``: after this time a holder in a farther ring is taken instead of waiting for it.
    """

    peer: P
    ring: int
    deadline_s: float
    late_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[P]):
    """Ask these peers at once, and wait for them and for those of the steps before.

    ``wait_s``: how long to wait before the next step, unless the question is answered sooner, or nobody is
    waited for any more.
    """

    asked: tuple[Asked[P], ...]
    wait_s: float


class AskingPolicy:
    """One node's policy for questions. ``at_once``, ``patience_s``, ``timeout_s``: see `LookupSettings`."""

    def __init__(self, *, regard: Regard, at_once: int, patience_s: float, timeout_s: float) -> None:
        self._regard = regard
        self._at_once = at_once
        self.patience_s = patience_s
        self.timeout_s = timeout_s
        self._usual: dict[NodeName, _Usual] = {}

    def members_changed(self, members: Iterable[NodeName]) -> None:
        """These are the members now. Forget how fast all other peers were."""
        kept = frozenset(members)
        self._usual = {node: usual for node, usual in self._usual.items() if node in kept}

    def nearest_first(self, rings: Iterable[Sequence[P]], now_s: float) -> Iterator[Step[P]]:
        """The steps for a question that the nearest peers may answer. ``rings``: the nearest first.

        Each step is made when it is needed: most questions end with the first.
        """
        cooling: list[Asked[P]] = []
        well = self._well(rings, now_s, cooling)
        first = (*islice(well, self._at_once),)
        room = self._at_once - len(first)  # if there is any, nobody else is well
        first += (*cooling[:room],)
        if first:
            yield self._step(first)
        for _, ring in groupby(well, key=lambda asked: asked.ring):
            yield self._step((*ring,))
        yield Step(asked=(), wait_s=self.timeout_s)  # no farther ring is left
        if left := (*cooling[room:],):
            yield self._step(left)

    def everyone(self, rings: Iterable[Sequence[P]], now_s: float) -> tuple[Step[P], ...]:
        """The steps for a question to all peers at once."""
        cooling: list[Asked[P]] = []
        well = (*self._well(rings, now_s, cooling),)
        return (Step(asked=(*well, *cooling), wait_s=self.timeout_s),)

    def replied(self, node: NodeName, took_s: float, now_s: float) -> None:
        """The peer replied after this time."""
        self._regard.heard(node, now_s)
        usual = self._usual.get(node)
        if usual is None:
            self._usual[node] = _Usual(mean_s=took_s, spread_s=took_s / 2)
        else:
            usual.add(took_s)

    def heard(self, node: NodeName, now_s: float) -> None:
        """See `Regard.heard`."""
        self._regard.heard(node, now_s)

    def could_not_ask(self, words: str, now_s: float) -> None:
        """See `Regard.could_not_ask`."""
        self._regard.could_not_ask(words, now_s)

    def unanswered(self, node: NodeName, words: str, now_s: float) -> None:
        """The peer did not reply before its deadline, or could not be reached. It failed.

        ``words``: what happened.
        """
        self._regard.unanswered(node, words, now_s)

    def refused(self, node: NodeName, words: str, now_s: float, *, busy: bool) -> None:
        """The peer answered, but takes no question. ``busy``: it may the next time. Else it failed."""
        self._regard.refused(node, words, now_s)
        if not busy:
            self._regard.failed(node, now_s)

    def _well(
        self, rings: Iterable[Sequence[P]], now_s: float, cooling: list[Asked[P]]
    ) -> Iterator[Asked[P]]:
        """The peers that are well, the nearest first. Those that cool off are added to ``cooling``."""
        resting = frozenset(self._regard.cooling(now_s))
        for ring, peers in enumerate(rings):
            for peer in peers:
                usual_s = self._usual_s(peer.name)
                if peer.name in resting:  # whoever is well comes first in the choice, however far away
                    cooling.append(Asked(peer=peer, ring=ring, deadline_s=usual_s, late_s=0.0))
                else:
                    yield Asked(peer=peer, ring=ring, deadline_s=self.timeout_s, late_s=usual_s)

    def _usual_s(self, node: NodeName) -> float:
        """How long the peer usually takes at most."""
        usual = self._usual.get(node)
        return self.patience_s if usual is None else min(max(_LEAST_S, usual.bound_s), self.patience_s)

    def _step(self, asked: tuple[Asked[P], ...]) -> Step[P]:
        return Step(asked=asked, wait_s=self.patience_s)


@dataclass(slots=True)
class _Usual:
    """How long a peer usually takes to reply, and by how much that varies."""

    mean_s: float
    spread_s: float

    @property
    def bound_s(self) -> float:
        return self.mean_s + _SPREADS * self.spread_s

    def add(self, took_s: float) -> None:
        self.spread_s += _SPREAD_SMOOTHING * (abs(took_s - self.mean_s) - self.spread_s)
        self.mean_s += _SMOOTHING * (took_s - self.mean_s)


@dataclass(slots=True)
class Awaited:
    """The peers that were asked and have not replied. ``late_at_s``: until when each is waited for.

    ``patient``: peers as near as the first that has what is asked for get at least their usual time.
    """

    patient: bool = False
    rings: dict[NodeName, int] = field(default_factory=dict)
    late_at_s: dict[NodeName, float] = field(default_factory=dict)

    def add(self, asked: Iterable[Asked[P]], now_s: float) -> None:
        """These peers are asked now."""
        for one in asked:
            self.rings[one.peer.name] = one.ring
            self.late_at_s[one.peer.name] = now_s + one.late_s

    def shift(self, by_s: float) -> None:
        """This node did not run for so long: wait for each of them as much longer."""
        self.late_at_s = {node: at_s + by_s for node, at_s in self.late_at_s.items()}

    def ended(self, node: NodeName) -> None:
        """The peer replied, or it will not."""
        self.rings.pop(node, None)
        self.late_at_s.pop(node, None)

    def answered(self, ring: int, took_s: float, now_s: float) -> None:
        """A peer of this ring has what is asked for. Its reply took ``took_s``."""
        for node, other in self.rings.items():
            again_s = now_s + took_s  # if this node is slow at the moment, all others may be as late
            if other < ring or (other == ring and self.patient):
                self.late_at_s[node] = max(again_s, self.late_at_s[node])
            elif other == ring:
                self.late_at_s[node] = again_s

    def nearest(self, now_s: float) -> int:
        """The ring of the nearest peer that is not late. `NOBODY` if none is waited for."""
        return min(
            (ring for node, ring in self.rings.items() if now_s < self.late_at_s[node]), default=NOBODY
        )

    def next_late_s(self, now_s: float) -> float | None:
        """When the next peer will be late. None: no further one will be."""
        return min((at_s for at_s in self.late_at_s.values() if at_s > now_s), default=None)
