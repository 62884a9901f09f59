"""In which order suspects are checked, and how many checks may wait. Pure.

Each peer gets its turn, so a peer with many suspicions delays the others' by one check at a time. If there
are too many, the peer with most of them loses its last one, so no peer can take the others' places.
"""

from collections import OrderedDict

from agent.oci.digest import Digest
from topology.placement import NodeName

_WAITING_MAX = 256  # more suspicions at once are no news about peers

Turn = tuple[Digest, NodeName]


class Turns:
    """The checks that wait, and the one that runs: it waits until `ended`."""

    def __init__(self, *, at_most: int = _WAITING_MAX) -> None:
        self._at_most = at_most
        self._waiting: OrderedDict[NodeName, OrderedDict[Digest, None]] = OrderedDict()  # the next peer first
        self._slow: set[NodeName] = set()  # their last check failed: everybody else goes first

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, digest: Digest, node: NodeName) -> tuple[bool, Turn | None]:
        """One more check. Returns whether it waits now, and the one that had to make room, if any."""
        own = self._waiting.get(node, ())
        if digest in own:
            return True, None
        dropped = None
        if sum(map(len, self._waiting.values())) >= self._at_most:
            fullest = max(self._waiting, key=lambda each: len(self._waiting[each]))
            if len(self._waiting[fullest]) < len(own) + 2:  # it would be the one that has most
                return False, None
            dropped = self._waiting[fullest].popitem()[0], fullest  # its first one may run
        self._waiting.setdefault(node, OrderedDict())[digest] = None
        return True, dropped

    def next(self) -> Turn:
        """Whose turn it is. Raises StopIteration if nothing waits."""
        well = (node for node in self._waiting if node not in self._slow)
        node = next(well, None) or next(iter(self._waiting))
        return next(iter(self._waiting[node])), node

    def ended(self, digest: Digest, node: NodeName, *, failed: bool) -> None:
        """This check is over. ``failed``: the peer did not give the content, or was too slow."""
        self._waiting[node].pop(digest, None)
        (self._slow.add if failed else self._slow.discard)(node)
        self._waiting.move_to_end(node)
        if not self._waiting[node]:
            del self._waiting[node]
            self._slow.discard(node)
