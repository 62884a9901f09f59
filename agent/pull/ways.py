"""Whether it is this node that has no way to a peer, by the error that a connect() met. Pure.

Some errors have two causes. ENETUNREACH, EHOSTUNREACH and EACCES come from this node's routing table, or from
an ICMP answer: of a router, or of the peer's firewall. The routing table tells them apart
(docs/decisions/0024 has the errors that were measured, by cause). One peer's firewall is that peer's problem.

If this node has no way to a peer, all of its network may be gone. Or it has no way to this peer alone: an
IPv6 peer of a node without IPv6, a subnet without a route. Then the peer is as good as dead for this node.
What tells is whether others were reached meanwhile.
"""

import errno
from collections.abc import Callable

from topology.placement import NodeName

_EITHER = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES}
_LOCAL = {errno.ENETDOWN, errno.EPERM, errno.EINVAL}  # no answer of the network becomes one of these
_NEVER_THE_PEERS = {errno.EADDRNOTAVAIL}  # this node's address is gone, or all of its ports are in use
_MOST = 10_000  # peers without a way


class Ways:
    """The peers that this node had no way to when it dialled them last."""

    def __init__(self) -> None:
        self._without: set[NodeName] = set()
        self._alone: set[NodeName] = set()  # of those: others were reached since

    def reached(self, node: NodeName) -> None:
        """A connection to this peer opened."""
        if self._without or self._alone:
            self._alone |= self._without
            self._without.clear()
            self._alone.discard(node)

    def has_none(self, number: int | None, has_route: Callable[[], bool]) -> bool:
        """Whether this error (an errno) says that this node has no way to the peer that was dialled.

        ``has_route``: asks this node's routing table.
        """
        return number in _LOCAL | _NEVER_THE_PEERS or (number in _EITHER and not has_route())

    def is_own(self, node: NodeName, number: int | None) -> bool:
        """Whether that is this node's own trouble, and not a way to this peer alone that is missing."""
        if number in _NEVER_THE_PEERS:
            return True
        if node in self._alone:
            return bool(self._without)  # others lost their way since: perhaps the network is gone again
        if len(self._without) + len(self._alone) >= _MOST:  # they left long ago, most of them
            self._without.clear()
            self._alone.clear()
        self._without.add(node)
        return True
