"""The members of the cluster, and their topology.

Holds what changes in both. How a peer is doing is in `agent.pull.regard`. No I/O. All times are seconds of
one monotonic clock.
"""

import asyncio
import time
import zlib
from collections.abc import Callable, Mapping, Sequence

from agent.members.member import Peer, Peers
from topology.cluster import ClusterTopology, Timing
from topology.labels import LabelProblem
from topology.placement import NodeName, Placement, Tier
from topology.snapshot import Snapshot
from topology.zones import Report

_REFRESH_S = 1.0

Rings = tuple[tuple[Peer, ...], ...]
"""Peers by tier, the nearest tier first. No ring is empty."""


class Roster:
    """The members around one node, in rings by tier."""

    def __init__(
        self,
        *,
        own: NodeName,
        placement: Placement,
        problems: Sequence[LabelProblem] = (),
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.own = own
        self._clock = clock
        self._own_problems = tuple(problems)
        self._placement = placement
        self._listed: Peers = {}
        self._excluded: set[tuple[NodeName, str]] = set()
        self._peers: Peers = {}
        self._by_address: Mapping[str, NodeName] = {}
        self._places: dict[NodeName, int] = {}  # see `_place`
        self._rings: Rings = ()
        self._listeners: list[Callable[[Peers], None]] = []
        self._topology = ClusterTopology(own=own, placement=placement, timing=timing)
        self._generation = self._topology.snapshot.generation

    @property
    def placement(self) -> Placement:
        """Where this node is, by its labels."""
        return self._placement

    @property
    def topology(self) -> ClusterTopology:
        """Labels and latency. Change it by `sample`, `receive_report` and `refresh` only."""
        return self._topology

    @property
    def snapshot(self) -> Snapshot:
        """The topology as of the last refresh."""
        return self._topology.snapshot

    @property
    def peers(self) -> Peers:
        """The members, without this node."""
        return self._peers

    @property
    def listed(self) -> Peers:
        """The peers as the membership lists them, with those that `exclude` left out."""
        return self._listed

    @property
    def problems(self) -> tuple[LabelProblem, ...]:
        """The problems with the labels of this node and of all peers."""
        of_peers = (problem for peer in self._peers.values() for problem in peer.problems)
        return (*self._own_problems, *of_peers, *self.snapshot.problems)

    @property
    def rings(self) -> Rings:
        """All peers, the nearest ring first."""
        return self._rings

    def on_change(self, listener: Callable[[Peers], None]) -> None:
        """Call ``listener`` with each new list of peers, after the roster uses it."""
        self._listeners.append(listener)

    def update(self, peers: Peers) -> None:
        """Use a new list of peers. O(peers).

        A peer with another address than before leaves first, and joins again: what was known of the agent at
        the old address, its failures above all, says nothing about the one at the new address.
        """
        self._listed = dict(peers)
        self._excluded = {(name, at) for name, at in self._excluded if _is_listed(peers, name, at)}
        used = dict(peers)
        for name, _ in self._excluded:
            del used[name]
        moved = {name for name, peer in used.items() if self._has_moved(name, peer)}
        if moved:
            self._use({name: peer for name, peer in used.items() if name not in moved})
        self._use(used)

    def _has_moved(self, name: NodeName, peer: Peer) -> bool:
        before = self._peers.get(name)
        if before is peer or before is None:
            return False
        return (before.address, before.port) != (peer.address, peer.port)

    def _use(self, peers: Peers) -> None:
        self._peers = peers
        self._by_address = {peer.address: name for name, peer in peers.items()}
        self._topology.update(self._placements(), self._clock())
        self._make_rings()
        for listener in self._listeners:
            listener(self._peers)

    def exclude(self, peer: Peer) -> None:
        """Leave this peer out as long as it is listed at this address: it is this node itself."""
        self._excluded.add((peer.name, peer.authority))
        self.update(self._listed)

    def place(self, placement: Placement, problems: Sequence[LabelProblem] = ()) -> None:
        """Set this node's own placement. It may change while the agent runs."""
        self._own_problems = tuple(problems)
        self._placement = placement
        self._topology.update(self._placements(), self._clock(), own=placement)
        self._make_rings()

    def refresh(self) -> Snapshot:
        """Bring the snapshot up to date with new measurements and reports."""
        snapshot = self._topology.refresh(self._clock())
        if snapshot.generation != self._generation:
            self._make_rings()
        return snapshot

    async def follow(self) -> None:
        """Refresh every second, until cancelled."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            self.refresh()

    def peer(self, name: NodeName) -> Peer | None:
        """The peer of that name, if it is still a member."""
        return self._peers.get(name)

    def peer_at(self, address: str) -> NodeName | None:
        """The peer that has this address."""
        return self._by_address.get(address)

    def is_member(self, host: str) -> bool:
        """Whether this is another member's address or name."""
        return host in self._by_address or NodeName(host) in self._peers

    def tier(self, name: NodeName) -> Tier:
        """How near a node is. REMOTE if it is not a member."""
        return self.snapshot.tier(name)

    def __len__(self) -> int:
        return len(self._peers)

    def sample(self, name: NodeName, rtt_us: float) -> bool:
        """This node's kernel measured a round trip to the peer. False if it can't be true."""
        return self._topology.sample(name, rtt_us, self._clock())

    def receive_report(self, name: NodeName, report: Report, *, address: str | None) -> int | None:
        """Use a report from this address. Returns how many of its values were absurd.

        ``address``: None if the reporter proved its name. None is returned if no member of that name has
        that address. The report is then ignored: no node may report for another.
        """
        peer = self._peers.get(name)
        if peer is None or address not in (None, peer.address):
            return None
        return self._topology.add_report(name, report, self._clock())

    def _placements(self) -> dict[NodeName, Placement]:
        return {name: peer.placement for name, peer in self._peers.items()}

    def _place(self, name: NodeName) -> int:
        """The order within a ring. Each node has its own, so that not all nodes ask the same peer first."""
        return zlib.crc32(f"{self.own}\0{name}".encode())

    def _make_rings(self) -> None:
        """O(peers): 5,000 of them take some milliseconds, with each change of one."""
        snapshot, peers, places = self.snapshot, self._peers, self._places
        for name in places.keys() - peers.keys():
            del places[name]
        places.update((name, self._place(name)) for name in peers.keys() - places.keys())
        rings: dict[Tier, list[Peer]] = {}
        for name in sorted(peers, key=places.__getitem__):
            rings.setdefault(snapshot.tier(name), []).append(peers[name])
        self._rings = tuple(tuple(rings[tier]) for tier in sorted(rings))
        self._generation = snapshot.generation


def _is_listed(peers: Peers, name: NodeName, authority: str) -> bool:
    peer = peers.get(name)
    return peer is not None and peer.authority == authority
