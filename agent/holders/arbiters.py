"""The members that may decide on claims, and the first of them that can be asked. Pure.

The order of the members is another one for each content: see `agent.holders.claims.arbiters`. It costs a hash
for each member, so the first few are kept. All of them are hashed again only if none of these can be asked.
"""

from collections import OrderedDict
from collections.abc import Iterable, Set

from agent.holders.claims import ClaimKey, arbiters
from topology.placement import NodeName

_FIRST = 6  # three that do not answer, and as many that failed a moment ago
_KEYS_MAX = 4096  # a node pulls some tens of contents at once; these take a MB


class Arbiters:
    """``members``: all that may decide, the node that asks among them."""

    def __init__(self, members: Iterable[NodeName]) -> None:
        self._members = tuple(members)
        self._first: OrderedDict[ClaimKey, tuple[NodeName, ...]] = OrderedDict()

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
        return arbiters(key, (name for name in self._members if name not in others), most=1)[0]

    def _known(self, key: ClaimKey) -> tuple[NodeName, ...]:
        known = self._first.get(key)
        if known is None:
            known = self._first[key] = arbiters(key, self._members, most=_FIRST)
            if len(self._first) > _KEYS_MAX:
                self._first.popitem(last=False)
        return known
