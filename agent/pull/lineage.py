"""Where the bytes come from that this node's containerd is getting now: who had them first, and how far off.

A node that serves content while it fetches it tells its own followers this, so that wrong bytes make their
first source suspect and not those who passed them on. Pure. Times are seconds of one monotonic clock.
"""

from collections import OrderedDict
from dataclasses import dataclass

from agent.oci.digest import Digest
from topology.placement import NodeName

DEPTH_MAX = 64
"""A chain that says to be longer is believed to be this long."""

_KEPT_S = 3600.0  # a pull that takes longer is told as this node's own
_KEPT_MAX = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """``origin``: the node that the bytes came from first. ``depth``: how many agents they pass until here.

    Content that this node has complete, or that its containerd fetches from the registry, is its own: 0.
    """

    origin: NodeName
    depth: int = 0


class Lineages:
    """What is known of the contents that this node's containerd is being sent."""

    def __init__(self, own: NodeName) -> None:
        self._own = Lineage(origin=own)
        self._known: OrderedDict[Digest, tuple[Lineage, float]] = OrderedDict()

    def sent_by(
        self, digest: Digest, node: NodeName, now_s: float, *, origin: NodeName | None = None, depth: int = 0
    ) -> Lineage:
        """A peer is sending it. ``origin``, ``depth``: what it says of itself. Returns the lineage here."""
        lineage = Lineage(origin=origin or node, depth=min(max(depth, 0), DEPTH_MAX - 1) + 1)
        self._known[digest] = lineage, now_s
        self._known.move_to_end(digest)
        while len(self._known) > _KEPT_MAX:
            self._known.popitem(last=False)
        return lineage

    def left_to_registry(self, digest: Digest) -> None:
        """This node's containerd was told to fetch it, or the rest of it, from the registry."""
        self._known.pop(digest, None)

    def of(self, digest: Digest, now_s: float) -> Lineage:
        """Where the bytes come from that are here so far."""
        known = self._known.get(digest)
        if known is None or now_s - known[1] > _KEPT_S:
            return self._own
        return known[0]
