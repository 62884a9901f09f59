"""The product's own claims, in simulated time: claimants, desks, and the messages between them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from agent.content.store import Change, ChangeKind, ContentStore, Growing
from agent.holders.arbiters import Arbiters
from agent.holders.claimant import Claimant
from agent.holders.claimdesk import ClaimDesk
from agent.holders.claims import ClaimBook, ClaimKey, Held
from agent.holders.clusterclaims import Claims, ClusterClaims
from agent.holders.fencedclaims import FencedClaims
from agent.holders.gateways import Gateways
from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.authority import Authorities
from agent.oci.digest import Digest
from benchmarks.simulator.agents import Agent
from benchmarks.simulator.clock import VirtualLoop
from benchmarks.simulator.contents import Contents
from benchmarks.simulator.fencing import FenceServer, ZoneFences
from benchmarks.simulator.network import Network
from benchmarks.simulator.places import Places
from benchmarks.simulator.scenario import Scenario
from topology.ledger import Prices
from topology.placement import NodeName
from topology.snapshot import Snapshot
from topology.spread import AnyZone, Way


@dataclass(slots=True, eq=False)
class Desk:
    """What of claims runs on one node."""

    desk: ClaimDesk
    store: "NodeStore"
    tasks: "list[asyncio.Task[Any]]"

    def close(self) -> None:
        """The node is gone."""
        self.desk.close()
        for task in self.tasks:
            task.cancel()


class NodeStore:
    """What a claimant sees of its node's store."""

    def __init__(self, contents: Contents, network: Network, node: int) -> None:
        self._contents, self._network, self._node = contents, network, node
        self._added: asyncio.Event | None = None
        self._changes: list[Change] = []

    def holds(self, digest: Digest) -> bool:
        """See `ContentStore`."""
        return bool(self._contents.complete[self._contents.number_of[digest], self._node])

    def receiving(self, digest: Digest) -> bool | None:
        """See `ContentStore`."""
        return bool(self._contents.arriving[self._contents.number_of[digest], self._node])

    def growing(self, digest: Digest) -> Growing | None:
        """See `ContentStore`."""
        number = self._contents.number_of[digest]
        if not self._contents.arriving[number, self._node]:
            return None
        return Growing(
            size_bytes=self._contents.all[number].size_bytes,
            available_bytes=int(self._network.have[number, self._node]),
        )

    def committed(self, digest: Digest) -> None:
        """The store has it."""
        if self._added is not None:
            self._changes.append(Change(ChangeKind.ADDED, digest))
            self._added.set()

    async def watch(self) -> AsyncIterator[Change]:
        """See `ContentStore`."""
        self._added = asyncio.Event()
        while True:
            await self._added.wait()
            self._added.clear()
            changes, self._changes = self._changes, []
            for change in changes:
                yield change


class SharedRoster:
    """What a claimant asks of its roster. Everybody has the same members."""

    def __init__(self, places: Places, number: int) -> None:
        self._places = places
        self.own = places.names[number]

    def peer(self, name: NodeName) -> Peer | None:
        """See `Roster`."""
        places = self._places
        if name not in places.members:
            return None
        return Peer(name=name, address="", port=0, placement=places.placements[places.number_of[name]])

    @property
    def snapshot(self) -> Snapshot:
        """See `Roster`."""
        return self._places.seen_by(self._places.number_of[self.own])


class Claiming:
    """Makes the claims of each node. ``reaches``: whether a message from one node arrives at another.

    ``fences``: what the index's server keeps of claims; None: there is no server.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        loop: VirtualLoop,
        places: Places,
        contents: Contents,
        network: Network,
        agent_of: Callable[[int], Agent],
        reaches: Callable[[int, int], bool],
        fences: FenceServer | None,
    ) -> None:
        self._fences = fences
        self._scenario, self._loop, self._places = scenario, loop, places
        self._contents, self._network = contents, network
        self._agent_of, self._reaches = agent_of, reaches
        self._metrics, self._authorities, self._prices = Metrics(), Authorities(), Prices()
        self._arbiters: dict[int, Arbiters] = {}
        self._arbiters_of = -1
        self.messages = 0

    def claims_of(self, agent: Agent) -> Claims:
        """What a pull of this node asks whose turn it is."""
        self.desk_of(agent)
        assert agent.claims is not None
        return agent.claims

    def desk_of(self, agent: Agent) -> Desk:
        """The node's own arbiter, and all that belongs to it."""
        if agent.desk is None:
            agent.desk = self._make(agent)
        return agent.desk

    def forget_fences(self) -> None:
        """The server is emptied."""
        if self._fences is not None:
            self._fences.kept.clear()

    def _make(self, agent: Agent) -> Desk:
        cold = self._scenario.cold_start
        book = ClaimBook(start_s=cold.claim_start_s)
        gateways = self._gateways(agent)

        def sources(key: ClaimKey, asker: NodeName, held: Held) -> tuple[NodeName, ...]:
            if not key.cluster:
                return held.sources
            return gateways.sources(key, asker, held.sources[0], book.asked(key))

        clock = self._loop.time
        desk = ClaimDesk(book, sources=sources, clock=clock)
        store = NodeStore(self._contents, self._network, agent.number)
        claimant = Claimant(
            roster=cast(Roster, SharedRoster(self._places, agent.number)),
            regard=agent.regard,
            store=cast(ContentStore, store),
            desk=desk,
            ask_peer=partial(self._ask, agent),
            authorities=self._authorities,
            near=lambda _: True,
            settings=cold,
            metrics=self._metrics,
            clock=clock,
            deciding=partial(self._deciding, agent.zone),
        )
        tasks = [self._loop.spawn(claimant.run())]
        claims: Claims = claimant
        if self._fences is not None:
            claims = fenced = FencedClaims(
                claimant,
                ZoneFences(self._fences, agent.zone),
                own=agent.name,
                store=cast(ContentStore, store),
                usable=self._places.members.__contains__,
                count=lambda _: None,
                clock=clock,
            )
            tasks.append(self._loop.spawn(fenced.run()))
        if cold.scope == "cluster":
            claims = ClusterClaims(claims, size_of=self._size_of, clock=clock)
        agent.claims = claims
        return Desk(desk, store, tasks)

    def _gateways(self, agent: Agent) -> Gateways:
        places = self._places

        def way(one: AnyZone, other: AnyZone) -> Way:
            return Way(usd_per_gb=self._prices.usd_per_gb(one, other), rtt_us=places.between_us(one, other))

        return Gateways(
            zone_of=lambda name: places.placements[places.number_of[name]].zone_key,
            is_there=lambda name: (
                name in places.members and not agent.regard.is_cooling(name, self._loop.now_s)
            ),
            way=way,
            children_max=self._scenario.cold_start.followers_max,
        )

    def _size_of(self, digest: Digest) -> int | None:
        return self._contents.all[self._contents.number_of[digest]].size_bytes

    def _deciding(self, zone: int, key: ClaimKey) -> Arbiters:
        """Who may decide: the same for all nodes of a zone."""
        places = self._places
        if self._arbiters_of != places.generation:
            self._arbiters, self._arbiters_of = {}, places.generation
        reach = -1 if key.cluster else zone
        known = self._arbiters.get(reach)
        if known is None:
            known = self._arbiters[reach] = Arbiters(
                name
                for name in sorted(places.members)
                if key.cluster or places.zone_of[places.number_of[name]] == zone
            )
        return known

    async def _ask(self, agent: Agent, peer: Peer, question: Question, timeout_s: float) -> Reply | None:
        """A message to another node's desk, and its reply. As `PeerAsker.ask_slowly`."""
        assert question.claims is not None
        self.messages += 1
        places = self._places
        target = places.number_of[peer.name]
        other = self._agent_of(target)
        half_s = places.rtt_s(agent.number, target) / 2
        until_s = self._loop.now_s + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.sleep(half_s)
                if agent.frozen or not self._answers(agent, other, peer):
                    await asyncio.sleep(max(0.0, until_s - self._loop.now_s) + 1.0)
                reply = Reply(claims=await self.desk_of(other).desk.answer(question.claims))
                if not self._answers(agent, other, peer):
                    await asyncio.sleep(max(0.0, until_s - self._loop.now_s) + 1.0)
                await asyncio.sleep(half_s)
        except TimeoutError:
            agent.regard.unanswered(peer.name, "no reply", self._loop.now_s)
            return None
        agent.regard.heard(peer.name, self._loop.now_s)
        return reply

    def _answers(self, agent: Agent, other: Agent, peer: Peer) -> bool:
        """Whether a message to this peer arrives, and it does anything about it."""
        return other.name == peer.name and not other.frozen and self._reaches(agent.number, other.number)
