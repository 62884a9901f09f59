"""A fictitious zone of nodes that all pull one content, in simulated time: the product's decisions, no I/O.

Each node has a `Pull`, and a `Fanout` for those that ask it. Every stream moves a step at each tick, as far
as its source has come. Whoever ends without a holder goes to the registry, and is a source from then on. A
node may die, or freeze: its agent answers, and nothing more arrives there.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from zlib import crc32

from agent.pull.arrival import AHEAD_S
from agent.pull.events import (
    Abandon,
    Broke,
    Commands,
    Completed,
    Cut,
    Deliver,
    Event,
    Failed,
    Failure,
    Fetch,
    Found,
    GiveUp,
    Limits,
    Lookup,
    NotFound,
    Responded,
    Ticked,
    WakeAt,
)
from agent.pull.fanout import Admitted, Fanout, Shared
from agent.pull.following import as_follower, is_in_flight, stall_s
from agent.pull.machine import Pull
from tests.unit.twins import node, sha256
from topology.placement import NodeName, Tier
from topology.ranking import Condition, Ranked

LAYER = sha256("layer")
MIB = 1 << 20
SIZE = 40 * MIB
TICK_S = 0.05
RTT_S = 0.001
LIMITS = Limits(patience_s=0.5, deadline_s=10.0, attempts_max=8, stall_s=3.0)


@dataclass(eq=False)
class Stream:
    """A body from ``source`` to ``to``. ``since_s``: when its last byte came."""

    source: "Node"
    to: "Node"
    attempt: int
    holder: Ranked
    place: Admitted | None
    since_s: float
    sent_bytes: int = 0


@dataclass(eq=False)
class Node:
    """One node. ``has_bytes``: of the content, from its first byte on."""

    name: NodeName
    fanout: Fanout
    has_bytes: int = 0
    depth: int = 0
    alive: bool = True
    frozen: bool = False
    pull: Pull | None = None
    wake_s: float = 0.0
    stream: Stream | None = None
    open: dict[int, Fetch] = field(default_factory=dict)
    at_registry: bool = False
    requests: int = 0
    fetches: int = 0  # from the registry
    gave_bytes: int = 0
    places: dict[int, tuple["Node", Admitted]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return self.has_bytes == SIZE

    @property
    def arriving(self) -> bool:
        """Whether its containerd is fetching it: the ingest is there."""
        return not self.whole and (self.at_registry or self.pull is not None)


class Swarm:
    """``step_bytes``: how far a stream moves at a tick; ``registry_bytes``: the same from the registry."""

    def __init__(
        self, number: int, *, followers_max: int = 3, step_bytes: int = 2 * MIB, registry_bytes: int = MIB
    ) -> None:
        self.nodes = {
            node(f"n{each}"): Node(node(f"n{each}"), Fanout(followers_max=followers_max))
            for each in range(number)
        }
        self.now_s = 0.0
        self._step_bytes, self._registry_bytes = step_bytes, registry_bytes
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self.depth = 0

    def __getitem__(self, number: int) -> Node:
        return self.nodes[node(f"n{number}")]

    def at(self, at_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._numbers), what))

    def starts(self, number: int) -> None:
        """The node's containerd asks its agent."""
        one = self[number]
        if one.alive and not one.whole and one.pull is None and not one.at_registry:
            self._begin(one)

    def dies(self, number: int) -> None:
        """The node is gone, with all of its connections."""
        one = self[number]
        one.alive = False
        self._leave(one)
        one.pull, one.at_registry = None, False
        for other in self.nodes.values():
            if other.stream is not None and other.stream.source is one:
                self._broke(other, Failure.BROKEN)

    def freezes(self, number: int, for_s: float) -> None:
        """Nothing more arrives there for a while."""
        self[number].frozen = True
        self.at(self.now_s + for_s, partial(setattr, self[number], "frozen", False))

    def runs(self, until_s: float) -> None:
        """Until everybody who lives has it. Fails if somebody does not in time."""
        while any(each.alive and not each.whole for each in self.nodes.values()):
            self.now_s = round(self.now_s + TICK_S, 6)
            assert self.now_s < until_s, f"{[each.name for each in self.nodes.values() if not each.whole]}"
            while self._agenda and self._agenda[0][0] <= self.now_s:
                heapq.heappop(self._agenda)[2]()
            self._tick()

    def _begin(self, one: Node) -> None:
        one.pull = Pull(limits=LIMITS)
        self._obey(one, one.pull.start(self.now_s))

    def _tell(self, one: Node, event: Event) -> None:
        if one.alive and one.pull is not None:
            self._obey(one, one.pull.on(event, self.now_s))

    def _later(self, one: Node, event: Event, after_s: float = RTT_S) -> None:
        pull = one.pull
        self.at(self.now_s + after_s, lambda: self._tell(one, event) if one.pull is pull else None)

    def _obey(self, one: Node, commands: Commands) -> None:
        for command in commands:
            match command:
                case Lookup():
                    self._later(one, Found(holders=self._holders(one), exhaustive=command.everyone))
                case Fetch():
                    one.open[command.attempt] = command
                    one.requests += 1
                    arrives = partial(self._asked, one, command, self.now_s + AHEAD_S)
                    self.at(self.now_s + RTT_S, arrives)
                case Abandon():
                    self._closed(one, command.attempt)
                case WakeAt():
                    one.wake_s = command.at_s
                case Deliver():
                    self._delivers(one, command)
                case GiveUp():
                    self._broke(one, command.failure)
                case NotFound() | Cut():
                    self._leave(one)
                    one.pull, one.at_registry, one.depth = None, True, 0
                    one.fetches += 1
                case _:
                    pass

    def _holders(self, one: Node) -> tuple[Ranked, ...]:
        """What a look-up finds: complete ones first, equals by hash, and none that is not ahead."""
        found = [
            self._ranked(other)
            for other in self.nodes.values()
            if other is not one
            and other.alive
            and (other.whole or (other.arriving and other.has_bytes > one.has_bytes))
        ]
        return tuple(sorted(found, key=lambda each: (is_in_flight(each), self._lot(one, each.node)))[:24])

    def _ranked(self, other: Node) -> Ranked:
        in_flight = None if other.whole else 100 * other.has_bytes // SIZE
        return Ranked(other.name, Tier.ZONE, 1, None, Condition(in_flight=in_flight))

    def _lot(self, one: Node, name: NodeName) -> int:
        return crc32(f"{one.name}/{name}".encode())

    def _asked(self, one: Node, fetch: Fetch, until_s: float) -> None:
        """A request is at the node that it is for. One that is not ahead waits for a while."""
        if fetch.attempt not in one.open or one.open[fetch.attempt] is not fetch or not one.alive:
            return
        source = self.nodes[fetch.holder.node]
        if not source.alive:
            self._fails(one, fetch, Failure.UNREACHABLE)
        elif not (source.whole or source.arriving):
            self._fails(one, fetch, Failure.MISSING)
        elif fetch.attempt not in one.places and not self._has_place(one, source, fetch):
            return
        elif source.whole or source.has_bytes > fetch.offset:
            holder = self._ranked(source)
            self._later(one, Responded(attempt=fetch.attempt, holder=holder))
        elif self.now_s < until_s:
            self.at(self.now_s + TICK_S, partial(self._asked, one, fetch, until_s))
        else:
            self._fails(one, fetch, Failure.STARVED)

    def _has_place(self, one: Node, source: Node, fetch: Fetch) -> bool:
        if source.whole and fetch.offset:
            return True
        asked = source.fanout.ask(LAYER, one.name, None, self.now_s, in_flight=not source.whole)
        if isinstance(asked, Shared):
            instead = sorted(asked.nodes, key=partial(self._lot, one))
            ranked = tuple(
                Ranked(each, Tier.ZONE, 1, None, Condition(in_flight=0))
                for each in instead
                if each != one.name
            )
            self._fails(one, fetch, Failure.SHARED, ranked)
            return False
        one.places[fetch.attempt] = source, asked
        return True

    def _fails(self, one: Node, fetch: Fetch, failure: Failure, instead: Sequence[Ranked] = ()) -> None:
        self._closed(one, fetch.attempt)
        self._later(one, Failed(attempt=fetch.attempt, failure=failure, instead=tuple(instead)))

    def _delivers(self, one: Node, command: Deliver) -> None:
        source = self.nodes[command.holder.node]
        fetch = one.open[command.attempt]
        assert fetch.offset == one.has_bytes, "it goes on at the exact byte"
        place = one.places.get(command.attempt, (source, None))[1]
        one.stream = Stream(source, one, command.attempt, command.holder, place, self.now_s)
        one.depth = 1 + (source.depth if not source.whole else 0)
        self.depth = max(self.depth, one.depth)
        seen, upward = {one.name}, source
        while upward.stream is not None:
            assert upward.name not in seen, "nodes wait for each other in a circle"
            seen.add(upward.name)
            upward = upward.stream.source
        if not source.alive:
            self._broke(one, Failure.BROKEN)

    def _closed(self, one: Node, attempt: int) -> None:
        one.open.pop(attempt, None)
        source, place = one.places.pop(attempt, (None, None))
        if source is not None and place is not None:
            source.fanout.ended(place, self.now_s, whole=one.whole)
        if one.stream is not None and one.stream.attempt == attempt:
            one.stream = None

    def _leave(self, one: Node) -> None:
        for attempt in {*one.open, *one.places}:
            self._closed(one, attempt)
        one.stream = None

    def _broke(self, one: Node, failure: Failure) -> None:
        assert one.stream is not None
        if is_in_flight(one.stream.holder):
            failure = as_follower(failure)
        self._tell(one, Broke(failure=failure, offset=one.has_bytes))

    def _tick(self) -> None:
        """Everything moves a step: sources first, so that no order of the nodes matters."""
        for one in sorted(self.nodes.values(), key=lambda each: each.depth):
            if not one.alive or one.whole:
                continue
            if one.at_registry and not one.frozen:
                one.has_bytes = min(SIZE, one.has_bytes + self._registry_bytes)
                one.at_registry = not one.whole
            if one.stream is not None:
                self._move(one, one.stream)
            elif one.pull is not None and self.now_s >= one.wake_s:
                self._tell(one, Ticked())

    def _move(self, one: Node, stream: Stream) -> None:
        source = stream.source
        assert source.has_bytes >= one.has_bytes, "a follower is never ahead of its source"
        moved = 0 if one.frozen else min(self._step_bytes, source.has_bytes - one.has_bytes)
        one.has_bytes += moved
        source.gave_bytes += moved
        if moved:
            stream.since_s = self.now_s
        if one.whole:
            self._tell(one, Completed(given_bytes={source.name: SIZE}))
            self._leave(one)
            one.pull = None
            return
        usual_s = LIMITS.stall_s
        patient_s = stall_s(usual_s, source.depth) if is_in_flight(stream.holder) else usual_s
        if not one.frozen and self.now_s - stream.since_s >= patient_s:
            self._broke(one, Failure.SILENT)
        elif not source.arriving and not source.whole:
            self._broke(one, Failure.BROKEN)
