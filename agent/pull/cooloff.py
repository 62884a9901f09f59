"""How long a peer that failed is left alone (cools off). The time doubles with each failure in a row.

Failures during a cool-off come from other pulls that ran at the same time. They do not count as further
failures in a row. Pure. Times are seconds of one monotonic clock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from topology.placement import NodeName


@dataclass(slots=True)
class _Rest:
    """``lasts_s``: the time that doubles. ``failed_s``: when the peer failed last."""

    until_s: float
    lasts_s: float
    failed_s: float


class CoolOff:
    """Which peers cool off. ``first_s``: how long after a first failure. ``most_s``: how long at most."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = max(first_s, most_s)
        self._resting: dict[NodeName, _Rest] = {}

    def failed(self, node: NodeName, now_s: float) -> None:
        """The peer failed now."""
        rest = self._resting.get(node)
        if rest is not None and now_s < rest.until_s:
            rest.until_s = max(rest.until_s, now_s + self._first_s)
            rest.failed_s = now_s
        else:
            lasts_s = self._next_s(rest, now_s)
            self._resting[node] = _Rest(until_s=now_s + lasts_s, lasts_s=lasts_s, failed_s=now_s)

    def succeeded(self, node: NodeName) -> None:
        """The peer works: end its cool-off."""
        self._resting.pop(node, None)

    def keep_only(self, nodes: Iterable[NodeName]) -> None:
        """Forget all other peers."""
        kept = set(nodes)
        for node in [node for node in self._resting if node not in kept]:
            del self._resting[node]

    def left_s(self, node: NodeName, now_s: float) -> float:
        """For how many more seconds the peer is left alone. 0: it is not."""
        rest = self._resting.get(node)
        return 0.0 if rest is None else max(0.0, rest.until_s - now_s)

    def of_failure_s(self, node: NodeName, now_s: float) -> float:
        """How long a cool-off the peer's failure began. If it does not cool off: what a failure would begin.

        Unlike `left_s`, it stays the same while the cool-off lasts.
        """
        rest = self._resting.get(node)
        if rest is not None and now_s < rest.until_s:
            return rest.until_s - rest.failed_s
        return self._next_s(rest, now_s)

    def _next_s(self, rest: _Rest | None, now_s: float) -> float:
        if rest is None or now_s >= rest.until_s + self._most_s:  # no earlier failure, or long ago
            return self._first_s
        return min(2 * rest.lasts_s, self._most_s)

    def is_known(self, node: NodeName) -> bool:
        """Whether the peer failed since it last worked. Perhaps it is not left alone any more."""
        return node in self._resting

    def resting(self, now_s: float) -> Iterator[NodeName]:
        """The peers that are left alone now."""
        return (node for node, rest in self._resting.items() if now_s < rest.until_s)
