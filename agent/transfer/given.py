"""What each holder gave to one pull, and who had it first. Does no I/O."""

from collections import Counter
from collections.abc import Container

from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.pull.arrival import Arrival
from agent.pull.following import is_in_flight
from agent.pull.lineages import Lineage, Lineages
from topology.placement import NodeName
from topology.ranking import Ranked


class Given:
    """``by``: how many bytes the client was sent from each holder. ``in_flight_bytes``: how many of them the
    holder gave while it was still fetching the content. ``origins``: who such a holder had it from.
    """

    def __init__(self, digest: Digest, *, lineages: Lineages, metrics: Metrics) -> None:
        self._digest = digest
        self._lineages = lineages
        self._metrics = metrics
        self.by: dict[NodeName, tuple[Ranked, int]] = {}
        self.in_flight_bytes: Counter[NodeName] = Counter()
        self.origins: dict[NodeName, NodeName] = {}

    @property
    def sizes(self) -> dict[NodeName, int]:
        """How many bytes of each holder."""
        return {node: size_bytes for node, (_, size_bytes) in self.by.items()}

    def bytes_of(self, node: NodeName) -> int:
        """How many bytes of one holder."""
        return self.by[node][1] if node in self.by else 0

    def add(self, holder: Ranked, size_bytes: int) -> None:
        """The client was sent so many bytes of this holder."""
        _, before = self.by.get(holder.node, (holder, 0))
        self.by[holder.node] = holder, before + size_bytes
        if is_in_flight(holder):
            self.in_flight_bytes[holder.node] += size_bytes
            self._metrics.in_flight_received(holder.tier, size_bytes)

    def comes_from(self, holder: Ranked, arrival: Arrival | None, peers: Container[NodeName]) -> None:
        """The holder begins to give the content, for this node's containerd.

        ``arrival``: what the holder says of it. ``peers``: a node that is none of them can't be the origin.
        """
        if arrival is None:
            self._lineages.came_from(self._digest, Lineage(origin=holder.node, depth=1))
            return
        origin = arrival.origin if arrival.origin in peers and arrival.origin is not None else holder.node
        if holder.node not in self.origins:
            self._metrics.followed(arrival.depth + 1)
        self.origins[holder.node] = origin
        self._lineages.came_from(self._digest, Lineage(origin=origin, depth=arrival.depth + 1))

    def left_to_registry(self) -> None:
        """No peer gives it any longer."""
        self._lineages.left_to_registry(self._digest)
