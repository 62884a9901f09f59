"""How long a peer that failed is left alone: twice as long after each failure in a row.

Pure; times are seconds of one monotonic clock. Failures that come while a peer cools off already are
echoes of the same one, from pulls that ran beside, and count once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from topology.placement import NodeName


@dataclass(slots=True)
class _Rest:
    until_s: float
    lasts_s: float


class CoolOff:
    """Who cools off. ``first_s``: after a first failure; ``most_s``: at most."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = max(first_s, most_s)
        self._resting: dict[NodeName, _Rest] = {}

    def failed(self, node: NodeName, now_s: float) -> None:
        """The peer failed now."""
        rest = self._resting.get(node)
        if rest is None or now_s >= rest.until_s + self._most_s:  # it was well, or is not known to be ill
            self._resting[node] = _Rest(until_s=now_s + self._first_s, lasts_s=self._first_s)
        elif now_s >= rest.until_s:
            rest.lasts_s = min(2 * rest.lasts_s, self._most_s)
            rest.until_s = now_s + rest.lasts_s
        else:
            rest.until_s = max(rest.until_s, now_s + self._first_s)

    def succeeded(self, node: NodeName) -> None:
        """The peer proved to be well."""
        self._resting.pop(node, None)

    def keep_only(self, nodes: Iterable[NodeName]) -> None:
        """Forget all but these."""
        kept = set(nodes)
        for node in [node for node in self._resting if node not in kept]:
            del self._resting[node]

    def left_s(self, node: NodeName, now_s: float) -> float:
        """How long the peer is still left alone; 0 for one that is not."""
        rest = self._resting.get(node)
        return 0.0 if rest is None else max(0.0, rest.until_s - now_s)

    def resting(self, now_s: float) -> Iterator[NodeName]:
        """The peers that are left alone now."""
        return (node for node, rest in self._resting.items() if now_s < rest.until_s)
