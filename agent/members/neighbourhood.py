"""The peers as this node sees them: how near each is, and which of them failed a moment ago.

Owns the one mutable picture of the cluster that lookups and pulls read. Knows no sockets.
"""

from collections.abc import Mapping

from agent.members.member import Peer, Peers
from topology.graph import TopologyGraph
from topology.placement import Locality, NodeName, Placement


class Neighbourhood:
    """Peers in rings around one node. All times are seconds of one monotonic clock."""

    def __init__(self, *, own: NodeName, placement: Placement, cooloff_s: float) -> None:
        self.own = own
        self._placement = placement
        self._cooloff_s = cooloff_s
        self._peers: Peers = {}
        self._localities: Mapping[NodeName, Locality] = {own: Locality.NODE}
        self._rings: tuple[tuple[Peer, ...], ...] = ()
        self._cooling_until_s: dict[NodeName, float] = {}

    def update(self, peers: Peers) -> None:
        """Take a new list of peers; cost O(peers)."""
        placements = {name: peer.placement for name, peer in peers.items()}
        localities = TopologyGraph({**placements, self.own: self._placement}).localities(self.own)
        rings: dict[Locality, list[Peer]] = {}
        for name, peer in peers.items():
            rings.setdefault(localities[name], []).append(peer)
        self._peers, self._localities = dict(peers), localities
        self._rings = tuple(tuple(rings[locality]) for locality in sorted(rings))
        self._cooling_until_s = {
            name: until_s for name, until_s in self._cooling_until_s.items() if name in peers
        }

    def peer(self, name: NodeName) -> Peer | None:
        """The peer of that name, if it is still a member."""
        return self._peers.get(name)

    def locality(self, name: NodeName) -> Locality:
        """How near a node is; REMOTE for one that is not a member."""
        return self._localities.get(name, Locality.REMOTE)

    def __len__(self) -> int:
        return len(self._peers)

    def rings(self, now_s: float) -> tuple[tuple[Peer, ...], ...]:
        """The peers that are not cooling, nearest ring first; no ring is empty."""
        if not self._cooling_until_s:
            return self._rings
        well = (tuple(peer for peer in ring if not self.is_cooling(peer.name, now_s)) for ring in self._rings)
        return tuple(ring for ring in well if ring)

    def cooling(self, now_s: float) -> tuple[Peer, ...]:
        """The peers that failed a moment ago."""
        return tuple(
            self._peers[name] for name in list(self._cooling_until_s) if self.is_cooling(name, now_s)
        )

    def is_cooling(self, name: NodeName, now_s: float) -> bool:
        """Whether the peer failed less than `cooloff_s` ago."""
        until_s = self._cooling_until_s.get(name)
        if until_s is None:
            return False
        if now_s >= until_s:
            del self._cooling_until_s[name]
            return False
        return True

    def failed(self, name: NodeName, now_s: float) -> None:
        """The peer did not answer or broke off: it is the last resort for a while."""
        if name in self._peers:
            self._cooling_until_s[name] = now_s + self._cooloff_s

    def served(self, name: NodeName) -> None:
        """The peer gave first bytes: it is well. That it answers questions would not prove as much."""
        self._cooling_until_s.pop(name, None)
