"""Whose turn it is to be asked for figures. Pure: seconds of one clock.

Ten questions a second at most, whatever happens. Who may be gone goes first: its connection broke, or it did
not answer. But those get no more than every other turn, or nobody would hear of the rest while a zone is
down.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from topology.placement import NodeName, ZoneKey

ASKED_MAX = 200
"""So many nodes are asked in turn. Of a larger cluster, a sample of each zone."""

PER_S, PER_S_OF_SAMPLE = 10.0, 5.0
"""So many questions a second are asked. An agent of a large cluster has enough to do as it is."""

EVERY_S = 2.5
"""A node is asked no more often, so that a frozen one is known after this and `TIMEOUT_S`."""

TIMEOUT_S = 2.0
"""So long an answer is waited for."""

_AGAIN_S = 1.0  # a node that did not answer is asked again so soon


def sample(zones: Mapping[ZoneKey | None, Sequence[NodeName]], most: int = ASKED_MAX) -> tuple[NodeName, ...]:
    """Whom to ask: all if there are no more than ``most``, else as many of each zone as fit.

    A small zone is asked whole, and what it leaves is shared by the others. Of a zone the first are asked.
    """
    left, chosen = most, list[NodeName]()
    by_size = sorted(zones.values(), key=len)
    for place, nodes in enumerate(by_size):
        share = left // (len(by_size) - place)
        chosen += nodes[:share]
        left -= min(share, len(nodes))
    return tuple(chosen)


class Turns:
    """Who is asked next, of those that `use` named."""

    def __init__(self) -> None:
        self.per_s = PER_S
        self._asked_s: dict[NodeName, float] = {}  # whose turn was longest ago comes first
        self._urgent: dict[NodeName, None] = {}
        self._silent: dict[NodeName, float] = {}  # when it was asked last
        self._was_urgent = False

    def __len__(self) -> int:
        return len(self._asked_s)

    @property
    def names(self) -> Iterable[NodeName]:
        """Those that are asked in turn."""
        return self._asked_s.keys()

    @property
    def begun(self) -> bool:
        """Whether each of them was asked."""
        return not self._asked_s or next(iter(self._asked_s.values())) > -math.inf

    @property
    def round_s(self) -> float:
        """How long it takes to ask all of them."""
        return max(EVERY_S, len(self._asked_s) / self.per_s)

    def use(self, names: Iterable[NodeName], *, is_sample: bool = False) -> None:
        """These are asked from now on."""
        self.per_s = PER_S_OF_SAMPLE if is_sample else PER_S
        known = self._asked_s
        kept = {name: known.get(name, -math.inf) for name in names}
        self._asked_s = dict(sorted(kept.items(), key=lambda item: item[1]))
        self._silent = {name: at_s for name, at_s in self._silent.items() if name in kept}

    def lost(self, name: NodeName) -> None:
        """Its connection broke: it may be gone."""
        self._urgent[name] = None

    def silent(self, name: NodeName, now_s: float) -> None:
        """It did not answer."""
        self._silent[name] = now_s

    def answered(self, name: NodeName) -> None:
        """It answered."""
        self._silent.pop(name, None)

    def next(self, now_s: float) -> NodeName | None:
        """Who is asked now. None: nobody's turn has come."""
        urgent, usual = self._next_urgent(now_s), self._next_usual(now_s)
        self._was_urgent = urgent is not None and (usual is None or not self._was_urgent)
        chosen = urgent if self._was_urgent else usual
        if chosen is not None:
            self._urgent.pop(chosen, None)
            if chosen in self._silent:
                self._silent[chosen] = now_s
            if chosen in self._asked_s:
                del self._asked_s[chosen]
                self._asked_s[chosen] = now_s
        return chosen

    def wait_s(self, now_s: float) -> float:
        """How long nobody's turn comes, if nothing happens. Not longer than `EVERY_S`.

        0 exactly if `next` has somebody now. So long after ``now_s`` it has somebody, if there is anybody.
        """
        if self._urgent:
            return 0.0
        due = (self._silent_due(), self._usual_due())
        due_s = min((at_s for at_s, _ in filter(None, due)), default=now_s + EVERY_S)
        left_s = max(0.0, due_s - now_s)
        while now_s + left_s < due_s:  # the difference was rounded down
            left_s = math.nextafter(left_s, math.inf)
        return min(EVERY_S, left_s)

    def _next_urgent(self, now_s: float) -> NodeName | None:
        return next(iter(self._urgent)) if self._urgent else _due_now(self._silent_due(), now_s)

    def _next_usual(self, now_s: float) -> NodeName | None:
        return _due_now(self._usual_due(), now_s)

    def _silent_due(self) -> tuple[float, NodeName] | None:
        """The first of the silent ones, and when it is asked again. None: all answer."""
        name = min(self._silent, key=self._silent.__getitem__, default=None)
        return None if name is None else (self._silent[name] + _AGAIN_S, name)

    def _usual_due(self) -> tuple[float, NodeName] | None:
        """The first of those that answer, and when its turn comes. None: nobody answers."""
        usual = ((at_s + EVERY_S, name) for name, at_s in self._asked_s.items() if name not in self._silent)
        return next(usual, None)


def _due_now(due: tuple[float, NodeName] | None, now_s: float) -> NodeName | None:
    return due[1] if due is not None and due[0] <= now_s else None
