"""The holder index in a Valkey or Redis server: for clusters where nobody can ask everybody.

The server is believed as far as hints go: it says which numbers have a digest, and the members' names and
addresses come from this node's own list. What it does not know is looked for among near peers (``fallback``)
whenever it may not know everything: while it is out of reach, full or filling again after a reset, and while
many nodes of this zone announce nothing. If only a few do not, these are asked themselves. A wrong bit costs
one 404.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from agent.config import LookupSettings
from agent.documents.index import IndexSource, IndexState
from agent.holders.bitmap import Masks, Part, nearest, nearest_of_each
from agent.holders.gathering import Found, Gatherer
from agent.holders.index import HolderIndex, Holders, IndexStatus
from agent.holders.valkey.asked import IndexServer
from agent.holders.valkey.cache import Answer, Answers
from agent.holders.valkey.layout import Layout
from agent.holders.valkey.leasing import Lease
from agent.holders.valkey.nearpeers import AskPeer, NearPeers
from agent.holders.valkey.neighbourhood import Neighbourhood
from agent.holders.valkey.numbers import Numbers
from agent.holders.valkey.reading import Reader
from agent.holders.valkey.serverclock import ServerClock
from agent.holders.valkey.telling import Teller
from agent.holders.valkey.trouble import IndexDown
from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.tasks import at_once
from topology.placement import NodeName

FLYING_ASKED_MAX = 4
"""So many near nodes that are fetching a content are asked how far they are."""

NEAREST_MAX = 64
"""So many equally near holders are enough: a pull tries a dozen."""

_UNKNOWN_MAX = 64
_UNKNOWN_S = 1.0  # between two questions for numbers that were never heard of
_NAMES_S = 30.0  # between two questions for all numbers
_ALIVE_S = 5.0  # between two questions who announces something
_SILENT_ASKED_MAX = 16
_RUNNING_MAX = 4
_GATHER_S = 0.002


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
        members_known: Callable[[], Awaitable[object]] = at_once,
        ask_peer: AskPeer = _ask_nobody,
        follows: Callable[[NodeName], bool] = lambda _: False,
        growing: Callable[[Digest], bool] = lambda _: False,
        store: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        layout, members = Layout(prefix), lambda: len(roster) + 1
        self._server = server
        self._url = url
        self._roster = roster
        self._metrics = metrics
        self._fallback = fallback
        self._clock = clock
        self._numbers, self._server_clock = Numbers(), ServerClock()
        self._neighbourhood = Neighbourhood(roster, self._numbers, clock=clock)
        self._lease = Lease(
            server,
            layout,
            own=roster.own,
            agent=agent,
            numbers=self._numbers,
            server_clock=self._server_clock,
            members=members,
            store=store,
            clock=clock,
        )
        self._teller = Teller(
            server,
            layout,
            lease=self._lease,
            server_clock=self._server_clock,
            members=members,
            on_reset=metrics.index.reset,
            members_known=members_known,
            growing=growing,
            clock=clock,
        )
        self._reader = Reader(server, layout, clock=clock)
        self._answers = Answers(
            positive_ttl_s=settings.positive_ttl_s, negative_ttl_s=settings.negative_ttl_s
        )
        self._near = NearPeers(ask_peer, follows=follows, deadline_s=settings.patience_s, clock=clock)
        self._follows = follows
        self._gatherer = Gatherer(self._search, _Pauses())
        self._unknown_s = self._names_s = self._alive_s = 0.0
        self._misled = False
        self._asked_in = 0
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

    def asked(self, digest: Digest, given: bool) -> None:
        """A peer asked this node for it. If it was not given, the server may wrongly say that it is here."""
        if given:
            self._teller.announcements.wanted(digest)
        else:
            self._teller.denied(digest)

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
            found = self._gatherer.join(digest)
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
        self._gatherer.want(
            [
                digest
                for digest in dict.fromkeys(digests)
                if not self._gatherer.is_wanted(digest) and self._answers.fresh(digest, now_s) is None
            ]
        )

    def forget(self, digest: Digest, node: NodeName) -> None:
        """See `HolderIndex.forget`. The node may have another number by now, if it was set up anew."""
        self._misled = True
        self._near.forget(digest, node)
        self._fallback.forget(digest, node)
        self._answers.forget(digest, node, self._numbers.number_of(node), self._clock())
        answer = self._answers.fresh(digest, self._clock())
        if answer is not None and not (answer.bits & self._neighbourhood.masks.known or answer.named):
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
            silent=self._silent,
            latency_us=server.latency_us,
            used_bytes=facts.used_bytes,
            most_bytes=facts.most_bytes,
            policy=facts.policy,
        )

    def _silent(self) -> tuple[NodeName, ...]:
        if not self._server_clock.known:
            return ()
        return tuple(sorted(peer.name for peer in self._neighbourhood.silent))

    async def close(self) -> None:
        """See `HolderIndex.close`."""
        await self._gatherer.close()

    @property
    def _is_down(self) -> bool:
        return not self._server.healthy

    @property
    def _is_warm(self) -> bool:
        """Whether the server was told everything, as far as this node can know."""
        warm_s = self._teller.announcements.warm_s
        young_s = self._server.young_s
        if young_s is not None and young_s < warm_s:
            return False
        reset, now_s = self._teller.last_reset, self._clock()
        if self._teller.is_doubted(now_s):
            return False
        return reset is None or now_s - reset.at_s >= warm_s

    @property
    def _is_told(self) -> bool:
        """Whether the server knows all that its nodes announce."""
        server = self._server
        takes_all = server.healthy and server.writable and not server.facts.may_evict_soon
        return takes_all and server.caught_up and self._is_warm

    @property
    def _is_complete(self) -> bool:
        """Whether nobody has what the server says that nobody has.

        A few nodes that announce nothing are asked themselves. It would cost too much to ask many.
        """
        return self._is_told and len(self._neighbourhood.silent) <= _SILENT_ASKED_MAX

    def _is_everybody(self, answer: Answer) -> bool:
        """Whether those that the answer names are all. It was looked into, and all bits are known."""
        unknown = self._numbers.unknown(answer.bits | answer.flights)
        return answer.looked_into and self._is_complete and not unknown

    def _state(self) -> IndexState:
        if self._is_down:
            return IndexState.DOWN
        if not self._server.writable:
            return IndexState.FULL
        return IndexState.SERVER if self._is_warm else IndexState.WARMING

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

    async def _search(self, found: Found) -> None:
        """Ask the server. Whoever gets no answer asks the fallback."""
        now_s = self._clock()
        hot = [digest for digest in found if self._answers.is_hot(digest, now_s)]
        cold = [digest for digest in found if digest not in hot]
        try:
            answers = await self._ask(cold, watch=False) | await self._ask(hot, watch=True)
        except IndexDown:
            return
        near = self._neighbourhood.masks.part(Part.ZONE)
        self._tell(found, {digest: answer for digest, answer in answers.items() if answer.bits & near})
        await self._look_into(answers)
        if unsure := self._tell(found, answers):
            self._fallback.prefetch(unsure)

    def _tell(self, found: Found, answers: Mapping[Digest, Answer]) -> list[Digest]:
        """Tell who waits. Returns those digests of which the server may not know everything."""
        unsure: list[Digest] = []
        for digest, answer in answers.items():
            if found[digest].done():
                continue
            holders = self._holders(digest, answer, IndexSource.SERVER)
            if not _says_something(holders):
                unsure.append(digest)
            found[digest].set_result(holders)
        return unsure

    async def _ask(self, digests: Sequence[Digest], *, watch: bool) -> dict[Digest, Answer]:
        """Ask the server now. Raises `IndexDown`."""
        if not digests:
            return {}
        began_s = self._clock()
        if not self._server_clock.known:
            await self._lease.read_names()
        epoch = self._server_clock.epoch(began_s)
        if epoch != self._asked_in:  # the server watches keys of another epoch
            self._asked_in = epoch
            self._answers.all_changed()
        bits = await self._reader.read(digests, epoch, watch=watch)
        now_s = self._clock()
        self._metrics.index.answered(now_s - began_s)
        known = self._neighbourhood.masks.known
        watched = watch and self._server.tracking and not self._neighbourhood.silent
        answers = {
            digest: self._answers.put(
                digest, bits=all_, flights=some, known=known, watched=watched, now_s=now_s
            )
            for digest, (all_, some) in bits.items()
        }
        await self._learn_numbers(answers.values())
        return answers

    async def _census(self, digest: Digest) -> Holders | None:
        try:
            answers = await self._ask([digest], watch=False)
        except IndexDown:
            return None
        await self._look_into(answers)
        answer, masks = answers[digest], self._neighbourhood.masks
        found = nearest_of_each(answer.bits, masks, at_most=NEAREST_MAX, lots=masks.lots(digest))
        nodes = self._with_named(found, answer)
        return Holders(
            nodes=nodes,
            exhaustive=bool(nodes) or self._is_everybody(answer),
            in_flight=self._near.flights(digest, nodes),
            source=IndexSource.SERVER,
            arriving=(answer.flights & ~answer.bits & masks.part(Part.ZONE)).bit_count(),
        )

    def _holders(self, digest: Digest, answer: Answer, source: IndexSource) -> Holders:
        nodes = self._with_named(self._nearest(digest, answer), answer)
        in_flight = self._near.flights(digest, nodes)
        return Holders(
            nodes=nodes,
            exhaustive=not nodes and not in_flight and self._is_everybody(answer),
            in_flight=in_flight,
            source=source,
        )

    def _nearest(self, digest: Digest, answer: Answer) -> tuple[NodeName, ...]:
        """The nearest holders. Chosen anew only if the members, or how near they are, changed."""
        masks = self._neighbourhood.masks
        if answer.chosen is not None and answer.chosen[0] is masks:
            return answer.chosen[1]
        nodes: tuple[NodeName, ...] = ()
        if answer.bits & masks.known:
            nodes = nearest(answer.bits, masks, at_most=NEAREST_MAX, lots=masks.lots(digest))
        answer.chosen = masks, nodes
        return nodes

    def _with_named(self, nodes: tuple[NodeName, ...], answer: Answer) -> tuple[NodeName, ...]:
        if not answer.named:
            return nodes
        members = (name for name in answer.named if self._roster.peer(name) is not None)
        return (*dict.fromkeys((*nodes, *members)),)

    async def _look_into(self, answers: Mapping[Digest, Answer]) -> None:
        """What is to be done before an answer of the server is believed that names nobody."""
        await self._ask_near(answers)
        is_sure = await self._make_sure(answers.values())
        for answer in answers.values():
            answer.looked_into = is_sure

    async def _ask_near(self, answers: Mapping[Digest, Answer]) -> None:
        """Ask a few near nodes themselves about what no near node has, as far as the server knows."""
        masks, zone = self._neighbourhood.masks, self._neighbourhood.masks.part(Part.ZONE)
        if not all(answer.bits & zone for answer in answers.values()):
            await self._hear_who_is_alive()
        silent = self._neighbourhood.silent if self._is_told else ()
        few = silent if len(silent) <= _SILENT_ASKED_MAX else ()
        wanted: dict[Digest, list[Peer]] = {}
        for digest, answer in answers.items():
            if answer.bits & zone:
                continue
            peers = [*few, *self._flying(digest, answer.flights & zone, masks)]
            if peers:
                wanted[digest] = peers
        if not wanted:
            return
        for digest, names in (await self._near.ask(wanted)).items():
            answers[digest].named = tuple(names)

    async def _hear_who_is_alive(self) -> None:
        """Ask whose announcements the server takes: the others of the zone are asked themselves."""
        now_s = self._clock()
        if self._is_told and now_s >= self._alive_s:
            with suppress(IndexDown):
                self._neighbourhood.heard(await self._reader.alive(self._server_clock.period(now_s)))
                self._alive_s = now_s + _ALIVE_S  # not before: who comes meanwhile has to know it, too

    async def _make_sure(self, answers: Iterable[Answer]) -> bool:
        """Before it is believed that nobody has something, see whether the server takes announcements, and
        was not emptied a moment ago. Returns whether it may be believed.
        """
        known = self._neighbourhood.masks.known
        if not self._is_complete or all(answer.bits & known or answer.named for answer in answers):
            return True
        try:
            await self._reader.takes_writes()
            return await self._server.is_as_seen()
        except IndexDown:
            return False

    def _flying(self, digest: Digest, flights: int, masks: Masks) -> Iterable[Peer]:
        """A few of the near nodes that are fetching it."""
        if flights:
            for name in nearest(flights, masks, at_most=FLYING_ASKED_MAX, lots=masks.lots(digest)):
                peer = self._roster.peer(name)
                if peer is not None and self._follows(name):
                    yield peer

    async def _learn_numbers(self, answers: Iterable[Answer]) -> None:
        """Ask for the numbers that were never heard of, if they may matter. Not often."""
        unknown = 0
        for answer in answers:
            unknown |= self._numbers.unknown(answer.bits | answer.flights)
        now_s = self._clock()
        try:
            if 0 < unknown.bit_count() <= _UNKNOWN_MAX and now_s >= self._unknown_s:
                self._unknown_s = now_s + _UNKNOWN_S
                await self._lease.read_some(unknown)
            elif now_s >= self._names_s and (unknown or self._misled or self._neighbourhood.silent):
                self._names_s, self._misled = now_s + _NAMES_S, False
                await self._lease.read_names()
        except IndexDown:
            return


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
