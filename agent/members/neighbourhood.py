"""The peers as this node sees them: how near each is, how busy, and which of them failed a moment ago.

Owns the one mutable picture of the cluster that lookups and pulls read, and the topology behind it.
Knows no sockets. All times are seconds of the one monotonic clock it is given.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.members.member import Peer, Peers
from agent.pull.cooloff import CoolOff
from topology.cluster import ClusterTopology, Timing
from topology.labels import LabelProblem
from topology.placement import Locality, NodeName, Placement
from topology.ranking import Condition, Ranked, rank
from topology.snapshot import Snapshot
from topology.zones import Report

_REFRESH_S = 1.0


class Neighbourhood:
    """Peers in rings around one node.

    ``cooloff_s``: how long a peer that failed is left alone, ``cooloff_max_s`` after many failures in a row.
    ``load_ttl_s``: how long the load that a peer told counts; two of its reports.
    """

    def __init__(
        self,
        *,
        own: NodeName,
        placement: Placement,
        problems: Sequence[LabelProblem] = (),
        cooloff_s: float,
        cooloff_max_s: float = 80.0,
        timing: Timing | None = None,
        load_ttl_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.own = own
        self._clock = clock
        self._cooloff = CoolOff(first_s=cooloff_s, most_s=cooloff_max_s)
        self._load_ttl_s = load_ttl_s
        self._own_problems = tuple(problems)
        self._peers: Peers = {}
        self._by_address: Mapping[str, NodeName] = {}
        self._rings: tuple[tuple[Peer, ...], ...] = ()
        self._saturated_until_s: dict[NodeName, float] = {}
        self._told_load: dict[NodeName, tuple[int, float]] = {}  # uploads, and when it said so
        self._fetching: dict[NodeName, int] = {}  # bodies this node is fetching from it
        self._topology = ClusterTopology(own=own, placement=placement, timing=timing)
        self._generation = self._topology.snapshot.generation

    @property
    def topology(self) -> ClusterTopology:
        """Labels and latency; `sample`, `hear` and `refresh` here are the ways to change it."""
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
    def problems(self) -> tuple[LabelProblem, ...]:
        """What is wrong with anybody's labels."""
        of_peers = (problem for peer in self._peers.values() for problem in peer.problems)
        return (*self._own_problems, *of_peers, *self.snapshot.problems)

    def update(self, peers: Peers) -> None:
        """Take a new list of peers; O(peers)."""
        self._peers = dict(peers)
        self._by_address = {peer.address: name for name, peer in peers.items()}
        self._cooloff.keep(peers)
        for known in (self._saturated_until_s, self._told_load, self._fetching):
            for name in known.keys() - peers.keys():
                del known[name]
        self._topology.update({name: peer.placement for name, peer in peers.items()}, self._clock())
        self._make_rings()

    def refresh(self) -> Snapshot:
        """Bring the snapshot up to date with what was measured and told."""
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

    def locality(self, name: NodeName) -> Locality:
        """How near a node is; REMOTE for one that is not a member."""
        return self.snapshot.locality(name)

    def __len__(self) -> int:
        return len(self._peers)

    def ranked(
        self, digest: str, holders: Iterable[NodeName], *, limit: int | None = None
    ) -> tuple[Ranked, ...]:
        """The holders in the order in which this node would try them."""
        return rank(holders, self.snapshot, digest=digest, conditions=self._conditions(), limit=limit)

    def rings(self, now_s: float) -> tuple[tuple[Peer, ...], ...]:
        """The peers that are not cooling, nearest ring first; no ring is empty."""
        resting = frozenset(self._cooloff.resting(now_s))
        if not resting:
            return self._rings
        well = (tuple(peer for peer in ring if peer.name not in resting) for ring in self._rings)
        return tuple(ring for ring in well if ring)

    def cooling(self, now_s: float) -> tuple[Peer, ...]:
        """The peers that failed a moment ago."""
        return tuple(self._peers[name] for name in self._cooloff.resting(now_s))

    def is_cooling(self, name: NodeName, now_s: float) -> bool:
        """Whether the peer failed a moment ago."""
        return self._cooloff.left_s(name, now_s) > 0

    def cooling_s(self, name: NodeName, now_s: float) -> float:
        """How long the peer is left alone still; 0 for one that is well."""
        return self._cooloff.left_s(name, now_s)

    def failed(self, name: NodeName, now_s: float) -> None:
        """The peer did not answer or broke off: it is the last resort for a while."""
        if name in self._peers:
            self._cooloff.failed(name, now_s)

    def saturated(self, name: NodeName, now_s: float, wait_s: float) -> None:
        """The peer is well and has no capacity left: others come first for so long, as it says itself."""
        if name in self._peers:
            self._saturated_until_s[name] = now_s + wait_s

    def served(self, name: NodeName) -> None:
        """The peer gave a body to its end: it is well. First bytes, or answers, would not prove as much."""
        self._cooloff.well(name)
        self._saturated_until_s.pop(name, None)

    def fetching(self, name: NodeName, change: int) -> None:
        """This node started (+1) or ended (-1) to fetch a body from the peer."""
        count = self._fetching.get(name, 0) + change
        if count > 0 and name in self._peers:
            self._fetching[name] = count
        else:
            self._fetching.pop(name, None)

    def sample(self, name: NodeName, rtt_us: float) -> bool:
        """A round trip to the peer was measured by this node's kernel; false if it can't be true."""
        return self._topology.sample(name, rtt_us, self._clock())

    def hear(self, name: NodeName, report: Report, *, address: str) -> int | None:
        """A node at this address told what it measured. How many of its values were absurd.

        None, and nothing is taken, when no member of that name has that address: nobody speaks for another.
        """
        peer = self._peers.get(name)
        if peer is None or peer.address != address:
            return None
        now_s = self._clock()
        self._told_load[name] = (report.load, now_s)
        return self._topology.hear(name, report, now_s)

    def _conditions(self) -> dict[NodeName, Condition]:
        """Of the peers that are not well and idle."""
        now_s = self._clock()
        for name, (_, told_s) in list(self._told_load.items()):
            if not 0 <= now_s - told_s <= self._load_ttl_s:
                del self._told_load[name]
        conditions: dict[NodeName, Condition] = {}
        resting = frozenset(self._cooloff.resting(now_s))
        names = {*resting, *self._saturated_until_s, *self._told_load, *self._fetching}
        for name in names:
            # What this node fetches is part of what the peer tells, a moment later.
            load = max(self._told_load.get(name, (0, 0.0))[0], self._fetching.get(name, 0))
            cooling = name in resting
            saturated = _is_before(self._saturated_until_s, name, now_s)
            if load or cooling or saturated:
                conditions[name] = Condition(load=load, saturated=saturated, cooling=cooling)
        return conditions

    def _make_rings(self) -> None:
        snapshot = self.snapshot
        rings: dict[Locality, list[Peer]] = {}
        for name, peer in self._peers.items():
            rings.setdefault(snapshot.locality(name), []).append(peer)
        self._rings = tuple(tuple(rings[locality]) for locality in sorted(rings))
        self._generation = snapshot.generation


def _is_before(until_s: dict[NodeName, float], name: NodeName, now_s: float) -> bool:
    end_s = until_s.get(name)
    if end_s is None:
        return False
    if now_s >= end_s:
        del until_s[name]
        return False
    return True
