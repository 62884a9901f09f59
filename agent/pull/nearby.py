"""Whom a look-up asks where there are too many peers to ask all of them, and how much it may ask. Pure.

It asks the whole own zone, and after that a few peers elsewhere: always the same ones, so that few
connections are open. It asks them in steps, and a node asks no more than `QuestionBudget` allows, whatever is
looked up. As all nodes of a zone ask alike, none is asked much more often than it asks. So the bound is also
that of the node that answers, however many nodes ask at the same moment.

Used in place of an index that is out of reach, in very large clusters without one, and to find tags.
Times are seconds of one monotonic clock.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Generic

from agent.pull.asking import AskingPolicy, P, Step
from topology.placement import NodeName

EVERYBODY_MAX = 200
"""Up to so many peers all can be asked. Above that, tags are asked of the own zone, and `scatter` warns."""

SCATTER_MAX = 1000
"""Up to so many peers `scatter` asks all of them. Above that, it would take a node seconds of processor time
to look up what nobody has, and a hundred MB for the connections.
"""

NEAR_MAX = 1024
"""So many peers of the own zone are asked at most. Each costs both ends a connection of some 40 kB."""

OTHERS_MAX = 64
QUESTIONS_PER_S = 512.0
"""How many peers a node asks in a second, in the long run.

A question costs each end 0.1 ms of processor time, and ten times that if it opens the connection.
"""

BURST = 1024
"""How many it may ask at once: everybody in a zone of 500, twice."""

SEARCHES_MAX = 2
"""So many searches run at a time. What is wanted meanwhile is gathered, and asked for together."""

TAGS_WAIT_MAX_S = 0.25
"""So long a question for a tag waits until it may be asked. A registry says what a tag is with one HEAD."""

_LOOK_AGAIN_S = 0.02


class QuestionBudget:
    """How many questions a node may ask. Whoever takes more than there are waits until they are there.

    ``per_s``: so many in the long run. ``burst``: so many at once.
    """

    def __init__(self, *, per_s: float = QUESTIONS_PER_S, burst: int = BURST) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = float(burst)
        self._at_s: float | None = None

    def take(self, count: int, now_s: float) -> float:
        """Take so many. Returns how many seconds to wait before asking them."""
        self._fill(now_s)
        self._left -= count
        return max(0.0, -self._left / self._per_s)

    def give_back(self, count: int) -> None:
        """So many that were taken are not asked."""
        self._left = min(self._burst, self._left + count)

    def wait_s(self, now_s: float) -> float:
        """For how long everything that is there is spoken for. 0: a new search may begin."""
        self._fill(now_s)
        return max(0.0, -self._left / self._per_s)

    def _fill(self, now_s: float) -> None:
        since_s = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        self._left = min(self._burst, self._left + since_s * self._per_s)


class NearbyAsking(Generic[P]):
    """The steps of questions to the peers nearby. ``policy``: says the rest of who is asked when.

    ``is_near``: whether a peer is in the own zone. ``at_once``: the most peers in a step. ``budget``: that of
    this node. ``near_max``, ``others_max``: so many peers of the own zone, and of the others.
    ``wait_max_s``: no more peers are asked once a step would have to wait for so long for the budget.
    """

    def __init__(
        self,
        policy: AskingPolicy,
        *,
        is_near: Callable[[NodeName], bool],
        at_once: int,
        budget: QuestionBudget,
        near_max: int = NEAR_MAX,
        others_max: int = OTHERS_MAX,
        wait_max_s: float = math.inf,
    ) -> None:
        self._policy = policy
        self._is_near = is_near
        self._at_once = at_once
        self._budget = budget
        self._near_max = near_max
        self._others_max = others_max
        self._wait_max_s = wait_max_s
        self._all: Sequence[Sequence[P]] = ()
        self._nearby: tuple[tuple[P, ...], ...] = ()

    def nearest_first(self, rings: Sequence[Sequence[P]], now_s: float) -> Iterator[Step[P]]:
        """See `AskingPolicy.nearest_first`. ``rings``: all peers, the same object until they change."""
        return self._in_steps(self._policy.nearest_first(self._of(rings), now_s))

    def everyone(self, rings: Sequence[Sequence[P]], now_s: float) -> Iterator[Step[P]]:
        """The steps for a question to everybody nearby. Only the last one is waited for in full."""
        return self._in_steps(self._policy.everyone(self._of(rings), now_s))

    def take(self, count: int, now_s: float) -> float | None:
        """See `QuestionBudget.take`. None: it would have to wait for too long, and nothing was taken."""
        wait_s = self._budget.take(count, now_s)
        if wait_s <= self._wait_max_s:
            return wait_s
        self._budget.give_back(count)
        return None

    def give_back(self, count: int) -> None:
        """See `QuestionBudget.give_back`."""
        self._budget.give_back(count)

    def pause_s(self, searches: int, now_s: float) -> float:
        """How long to gather what is wanted before the next search. ``searches``: how many run now."""
        wait_s = self._budget.wait_s(now_s)
        return max(wait_s, _LOOK_AGAIN_S) if wait_s or searches >= SEARCHES_MAX else 0.0

    def _of(self, rings: Sequence[Sequence[P]]) -> tuple[tuple[P, ...], ...]:
        """Of these rings, the peers nearby: the own zone's before all others. O(peers), once per change."""
        if rings is not self._all:
            near, others = self._part(rings, True), self._part(rings, False)
            chosen = chain(_first(near, self._near_max), _first(others, self._others_max))
            self._all, self._nearby = rings, tuple(chosen)
        return self._nearby

    def _part(self, rings: Sequence[Sequence[P]], is_near: bool) -> Iterator[tuple[P, ...]]:
        return (tuple(peer for peer in ring if self._is_near(peer.name) is is_near) for ring in rings)

    def _in_steps(self, steps: Iterable[Step[P]]) -> Iterator[Step[P]]:
        for step in steps:
            starts = range(0, max(1, len(step.asked)), self._at_once)
            for start in starts:
                asked = step.asked[start : start + self._at_once]
                last = start == starts[-1]
                yield replace(step, asked=asked, wait_s=step.wait_s if last else self._policy.patience_s)


def _first(rings: Iterable[tuple[P, ...]], most: int) -> Iterator[tuple[P, ...]]:
    """The first ``most`` of all peers in these rings. No ring is empty."""
    for ring in rings:
        if part := ring[:most]:
            most -= len(part)
            yield part
