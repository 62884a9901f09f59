"""The holder index in a Valkey or Redis server: for clusters where nobody can ask everybody.

The server is believed as far as hints go: it says which numbers have a digest, and the members' names and
addresses come from this node's own list. What it does not know is looked for among near peers (``fallback``)
whenever it may not know everything: while it is out of reach, full or filling again after a reset, and as
long as nodes of this zone have no number yet. A wrong bit costs one 404.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from agent.config import LookupSettings
from agent.documents.index import IndexSource, IndexState
from agent.holders.bitmap import Masks, Part, masks_of, nearest, nearest_of_each
from agent.holders.flights import KEPT_S, Flights
from agent.holders.gathering import Found, Gatherer
from agent.holders.index import HolderIndex, Holders, IndexStatus
from agent.holders.valkey.asked import IndexServer
from agent.holders.valkey.cache import Answer, Answers
from agent.holders.valkey.layout import Layout
from agent.holders.valkey.leasing import Lease
from agent.holders.valkey.numbers import Numbers
from agent.holders.valkey.reading import Bits, Reader
from agent.holders.valkey.serverclock import ServerClock
from agent.holders.valkey.telling import Teller
from agent.holders.valkey.trouble import IndexDown
from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.tasks import end_all
from topology.placement import NodeName
from topology.snapshot import Snapshot

NEAREST_MAX = 64
"""So many equally near holders are enough: a pull tries a dozen."""

_MASKS_S = 10.0  # what was measured since then moves members between equally near groups
_UNKNOWN_MAX = 64
_UNKNOWN_S = 1.0  # between two questions for numbers that were never heard of
_NAMES_S = 30.0  # between two questions for all numbers
_FLYING_ASKED_MAX = 4
_RUNNING_MAX = 4
_GATHER_S = 0.002

AskPeer = Callable[[Peer, Question, float], Awaitable[Reply | None]]
"""Ask one peer, with a deadline in seconds. None: it does not reply."""


async def _at_once() -> None:
    pass


async def _ask_nobody(_peer: Peer, _question: Question, _deadline_s: float) -> Reply | None:
    return None


class ValkeyIndex:
    """See `HolderIndex`. ``server``: its maker runs and closes it. ``agent``: tells this agent from its next.

    ``url``: for people. ``members_known``: returns when there is a list of members. ``fallback``: asks near
    peers. ``ask_peer``, ``follows``: for what is still being fetched near by. ``growing``: whether this node
    is still fetching a digest.
    """

    def __init__(
        self,
        server: IndexServer,
        *,
        url: str,
        prefix: str,
        agent: str,
        roster: Roster,
        settings: LookupSettings,
        metrics: Metrics,
        fallback: HolderIndex,
        members_known: Callable[[], Awaitable[object]] = _at_once,
        ask_peer: AskPeer = _ask_nobody,
        follows: Callable[[NodeName], bool] = lambda _: False,
        growing: Callable[[Digest], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        layout = Layout(prefix)
        self._server = server
        self._roster = roster
        self._settings = settings
        self._metrics = metrics
        self._fallback = fallback
        self._url = url
        self._ask_peer = ask_peer
        self._follows = follows
        self._clock = clock
        self._numbers = Numbers()
        self._server_clock = ServerClock()
        self._lease = Lease(
            server,
            layout,
            own=roster.own,
            agent=agent,
            numbers=self._numbers,
            server_clock=self._server_clock,
            members=self._members,
            clock=clock,
        )
        self._teller = Teller(
            server,
            layout,
            lease=self._lease,
            server_clock=self._server_clock,
            members=self._members,
            on_reset=self._was_reset,
            members_known=members_known,
            growing=growing,
            clock=clock,
        )
        self._reader = Reader(server, layout, clock=clock)
        self._answers = Answers(
            positive_ttl_s=settings.positive_ttl_s, negative_ttl_s=settings.negative_ttl_s
        )
        self._flights = Flights()
        self._found: Found = {}
        self._gatherer = Gatherer(self._search, _Pauses())
        self._tasks: set[asyncio.Task[None]] = set()
        self._masks: tuple[Masks, Snapshot, int, float] | None = None
        self._unknown_s = self._names_s = 0.0
        server.on_invalid(self._changed)

    def announce(self, digests: Iterable[Digest]) -> None:
        """See `HolderIndex.announce`."""
        self._teller.have(digests)

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """See `HolderIndex.withdraw`."""
        self._teller.lack(digests)

    def fetching(self, digest: Digest) -> None:
        """This node begins to fetch it. Others of its zone may follow it soon."""
        self._teller.fetching(digest)

    def wanted(self, digest: Digest) -> None:
        """A peer asked this node for it."""
        self._teller.announcements.wanted(digest)

    async def run(self) -> None:
        """See `HolderIndex.run`."""
        await self._teller.run()

    def remembered(self, digest: Digest) -> Holders | None:
        """See `HolderIndex.remembered`."""
        answer = self._answers.fresh(digest, self._clock())
        holders = None if answer is None else self._holders(digest, answer, IndexSource.CACHE)
        if holders is None or not _says_something(holders):
            holders = self._fallback.remembered(digest) if holders is not None or self._is_down else None
        if holders is not None:
            self._count(holders, 0.0)
        return holders

    async def lookup(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup`."""
        if (known := self.remembered(digest)) is not None:
            return known
        began_s = self._clock()
        holders = None
        if not self._is_down:
            found = self._found.get(digest) or self._want((digest,))[digest]
            holders = await asyncio.shield(found)  # a caller that leaves must not end it for the others
        if holders is None or not _says_something(holders):
            holders = replace(await self._fallback.lookup(digest), source=IndexSource.FALLBACK)
        self._count(holders, self._clock() - began_s)
        return holders

    async def lookup_everyone(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup_everyone`. Names `NEAREST_MAX` of each part of the cluster at the most."""
        began_s = self._clock()
        holders = None
        if not self._is_down:
            holders = await self._census(digest)
        if holders is None or not _says_something(holders):
            holders = replace(await self._fallback.lookup_everyone(digest), source=IndexSource.FALLBACK)
        self._count(holders, self._clock() - began_s)
        return holders

    def prefetch(self, digests: Sequence[Digest]) -> None:
        """See `HolderIndex.prefetch`."""
        if self._is_down:
            self._fallback.prefetch(digests)
            return
        now_s = self._clock()
        self._want(
            [
                digest
                for digest in dict.fromkeys(digests)
                if digest not in self._found and self._answers.fresh(digest, now_s) is None
            ]
        )

    def forget(self, digest: Digest, node: NodeName) -> None:
        """See `HolderIndex.forget`."""
        self._flights.forget(digest, node)
        self._fallback.forget(digest, node)
        number = self._numbers.number_of(node)
        if number is None:
            return
        now_s = self._clock()
        self._answers.forget(digest, number, now_s)
        answer = self._answers.fresh(digest, now_s)
        if answer is not None and not answer.bits & self._masks_now().known:
            self._answers.drop(digest)

    def status(self) -> IndexStatus:
        """See `HolderIndex.status`."""
        server, teller, state = self._server, self._teller, self._state()
        reset, facts = teller.last_reset, server.facts
        troubled = state in (IndexState.DOWN, IndexState.FULL)
        return IndexStatus(
            index=self._url,
            state=state,
            problem=server.problem if troubled else None,
            hint=server.hint if troubled else "",
            warnings=server.warnings,
            server=facts.version,
            cluster=server.cluster,
            number=self._lease.number,
            announced=teller.announcements.announced,
            pending=teller.announcements.pending,
            resets=teller.resets,
            reset_s=None if reset is None else reset.at_s,
            reset_reason=None if reset is None else reset.reason,
            latency_us=server.latency_us,
            used_bytes=facts.used_bytes,
            most_bytes=facts.most_bytes,
            policy=facts.policy,
        )

    async def close(self) -> None:
        """See `HolderIndex.close`."""
        await self._gatherer.close()
        await end_all(self._tasks)

    @property
    def _is_down(self) -> bool:
        return not self._server.healthy

    @property
    def _is_warm(self) -> bool:
        """Whether the server was told everything that this node can know of."""
        warm_s = self._teller.announcements.warm_s
        young_s = self._server.young_s
        if young_s is not None and young_s < warm_s:
            return False
        reset = self._teller.last_reset
        return reset is None or self._clock() - reset.at_s >= warm_s

    @property
    def _is_complete(self) -> bool:
        """Whether nobody has what the server says that nobody has."""
        return self._server.healthy and self._server.writable and self._is_warm and self._zone_has_numbers()

    def _zone_has_numbers(self) -> bool:
        """Whether every member of this zone has a number. One that has none may have been told of nothing."""
        snapshot = self._roster.snapshot
        zone = snapshot.zone_of(snapshot.own)
        count = len(self._roster) if zone is None else snapshot.zones.get(zone, 0)
        own = snapshot.own in snapshot.standings
        return self._masks_now().part(Part.ZONE).bit_count() >= count - own

    def _state(self) -> IndexState:
        if self._is_down:
            return IndexState.DOWN
        if not self._server.writable:
            return IndexState.FULL
        return IndexState.SERVER if self._is_warm else IndexState.WARMING

    def _members(self) -> int:
        return len(self._roster) + 1

    def _was_reset(self) -> None:
        self._metrics.index.reset()

    def _changed(self, keys: Sequence[bytes] | None) -> None:
        if keys is None:
            self._answers.all_changed()
            return
        for key in keys:
            self._answers.changed(self._reader.digest_of(key))

    def _count(self, holders: Holders, took_s: float) -> None:
        source = holders.source or IndexSource.FALLBACK
        if source is not IndexSource.FALLBACK:  # that one counts by itself
            self._metrics.lookup(took_s)
        self._metrics.index.lookup(source, found=bool(holders.nodes or holders.in_flight))

    def _want(self, digests: Iterable[Digest]) -> Found:
        """Look digests up in the background. Each digest's future is done when there is an answer for it."""
        found = self._gatherer.want(digests)
        for digest, future in found.items():
            if digest not in self._found:
                self._found[digest] = future
                future.add_done_callback(partial(self._looked_up, digest))
        return found

    def _looked_up(self, digest: Digest, _: "asyncio.Future[Holders | None]") -> None:
        del self._found[digest]

    async def _search(self, found: Found) -> None:
        """Ask the server. Whoever gets no answer asks the fallback."""
        now_s = self._clock()
        hot = [digest for digest in found if self._answers.is_hot(digest, now_s)]
        cold = [digest for digest in found if digest not in hot]
        try:
            answers = await self._ask(cold, watch=False) | await self._ask(hot, watch=True)
        except IndexDown:
            return
        await self._learn_unknown(answers)
        near = {digest: each.flights for digest, each in answers.items() if self._is_followed(each)}
        if near:
            await self._ask_flying(near)
        unknown: list[Digest] = []
        for digest, answer in answers.items():
            holders = self._holders(digest, answer, IndexSource.SERVER)
            if not _says_something(holders):
                unknown.append(digest)
            if not found[digest].done():
                found[digest].set_result(holders)
        if unknown:
            self._fallback.prefetch(unknown)

    async def _ask(self, digests: Sequence[Digest], *, watch: bool) -> dict[Digest, Answer]:
        """Ask the server now. Raises `IndexDown`."""
        if not digests:
            return {}
        began_s = self._clock()
        if not self._server_clock.known:
            await self._lease.read_names()
        bits = await self._reader.read(digests, self._server_clock.epoch(began_s), watch=watch)
        now_s = self._clock()
        self._metrics.index.answered(now_s - began_s)
        return {digest: self._put(digest, each, watch, now_s) for digest, each in bits.items()}

    def _put(self, digest: Digest, bits: Bits, watch: bool, now_s: float) -> Answer:
        return self._answers.put(
            digest,
            bits=bits[0],
            flights=bits[1],
            known=self._masks_now().known,
            watched=watch and self._server.tracking,
            now_s=now_s,
        )

    async def _census(self, digest: Digest) -> Holders | None:
        try:
            answers = await self._ask([digest], watch=False)
        except IndexDown:
            return None
        await self._learn_unknown(answers)
        masks = self._masks_now()
        nodes = nearest_of_each(answers[digest].bits, masks, at_most=NEAREST_MAX, lots=masks.lots(digest))
        return Holders(
            nodes=nodes,
            exhaustive=self._is_complete or bool(nodes),
            in_flight=self._flights.of(digest, self._clock(), complete=nodes, kept_s=KEPT_S),
            source=IndexSource.SERVER,
        )

    def _holders(self, digest: Digest, answer: Answer, source: IndexSource) -> Holders:
        masks = self._masks_now()
        nodes: tuple[NodeName, ...] = ()
        if answer.bits & masks.known:
            nodes = nearest(answer.bits, masks, at_most=NEAREST_MAX, lots=masks.lots(digest))
        in_flight = self._flights.of(digest, self._clock(), complete=nodes, kept_s=KEPT_S)
        return Holders(
            nodes=nodes,
            exhaustive=not nodes and not in_flight and self._is_complete,
            in_flight=in_flight,
            source=source,
        )

    def _is_followed(self, answer: Answer) -> bool:
        """Whether nodes of this zone are still fetching it, and none has all of it."""
        zone = self._masks_now().part(Part.ZONE)
        return bool(answer.flights & zone) and not answer.bits & zone

    async def _ask_flying(self, flights: Mapping[Digest, int]) -> None:
        """Ask a few of the near nodes that are fetching these how far they are."""
        masks = self._masks_now()
        zone = masks.part(Part.ZONE)
        asked: dict[NodeName, list[Digest]] = {}
        for digest, bits in flights.items():
            for node in nearest(bits & zone, masks, at_most=_FLYING_ASKED_MAX, lots=masks.lots(digest)):
                if self._follows(node):
                    asked.setdefault(node, []).append(digest)
        await asyncio.gather(*(self._ask_one(node, tuple(digests)) for node, digests in asked.items()))

    async def _ask_one(self, node: NodeName, digests: tuple[Digest, ...]) -> None:
        peer = self._roster.peer(node)
        if peer is None:
            return
        reply = await self._ask_peer(peer, Question(digests=digests), self._settings.patience_s)
        if reply is None:
            return
        now_s = self._clock()
        for digest, flying in reply.in_flight.items():
            self._flights.heard(digest, node, flying, now_s)
        number = self._numbers.number_of(node)
        for digest in reply.held:
            answer = self._answers.fresh(digest, now_s)
            if answer is not None and number is not None:
                answer.bits |= 1 << number

    async def _learn_unknown(self, answers: Mapping[Digest, Answer]) -> None:
        """Ask for the numbers that were never heard of, if they may matter. Not often."""
        unknown = 0
        for answer in answers.values():
            unknown |= self._numbers.unknown(answer.bits | answer.flights)
        now_s = self._clock()
        try:
            if 0 < unknown.bit_count() <= _UNKNOWN_MAX and now_s >= self._unknown_s:
                self._unknown_s = now_s + _UNKNOWN_S
                await self._lease.read_some(unknown)
            elif (unknown or not self._zone_has_numbers()) and now_s >= self._names_s:
                self._names_s = now_s + _NAMES_S
                await self._lease.read_names()
        except IndexDown:
            return

    def _masks_now(self) -> Masks:
        """The members by nearness. Made anew when members or numbers change, else every ten seconds."""
        snapshot, generation, now_s = self._roster.snapshot, self._numbers.generation, self._clock()
        if self._masks is not None:
            masks, made_of, made_with, made_s = self._masks
            if made_of is snapshot and made_with == generation:
                return masks
            if (
                made_with == generation
                and made_of.generation == snapshot.generation
                and now_s - made_s < _MASKS_S
            ):
                return masks
        masks = masks_of(self._numbers.of(self._roster.peers), snapshot)
        self._masks = masks, snapshot, generation, now_s
        return masks


class _Pauses:
    """How long look-ups are gathered."""

    def pause_s(self, running: int) -> float:
        """One may begin at once, as long as few are running."""
        return 0.0 if running < _RUNNING_MAX else _GATHER_S

    def pause_again_s(self, running: int) -> float:
        """After the pause the next one begins, however many are running: the server has a deadline."""
        return 0.0


def _says_something(holders: Holders) -> bool:
    return bool(holders.nodes or holders.in_flight or holders.exhaustive)
