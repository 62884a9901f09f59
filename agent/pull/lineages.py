"""From whom this node has the content that is still arriving here. Pure.

Whoever follows this node is told: if the bytes are wrong, the node at the beginning of the chain is to blame,
and not those between. A content that this node's containerd fetches from the registry begins here.
"""

from collections import OrderedDict
from dataclasses import dataclass

from agent.oci.digest import Digest
from topology.placement import NodeName

_DIGESTS_MAX = 1024  # more contents do not arrive at once; the oldest ones are complete, or given up


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """``origin``: the first node that the bytes came through. ``depth``: how many steps away it is."""

    origin: NodeName
    depth: int


class Lineages:
    """What is known of the contents that arrive at the node ``own``."""

    def __init__(self, own: NodeName) -> None:
        self._own = Lineage(origin=own, depth=0)
        self._known: OrderedDict[Digest, Lineage] = OrderedDict()

    def came_from(self, digest: Digest, lineage: Lineage) -> None:
        """This node's containerd is sent the content from a peer. The last peer counts."""
        self._known[digest] = lineage
        self._known.move_to_end(digest)
        if len(self._known) > _DIGESTS_MAX:
            self._known.popitem(last=False)

    def left_to_registry(self, digest: Digest) -> None:
        """No peer gives it any longer: what follows comes from the registry."""
        self._known.pop(digest, None)

    def of(self, digest: Digest) -> Lineage:
        """From whom the content comes. This node itself, unless a peer sends it."""
        return self._known.get(digest, self._own)
