"""A rollout in virtual time: real claimants and desks of several zones, and pulls that do what a pull does.

A node's containerd writes a content at a rate, from the registry or from another node. Nodes die, and zones
are cut off. What is counted: fetches from the registry, and bytes across zones.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.config import ColdStartSettings
from agent.content.store import Change, ChangeKind
from agent.holders.claimant import Claimant, Outcome
from agent.holders.claimdesk import ClaimDesk
from agent.holders.claims import ClaimBook, ClaimKey, Held
from agent.holders.clusterclaims import Claims, ClusterClaims
from agent.holders.fencedclaims import FencedClaims
from agent.holders.gateways import Gateways
from agent.holders.wire import Question, Reply
from agent.members.member import Peer, Peers
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.authority import Authorities
from agent.pull.regard import Regard
from tests.unit.agent.holders.fenceserver import FenceServer
from tests.unit.evidence import MemoryStore
from tests.unit.inflight import Flight
from tests.unit.twins import loop_clock, peer, peers, placed, sha256
from topology.placement import NodeName
from topology.spread import AnyZone, Way

LAYER = sha256("layer")
SIZE_BYTES = 1000
_STEP_S, _STEP_BYTES = 0.1, 25  # a layer takes four seconds
_HOP_S = 0.001
_STALL_S = 3.0
_GIVES_UP_S = 30.0


@dataclass(eq=False)
class Node:
    """One node. ``done_s``: when its containerd had all of it."""

    name: NodeName
    zone: AnyZone
    store: MemoryStore
    claimant: Claimant
    claims: Claims
    gateways: Gateways
    fenced: FencedClaims | None
    keepers: "tuple[asyncio.Task[None], ...]" = ()
    alive: bool = True
    done_s: float = float("inf")

    @property
    def available_bytes(self) -> int:
        flight = self.store.flights.get(LAYER)
        return SIZE_BYTES if self.store.holds(LAYER) else 0 if flight is None else flight.available_bytes


@dataclass
class Rollout:
    """A cluster whose nodes pull one content. ``fetches``: who asked the registry, from which byte on.

    ``fences``: the server that guards claims as well. ``apart``: these nodes ask each other and no other one.
    """

    nodes: dict[NodeName, Node] = field(default_factory=dict)
    fetches: list[tuple[NodeName, int]] = field(default_factory=list)
    crossed_bytes: int = 0
    cut_off: set[AnyZone] = field(default_factory=set)
    registry_waits_s: float = 0.0
    cut_from_registry: set[NodeName] = field(default_factory=set)  # they wait for it in vain
    size_bytes: int | None = None  # what containerd says of it, if that is something else
    settings: ColdStartSettings = field(default_factory=lambda: ColdStartSettings(scope="cluster"))
    fences: FenceServer | None = None
    apart: frozenset[NodeName] = frozenset()

    def add(self, names: Iterable[str]) -> None:
        """Nodes named for their zones."""
        members = peers(*(peer(name, placed("r", name[0])) for name in names))
        for member in members.values():
            self.nodes[member.name] = self._node(member, members)

    def _node(self, own: Peer, members: Peers) -> Node:
        roster = Roster(own=own.name, placement=own.placement)
        roster.update({name: other for name, other in members.items() if name != own.name})
        regard, store, book = (
            Regard(cooloff_s=5.0),
            MemoryStore(),
            ClaimBook(start_s=self.settings.claim_start_s),
        )
        zone_of = roster.snapshot.zone_of
        gateways = Gateways(
            zone_of=zone_of,
            is_there=lambda name: not regard.is_cooling(name, loop_clock()),
            way=lambda _one, _other: Way(usd_per_gb=0.02, rtt_us=1000.0),
            children_max=self.settings.followers_max,
        )

        def sources(key: ClaimKey, asker: NodeName, held: Held) -> tuple[NodeName, ...]:
            if not key.cluster:
                return held.sources
            return gateways.sources(key, asker, held.sources[0], book.asked(key))

        async def ask_peer(asked: Peer, question: Question, deadline_s: float) -> Reply | None:
            return await self._ask(own.name, asked.name, question, deadline_s)

        claimant = Claimant(
            roster=roster,
            regard=regard,
            store=store,
            desk=ClaimDesk(book, sources=sources, clock=loop_clock),
            ask_peer=ask_peer,
            authorities=Authorities(),
            near=lambda name: zone_of(name) == zone_of(own.name),
            settings=self.settings,
            metrics=Metrics(),
            clock=loop_clock,
        )
        fenced = None
        if self.fences is not None:
            fenced = FencedClaims(
                claimant,
                self.fences.of(lambda key: "cluster" if key.cluster else str(zone_of(own.name))),
                own=own.name,
                store=store,
                usable=lambda name: roster.peer(name) is not None,
                count=lambda _: None,
                clock=loop_clock,
            )
        claims = ClusterClaims(fenced or claimant, size_of=lambda _: self.size_bytes, clock=loop_clock)
        return Node(
            name=own.name,
            zone=zone_of(own.name),
            store=store,
            claimant=claimant,
            claims=claims,
            gateways=gateways,
            fenced=fenced,
        )

    def reaches(self, one: NodeName, other: NodeName) -> bool:
        """Whether a message gets from one node to another."""
        here, there = self.nodes[one], self.nodes[other]
        apart = here.zone != there.zone and bool({here.zone, there.zone} & self.cut_off)
        return here.alive and there.alive and not apart

    async def _ask(
        self, asker: NodeName, asked: NodeName, question: Question, deadline_s: float
    ) -> Reply | None:
        await asyncio.sleep(_HOP_S)
        if not self.reaches(asker, asked) or (asker in self.apart) != (asked in self.apart):
            return None
        assert question.claims is not None
        try:
            async with asyncio.timeout(deadline_s):
                claims = await self.nodes[asked].claimant.desk.answer(question.claims)
        except TimeoutError:
            return None
        await asyncio.sleep(_HOP_S)
        return Reply(claims=claims) if self.reaches(asker, asked) else None

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """The claims of all nodes are kept meanwhile."""
        for node in self.nodes.values():
            runs = [node.claimant.run()] + ([node.fenced.run()] if node.fenced is not None else [])
            node.keepers = tuple(map(asyncio.create_task, runs))
        try:
            yield
        finally:
            for node in self.nodes.values():
                self.kill(node.name)

    def kill(self, name: NodeName) -> None:
        """The node is gone: nothing comes from it, and it does nothing more."""
        node = self.nodes[name]
        node.alive = False
        for keeper in node.keepers:
            keeper.cancel()

    async def pull(self, name: NodeName) -> None:
        """What containerd and the agent of a node do, until it has the content or is dead."""
        node = self.nodes[name]
        flight = node.store.flights[LAYER] = Flight(bytes(SIZE_BYTES))
        despite: NodeName | None = None
        waited_s = 0.0
        while node.alive and flight.available_bytes < SIZE_BYTES:
            at, began_s = flight.available_bytes, loop_clock()
            answer = await node.claims.ask(
                ClaimKey(LAYER),
                beyond_bytes=at,
                wait_s=max(0.0, self.settings.claim_wait_s - waited_s),
                despite=despite,
            )
            waited_s += loop_clock() - began_s
            if answer.held is None:
                if answer.outcome is Outcome.GRANTED:
                    node.claims.use(ClaimKey(LAYER))
                await self._fetch(node, flight)
                continue
            for source in answer.held.sources:
                await self._follow(node, flight, self.nodes[source])
            despite = answer.held.sources[0] if flight.available_bytes == at else None
        if node.alive:
            node.done_s = loop_clock()
            del node.store.flights[LAYER]
            node.store.held.add(LAYER)
            node.store.changes.publish(Change(kind=ChangeKind.ADDED, digest=LAYER))

    async def _fetch(self, node: Node, flight: Flight) -> None:
        """From the registry, to the end."""
        if not node.alive:
            return
        self.fetches.append((node.name, flight.available_bytes))
        await asyncio.sleep(self.registry_waits_s)
        if node.name in self.cut_from_registry:
            await asyncio.sleep(_GIVES_UP_S)  # then containerd fails, and the kubelet asks again
            return
        while node.alive and flight.available_bytes < SIZE_BYTES:
            flight.grow(_STEP_BYTES)
            await asyncio.sleep(_STEP_S)

    async def _follow(self, node: Node, flight: Flight, source: Node) -> None:
        """From another node, as long as that one is ahead now and then."""
        silent_s = 0.0
        while node.alive and flight.available_bytes < SIZE_BYTES and silent_s < _STALL_S:
            await asyncio.sleep(_STEP_S / 4)
            if not self.reaches(node.name, source.name):
                return
            more = min(2 * _STEP_BYTES, source.available_bytes - flight.available_bytes)
            if more <= 0:
                if not silent_s and not source.available_bytes:
                    return  # it says at once that it has nothing yet
                silent_s += _STEP_S / 4
                continue
            silent_s = 0.0
            flight.grow(more)
            self.crossed_bytes += more * (node.zone != source.zone)
