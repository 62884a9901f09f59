"""The members that may decide on claims, and the first of them that can be asked. Pure.

The order of the members is another one for each content: see `agent.holders.claims.arbiters`. It costs a hash
for each member. Of more than `_ALL_MAX` members only `_WINDOW` are looked at: those that follow the content's
point on a circle on which each member has one. So a content costs the same in a cluster of any size, and
nodes whose lists differ by a few members agree nearly always. The first few are kept for each content.

Source: Karger et al., "Consistent hashing and random trees" (1997), with a rendezvous among the neighbours
that evens out how much each member decides on.
"""

import hashlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Set
from itertools import chain, islice

from agent.holders.claims import ClaimKey, arbiters
from topology.placement import NodeName

_FIRST = 6  # three that do not answer, and as many that failed a moment ago
_KEYS_MAX = 4096  # a node pulls some tens of contents at once; these take a MB
_ALL_MAX = 512  # 0.2 ms
_WINDOW = 32


class Arbiters:
    """``members``: all that may decide, the node that asks among them.

    ``before``: those of before, whose members need not be hashed again.
    """

    def __init__(self, members: Iterable[NodeName], before: "Arbiters | None" = None) -> None:
        self._members = tuple(members)
        self._first: OrderedDict[ClaimKey, tuple[NodeName, ...]] = OrderedDict()
        self._points: dict[NodeName, int] = {} if before is None else before._points
        self._circle: list[tuple[int, NodeName]] = []

    def any_other(self, own: NodeName, without: Set[NodeName]) -> bool:
        """Whether there is anybody but ``own`` and these."""
        return any(name != own and name not in without for name in self._members)

    def first(self, key: ClaimKey, own: NodeName, *, without: Set[NodeName] = frozenset()) -> NodeName | None:
        """Who decides, if these are not asked. None: there is nobody but ``own``."""
        if not self.any_other(own, without):
            return None
        others = without - {own}
        for name in self._known(key):
            if name not in others:
                return name
        return self._in_order(key, others, most=1)[0]

    def _known(self, key: ClaimKey) -> tuple[NodeName, ...]:
        known = self._first.get(key)
        if known is None:
            known = self._first[key] = self._in_order(key, frozenset(), most=_FIRST)
            if len(self._first) > _KEYS_MAX:
                self._first.popitem(last=False)
        return known

    def _in_order(self, key: ClaimKey, without: Set[NodeName], *, most: int) -> tuple[NodeName, ...]:
        left = (name for name in self._after(key) if name not in without)
        return arbiters(key, islice(left, _WINDOW) if self._circle else left, most=most)

    def _after(self, key: ClaimKey) -> Iterator[NodeName]:
        """The members from the content's point on, all around the circle. Few members have no circle."""
        if len(self._members) <= _ALL_MAX:
            return iter(self._members)
        if not self._circle:
            known = self._points
            self._points = {name: known.get(name) or _point(name) for name in self._members}
            self._circle = sorted((point, name) for name, point in self._points.items())
        start = bisect_left(self._circle, (_point(f"{key.digest}\0{key.realm}"),))
        around = chain(islice(self._circle, start, None), islice(self._circle, start))
        return (name for _, name in around)


def _point(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
