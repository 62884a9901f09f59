"""A zone of nodes in memory that claim, wait and fetch, on virtual time, with faults of every kind.

The claims are the product's own: `Claimant`, `ClaimDesk`, `ClaimBook`, and the messages on the wire. What is
made up here: containerd, the registry, and a network that loses messages, splits, and has nodes that die,
freeze and lie.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from agent.config import ColdStartSettings
from agent.content.store import Change, ChangeKind
from agent.holders.asking import PeerAsker
from agent.holders.claimant import Claimant, Outcome
from agent.holders.claimdesk import ClaimDesk
from agent.holders.claims import ClaimBook, ClaimKey
from agent.holders.clusterclaims import Claims
from agent.holders.fencedclaims import FencedClaims
from agent.holders.wire import (
    Question,
    Reply,
    decode_question,
    decode_reply,
    encode_question,
    encode_reply,
)
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.authority import Authorities
from agent.oci.digest import Digest
from agent.peering.channels import NoReply
from agent.pull.asking import AskingPolicy
from agent.pull.regard import Regard
from agent.tasks import end_all
from tests.unit.agent.holders.fenceserver import FenceServer
from tests.unit.evidence import MemoryStore
from tests.unit.inflight import Flight
from tests.unit.twins import loop_clock, peer, peers, placed, sha256
from topology.placement import NodeName

SETTINGS = ColdStartSettings()
WAIT_S = SETTINGS.claim_wait_s
SIZE_BYTES, STEP_BYTES = 10_000, 500
ZONE = placed("r", "z")
_TIMEOUT_S = 0.5
_ROUND_TRIP_S = 0.001
_FOLLOW_S = 0.01  # how long a step takes from a peer


@dataclass(eq=False)
class Pulling:
    """One content that one node's containerd wants. ``ended``: how it ended.

    ``waited_s``: for how long its requests waited for others.
    """

    digest: Digest
    have_bytes: int = 0
    waited_s: float = 0.0
    asked_registry: int = 0
    ended: str = ""
    ends: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, how: str) -> None:
        """It ended so."""
        self.ended = how
        self.ends.set()


@dataclass(eq=False)
class Node:
    """One node. ``dead``: nothing of it runs. ``frozen``: it hangs. ``lies``: it claims, but never sends."""

    name: NodeName
    store: MemoryStore
    roster: Roster
    desk: ClaimDesk
    asker: PeerAsker
    claimant: Claimant
    claims: Claims
    dead: bool = False
    frozen: bool = False
    lies: bool = False
    refused: bool = False  # the registry gives it nothing
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    pulls: list[Pulling] = field(default_factory=list)
    slots: asyncio.Semaphore | None = None

    @property
    def runs(self) -> bool:
        """Whether it does anything now."""
        return not (self.dead or self.frozen)


class ClaimNet:
    """The nodes. Use as an async context manager.

    ``registry_s``: how long the registry takes for a step. ``loses``: whether the next message is lost.
    ``slots``: how many requests a containerd has open at once, be they to its agent or to the registry.
    ``fences``: the server that guards claims as well. ``split``, ``apart``: see `split_off` and `tear_apart`.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        registry_s: float = 0.05,
        loses: Callable[[], bool] = lambda: False,
        fences: FenceServer | None = None,
    ) -> None:
        self.registry_s = registry_s
        self._fences = fences
        self.slots = 100
        self.requests: dict[Digest, list[NodeName]] = {}  # what the registry was asked for, and by whom
        self._loses = loses
        self.split: frozenset[NodeName] = frozenset()  # these can't reach the others
        self.apart: frozenset[NodeName] = frozenset()  # these do not hear what the others ask
        self.nodes = {NodeName(name): self._make(NodeName(name), tuple(names)) for name in names}

    async def __aenter__(self) -> "ClaimNet":
        for node in self.nodes.values():
            self._run(node, node.claimant.run())
            if isinstance(node.claims, FencedClaims):
                self._run(node, node.claims.run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes.values():
            await end_all(node.tasks)
            await node.claimant.close()
            await node.asker.close()

    def pull(self, name: str, digest: Digest) -> Pulling:
        """This node's containerd wants a content."""
        node, pulling = self.nodes[NodeName(name)], Pulling(digest)
        node.pulls.append(pulling)
        node.store.flights[digest] = Flight(b"x" * SIZE_BYTES)  # it opens the ingest first
        if node.lies:
            self._run(node, self._lie(node, pulling))
        else:
            self._run(node, self._pull(node, pulling))
        return pulling

    def fetch(self, name: str, digest: Digest) -> Pulling:
        """This node's containerd goes to the registry with a claim that its agent has."""
        node, pulling = self.node(name), Pulling(digest)
        node.pulls.append(pulling)
        node.store.flights[digest] = Flight(b"x" * SIZE_BYTES)
        node.claims.use(ClaimKey(digest))
        self._run(node, self._fetch(node, pulling))
        return pulling

    def kill(self, name: str) -> None:
        """The node dies: its connections end at once."""
        node = self.nodes[NodeName(name)]
        node.dead = True
        for task in node.tasks:
            task.cancel()
        for other in self.nodes.values():
            if other.runs and other is not node:
                other.desk.gone(node.name)

    def node(self, name: str) -> Node:
        """The node of this name."""
        return self.nodes[NodeName(name)]

    def split_off(self, *names: str) -> None:
        """These nodes reach each other, and no other one."""
        self.split = frozenset(map(NodeName, names))

    def tear_apart(self, *names: str) -> None:
        """These nodes ask each other, and no other one. Bodies come from everywhere."""
        self.apart = frozenset(map(NodeName, names))

    def arbiter_of(self, digest: Digest) -> str:
        """The node that decides on this content as long as all is well."""
        some = next(iter(self.nodes.values()))
        found = some.claimant._arbiter(ClaimKey(digest), set())
        assert found is not None
        return found

    def _run(self, node: Node, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        node.tasks.add(task)
        task.add_done_callback(node.tasks.discard)

    def _make(self, name: NodeName, names: tuple[str, ...]) -> Node:
        roster, metrics, store = Roster(own=name, placement=ZONE, clock=loop_clock), Metrics(), MemoryStore()
        regard = Regard(cooloff_s=5.0, cooloff_max_s=80.0)
        roster.on_change(regard.members_changed)
        roster.update(peers(*(peer(other, ZONE) for other in names if other != name)))
        asker = PeerAsker(
            roster=roster,
            policy=AskingPolicy(regard=regard, at_once=64, patience_s=0.05, timeout_s=_TIMEOUT_S),
            query=lambda asked, question, timeout_s: self._query(name, asked, question, timeout_s),
            metrics=metrics,
            clock=loop_clock,
        )
        desk = ClaimDesk(ClaimBook(start_s=SETTINGS.claim_start_s), clock=loop_clock)
        claimant = Claimant(
            roster=roster,
            regard=regard,
            store=store,
            desk=desk,
            ask_peer=asker.ask_slowly,
            authorities=Authorities(),
            near=lambda _: True,
            settings=SETTINGS,
            metrics=metrics,
            clock=loop_clock,
        )
        claims: Claims = claimant
        if self._fences is not None:
            claims = FencedClaims(
                claimant,
                self._fences.of(lambda _: "zone"),
                own=name,
                store=store,
                usable=lambda other: roster.peer(other) is not None,
                count=lambda _: None,
                clock=loop_clock,
            )
        node = Node(name, store, roster, desk, asker, claimant, claims)
        node.thawed.set()
        return node

    def _reaches(self, one: NodeName, other: NodeName) -> bool:
        return (one in self.split) == (other in self.split)

    def _hears(self, one: NodeName, other: NodeName) -> bool:
        return self._reaches(one, other) and (one in self.apart) == (other in self.apart)

    async def _query(self, asker: NodeName, asked: Peer, question: Question, timeout_s: float) -> Reply:
        """A message from node to node, there and back, as it is on the wire."""
        target, until_s = self.nodes[asked.name], loop_clock() + timeout_s
        await asyncio.sleep(_ROUND_TRIP_S)
        if target.dead:
            raise NoReply("refused")
        lost = self._loses()
        number, read = decode_question(encode_question(1, question))
        assert read.claims is not None
        if target.frozen or lost or not self._hears(asker, asked.name):
            await asyncio.sleep(until_s - loop_clock())
            raise NoReply("silent")
        answering = asyncio.get_running_loop().create_task(target.desk.answer(read.claims))
        target.tasks.add(answering)
        answering.add_done_callback(target.tasks.discard)
        try:
            await asyncio.wait((answering,), timeout=max(0.0, until_s - loop_clock()))
        finally:
            if self.nodes[asker].dead:
                answering.cancel()  # its connection ended
        if target.dead:
            raise NoReply("connection reset")
        if not answering.done() or target.frozen or self._loses() or not self._hears(asker, asked.name):
            await asyncio.sleep(max(0.0, until_s - loop_clock()))
            raise NoReply("silent")
        reply = encode_reply(number, question, Reply(claims=answering.result()))
        return decode_reply(reply)[1](question)

    def freeze(self, name: str) -> None:
        """The node stands still, and its connections stay open."""
        node = self.node(name)
        node.frozen = True
        node.thawed.clear()

    def thaw(self, name: str) -> None:
        """The node goes on."""
        node = self.node(name)
        node.frozen = False
        node.thawed.set()

    async def _lie(self, node: Node, pulling: Pulling) -> None:
        """Claim it, and say that it comes, but neither fetch nor send anything."""
        key = ClaimKey(pulling.digest)
        answer = await node.claims.ask(key, beyond_bytes=0, wait_s=WAIT_S)
        if answer.outcome is Outcome.GRANTED:
            node.claims.use(key)
            flight = node.store.flights[pulling.digest]
            while True:
                await asyncio.sleep(1.0)
                if flight.available_bytes < SIZE_BYTES - STEP_BYTES:
                    flight.grow(STEP_BYTES)
        pulling.end("lied")

    async def _pull(self, node: Node, pulling: Pulling) -> None:
        """What an agent and its containerd do together for one content."""
        key, despite = ClaimKey(pulling.digest), None
        flight = node.store.flights[pulling.digest]
        while pulling.have_bytes < SIZE_BYTES:
            left_s = WAIT_S - pulling.waited_s
            async with self._slot(node):
                began_s = loop_clock()
                if left_s > 0:
                    answer = await node.claims.ask(
                        key, beyond_bytes=pulling.have_bytes, wait_s=left_s, despite=despite
                    )
                    pulling.waited_s += loop_clock() - began_s
                if left_s > 0 and answer.held is not None:
                    (source,) = answer.held.sources
                    despite = source
                    with suppress(ConnectionError):
                        await self._follow(node, self.nodes[source], pulling, flight)
                        despite = None
                    continue
                if left_s > 0 and answer.outcome is Outcome.GRANTED:
                    node.claims.use(key)
            if not await self._fetch(node, pulling):
                return
        self._commit(node, pulling)

    def _slot(self, node: Node) -> asyncio.Semaphore:
        if node.slots is None:
            node.slots = asyncio.Semaphore(self.slots)
        return node.slots

    async def _fetch(self, node: Node, pulling: Pulling) -> bool:
        """Go to the registry. Whether it gives the content."""
        flight = node.store.flights[pulling.digest]
        async with self._slot(node):
            given = await self._from_registry(node, pulling, flight)
        if given:
            self._commit(node, pulling)
        else:
            del node.store.flights[pulling.digest]  # containerd gives up, and removes the ingest
            pulling.end("refused")
        return given

    def _commit(self, node: Node, pulling: Pulling) -> None:
        if pulling.ended:
            return
        del node.store.flights[pulling.digest]
        node.store.held.add(pulling.digest)
        node.store.changes.publish(Change(ChangeKind.ADDED, pulling.digest))
        pulling.end("whole")

    async def _from_registry(self, node: Node, pulling: Pulling, flight: Flight) -> bool:
        self.requests.setdefault(pulling.digest, []).append(node.name)
        pulling.asked_registry += 1
        await asyncio.sleep(self.registry_s)
        if node.refused:
            return False
        while pulling.have_bytes < SIZE_BYTES:
            await asyncio.sleep(self.registry_s)
            await node.thawed.wait()
            self._grow(pulling, flight, STEP_BYTES)
        return True

    async def _follow(self, node: Node, source: Node, pulling: Pulling, flight: Flight) -> None:
        """Take it from a peer as it gets it. Raises ConnectionError if the peer has nothing more."""
        patience_s = 0.0
        while pulling.have_bytes < SIZE_BYTES:
            await asyncio.sleep(_FOLLOW_S)
            await node.thawed.wait()
            if source.dead:
                raise ConnectionError
            given = 0
            if source.runs and not source.lies and self._reaches(node.name, source.name):
                given = self._has_bytes(source, pulling.digest) - pulling.have_bytes
            if given > 0:
                patience_s = 0.0
                self._grow(pulling, flight, min(STEP_BYTES, given))
                continue
            patience_s += _FOLLOW_S
            if patience_s > 3.0:
                raise ConnectionError

    def _has_bytes(self, node: Node, digest: Digest) -> int:
        if digest in node.store.held:
            return SIZE_BYTES
        flight = node.store.flights.get(digest)
        return 0 if flight is None else flight.available_bytes

    def _grow(self, pulling: Pulling, flight: Flight, size_bytes: int) -> None:
        pulling.have_bytes = min(SIZE_BYTES, pulling.have_bytes + size_bytes)
        flight.grow(size_bytes)


CONTENT = sha256("what nobody has")
