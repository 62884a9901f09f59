"""This node's part in claims: asks for them, waits, and keeps those that it was granted.

Before this node's containerd is sent to the registry, the arbiter of the content is asked. It is the first
one, in an order on which all nodes agree, of the members that are near enough and answer. If it does not
answer, the next one is asked. Nobody is waited for if there is no other member, and never longer than the
caller says.

A claim that was granted is kept until containerd has committed the content or given it up: its arbiter is
told of the first bytes at once, and of the rest once a second. What is decided: `agent.holders.claims`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Self

from agent.config import ColdStartSettings
from agent.content.store import ChangeKind, ContentStore
from agent.holders.arbiters import Arbiters
from agent.holders.claimdesk import ClaimDesk
from agent.holders.claims import (
    QUEUED_FACTOR,
    RENEW_S,
    Ask,
    ClaimKey,
    Completed,
    Free,
    GivenUp,
    Granted,
    Held,
    News,
    Renewed,
    realm_of,
)
from agent.holders.claimwire import NEWS_MAX, ClaimCall, ClaimReply
from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.authority import Authorities
from agent.oci.reference import Addressed
from agent.pull.regard import Regard
from agent.tasks import end_all, wait_for_event
from topology.placement import NodeName

_SLICE_S = 2.0  # an arbiter that hangs is noticed after this time; each waiting node asks so often
_FIRST_SLICE_S = 0.25  # then it is known whose turn it is, should the arbiter die
_ANSWER_S = 0.5  # on top of it, for the way there and back
_DEAF_S = 10.0  # an agent that knows no claims is not asked for so long; it may be upgraded any moment
_ARBITERS_MAX = 3
_LOOK_S = 0.025  # so much later than containerd's first bytes the others are told of them
_LOOK_LATER_S, _YOUNG_S = 0.1, 2.0  # a claim that did not begin by then waits for containerd or the registry
_LOOK_STARTED_S = 0.2
_GONE_S = 0.3  # the commit renames the file before the store is known to have it
_YIELD_S = 0.3  # a node that follows another one leaves what nobody has asked for yet to it for so long
_FOLLOWER_S = 2.0  # a node counts as a follower for so long after it was told whom to follow
_WAITS_S = 0.1  # a question that is open for so long waits for another node
_STUCK_S = 2.0  # containerd fetches three at a time: what waits may be in the way of what was claimed
_STUCK_WAITS = 3
_WAITED_S = 30.0  # who waited in vain for bytes does not wait for the same bytes again for so long
_LONG_S = 15.0  # who left after so long asks its next host: containerd 2.3, and perhaps this agent again
_WAITED_MAX = 1024
_STALE_S = 60.0  # nothing came for so long: its owner was killed, say, and has left a part of it behind

AskPeer = Callable[[Peer, Question, float], Awaitable[Reply | None]]
"""Put a question to one peer, which may take its time, with a deadline in seconds. None: no reply."""


class Outcome(Enum):
    """What came of a question. The value is its label in metrics."""

    GRANTED = "granted"
    FOLLOWED = "followed"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    ALONE = "alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to do. ``held``: for FOLLOWED, whom to fetch from. In all other cases: go to the registry."""

    outcome: Outcome
    held: Held | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnClaim:
    """A claim that this node has, since when, and how much containerd had when its arbiter was told last."""

    key: ClaimKey
    received_bytes: int
    since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedClaim:
    """What this node waits for, since when, and who decides."""

    key: ClaimKey
    arbiter: NodeName
    since_s: float


@dataclass(slots=True, kw_only=True, eq=False)
class _Kept:
    """A claim of this node, since ``since_s``. ``arbiter``: who decided.

    ``pulls``: those that were told so, and have not ended. ``used_s``: since when containerd is on its way to
    the registry; None: it is not yet. ``told_s``, ``told_bytes``: what its arbiter was told last.
    ``grew_s``: when it grew last.
    ``missing_s``: since when containerd is not writing it. ``telling``: a message is under way. ``lost``: it
    is another node's turn now. As long as containerd goes on, its arbiter is told: it may be faster all the
    same.
    """

    key: ClaimKey
    arbiter: NodeName
    since_s: float
    told_s: float
    grew_s: float
    pulls: int = 1
    used_s: float | None = None
    told_bytes: int = 0
    missing_s: float | None = None
    telling: bool = False
    lost: bool = False


class Claimant:
    """The claims of the node ``roster.own``. `run` it. Use as an async context manager, or `close` it.

    ``desk``: this node's own arbiter. ``near``: whether a member may decide for this node's zone.
    ``deciding``: who may decide, this node among them, by the reach of a claim; None: as ``near`` says.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        regard: Regard,
        store: ContentStore,
        desk: ClaimDesk,
        ask_peer: AskPeer,
        authorities: Authorities,
        near: Callable[[NodeName], bool],
        settings: ColdStartSettings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        deciding: Callable[[ClaimKey], Arbiters] | None = None,
    ) -> None:
        self._roster = roster
        self._regard = regard
        self._store = store
        self.desk = desk
        self._ask_peer = ask_peer
        self._authorities = authorities
        self._near = near
        self.settings = settings
        self._metrics = metrics
        self._clock = clock
        self._kept: dict[ClaimKey, _Kept] = {}
        self._deciding = deciding or self._of_roster
        self._of_reach: dict[bool, Arbiters] = {}
        self._before: dict[bool, Arbiters] = {}  # those of other members, a moment ago
        self._of_members: tuple[int, int] | None = None  # for which members that is so
        self._asking: Counter[ClaimKey] = Counter()
        self._asked_s: dict[ClaimKey, float] = {}  # since when
        self._deaf: dict[NodeName, float] = {}  # until when
        self._waited: dict[tuple[ClaimKey, int], float] = {}  # until when it is not waited for again
        self._followed_s = float("-inf")  # when another node's turn was learned of last
        self._grew_s = float("-inf")  # when containerd got something last that this node has a claim on
        self._waits: dict[asyncio.Timeout, float] = {}  # the questions that are open, and since when
        self._telling: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()

    def kept(self) -> tuple[OwnClaim, ...]:
        """The claims that this node has."""
        return tuple(
            OwnClaim(key=kept.key, received_bytes=kept.told_bytes, since_s=kept.since_s)
            for kept in self._kept.values()
            if not kept.lost
        )

    @property
    def awaits(self) -> int:
        """How many contents this node asks for now, and waits for."""
        return len(self._asked_s)

    def awaited(self) -> Iterator[AwaitedClaim]:
        """What this node asks for now, and waits for."""
        for key, since_s in [*self._asked_s.items()]:
            arbiter = self._arbiter(key, set()) or self._roster.own
            yield AwaitedClaim(key=key, arbiter=arbiter, since_s=since_s)

    def arbiter(self, key: ClaimKey) -> NodeName | None:
        """Who decides on it. None: nobody does, since no other agent is near."""
        return self._arbiter(key, set())

    def key_of(self, target: Addressed, *, cluster: bool = False) -> ClaimKey:
        """The claim that is about this content under this name."""
        realm = ""
        if target.registry is not None and self._authorities.leaves_to_registry(target):
            realm = realm_of(target.registry, target.repository)
        return ClaimKey(target.digest, realm, cluster)

    def has(self, key: ClaimKey) -> bool:
        """Whether this node's containerd is on its way to the registry for it."""
        kept = self._kept.get(key)
        return kept is not None and kept.used_s is not None

    async def ask(
        self, key: ClaimKey, *, beyond_bytes: int, wait_s: float, despite: NodeName | None = None
    ) -> Answer:
        """Ask for a claim, and wait for ``wait_s`` at most until it is granted or another node has it.

        For the other parameters see `Ask`. If the claim is granted, call `use` or `give_back` once.
        Cancelling gives back whatever is granted meanwhile.
        """
        began_s = self._clock()
        if (kept := self._kept.get(key)) is not None and not kept.lost:
            kept.pulls += 1
            return Answer(outcome=Outcome.GRANTED)
        if not self._deciding(key).any_other(self._roster.own, self._not_asked()):
            return self._ended(key, Answer(outcome=Outcome.ALONE))
        if self._waited.get((key, beyond_bytes), began_s) > began_s:
            wait_s = 0.0
        self._asking[key] += 1
        self._asked_s.setdefault(key, began_s)
        try:
            answer = await self._ask_unless_stuck(key, beyond_bytes, wait_s, despite)
        except asyncio.CancelledError:
            if self._clock() >= began_s + _LONG_S:
                self._waited_in_vain(key, beyond_bytes)
            raise
        finally:
            self._asking[key] -= 1
            if not self._asking[key]:
                del self._asking[key], self._asked_s[key]
        if answer.outcome is Outcome.TIMEOUT:
            self._waited_in_vain(key, beyond_bytes)
        waited_s = self._clock() - began_s
        if waited_s > _ANSWER_S or answer.outcome is Outcome.FOLLOWED:
            self._metrics.claim_waited(_waited_label(answer.outcome), waited_s)
        return self._ended(key, answer)

    async def _ask_unless_stuck(
        self, key: ClaimKey, beyond_bytes: int, wait_s: float, despite: NodeName | None
    ) -> Answer:
        """Ask, until this wait is found to be in the way of what this node is to fetch itself."""
        try:
            async with asyncio.timeout(None) as wait:
                self._waits[wait] = self._clock()
                try:
                    if despite is None and self._yields(key):  # who complains is ready to take it
                        yielding = await self._ask(key, beyond_bytes, wait_s, despite, takes=False)
                        if yielding.outcome is not Outcome.REFUSED:
                            return yielding
                        await asyncio.sleep(min(_YIELD_S, wait_s))
                    takes = self._store.receiving(key.digest) is True
                    return await self._ask(key, beyond_bytes, wait_s, despite, takes=takes)
                finally:
                    del self._waits[wait]
        except TimeoutError:
            return Answer(outcome=Outcome.TIMEOUT)

    def _yields(self, key: ClaimKey) -> bool:
        """Whether to leave what nobody has asked for yet to another node for a moment.

        The node that was first to want an image's manifest is the first to want its layers, too. If its
        followers were granted some of them, the nodes would wait for each other: containerd fetches three at
        a time, and sends for what it was refused only when it has asked for all the rest.
        """
        now_s = self._clock()
        waits = any(now_s >= since_s + _WAITS_S for since_s in self._waits.values())
        follows = waits or now_s < self._followed_s + _FOLLOWER_S
        return follows and not key.cluster and not self._kept and self._store.receiving(key.digest) is True

    def use(self, key: ClaimKey) -> None:
        """The client is sent to the registry with this claim."""
        kept = self._kept.get(key)
        if kept is not None:
            kept.pulls = max(0, kept.pulls - 1)
            kept.used_s = self._clock()
            self._stirred.set()

    def give_back(self, key: ClaimKey) -> None:
        """The client left, or got the content from elsewhere."""
        kept = self._kept.get(key)
        if kept is not None:
            kept.pulls = max(0, kept.pulls - 1)
            if not kept.pulls and kept.used_s is None:
                self._end(kept, GivenUp(key, failed=False))

    async def run(self) -> None:
        """Keep the claims, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_commits(), name="commits of claims")
            while True:
                self._stirred.clear()
                if self._kept:
                    self._look()
                    self._unblock()
                    await wait_for_event(self._stirred, self._pause_s())
                else:
                    await self._stirred.wait()

    def _pause_s(self) -> float:
        """When to look again: often for a moment, as long as nothing came. Each look takes 0.1 ms a claim."""
        waited_for = [kept for kept in self._kept.values() if not kept.told_bytes]
        if not waited_for:
            return _LOOK_STARTED_S
        young = any(self._clock() < kept.since_s + _YOUNG_S for kept in waited_for)
        return _LOOK_S if young else _LOOK_LATER_S

    async def close(self) -> None:
        """End what runs in the background. Claims that are not renewed end by themselves."""
        self.desk.close()
        await end_all(self._telling)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _follow_commits(self) -> None:
        async for change in self._store.watch():
            if change.kind is ChangeKind.ADDED and self._kept:
                self._stirred.set()

    def _ended(self, key: ClaimKey, answer: Answer) -> Answer:
        self._metrics.claim(answer.outcome.value, _scope(key))
        return answer

    async def _ask(
        self, key: ClaimKey, beyond_bytes: int, wait_s: float, despite: NodeName | None, *, takes: bool
    ) -> Answer:
        began_s = asked_s = self._clock()
        until_s, at_most_s = began_s + wait_s, began_s + QUEUED_FACTOR * wait_s
        silent: set[NodeName] = set()
        hearsay: NodeName | None = None
        slice_s = _FIRST_SLICE_S
        while (arbiter := self._arbiter(key, silent)) is not None:
            left_s = max(0.0, until_s - self._clock())
            ask = Ask(
                key=key,
                node=self._roster.own,
                beyond_bytes=beyond_bytes,
                takes=takes,
                despite=despite,
                hearsay=hearsay,
            )
            call = ClaimCall(node=self._roster.own, ask=ask, wait_s=min(left_s, slice_s))
            try:
                reply = await self._call(arbiter, call)
            except asyncio.CancelledError:
                self._leave(key, arbiter)
                raise
            if reply is None:
                silent.add(arbiter)
                continue
            match reply.verdict:
                case Granted():
                    self._keep(key, arbiter)
                    return Answer(outcome=Outcome.GRANTED)
                case Held():
                    if not key.cluster:
                        self._followed_s = self._clock()
                    return Answer(outcome=Outcome.FOLLOWED, held=reply.verdict)
                case Free():
                    return Answer(outcome=Outcome.REFUSED)
                case None:
                    hearsay, slice_s = reply.holder or hearsay, _SLICE_S
                    if reply.queued:  # it is on its way, and nobody else would be faster
                        until_s = min(at_most_s, until_s + self._clock() - asked_s)
                    asked_s = self._clock()
            if self._clock() >= until_s:
                return Answer(outcome=Outcome.TIMEOUT)
        return Answer(outcome=Outcome.ALONE)

    def _not_asked(self) -> set[NodeName]:
        """The members that are not asked now."""
        now_s = self._clock()
        deaf = (name for name, until_s in self._deaf.items() if now_s < until_s)
        return {*self._regard.cooling(now_s), *deaf}

    def _of_roster(self, key: ClaimKey) -> Arbiters:
        """Those of this node's zone, or all. Looked up again when the members change."""
        known = self._roster.snapshot.generation, len(self._roster)
        if known != self._of_members:
            self._before, self._of_reach, self._of_members = self._of_reach, {}, known
        if key.cluster not in self._of_reach:
            names = (name for name in self._roster.peers if key.cluster or self._near(name))
            self._of_reach[key.cluster] = Arbiters(
                (self._roster.own, *names), self._before.pop(key.cluster, None)
            )
        return self._of_reach[key.cluster]

    def _arbiter(self, key: ClaimKey, silent: set[NodeName]) -> NodeName | None:
        """Who decides, if these do not answer. None: nobody does."""
        if len(silent) >= _ARBITERS_MAX:
            return None
        return self._deciding(key).first(key, self._roster.own, without=self._not_asked() | silent)

    async def _call(self, arbiter: NodeName, call: ClaimCall) -> ClaimReply | None:
        """Tell an arbiter, and ask it. None: it does not answer, or decides on no claims."""
        if arbiter == self._roster.own:
            return await self.desk.answer(call)
        peer = self._roster.peer(arbiter)
        if peer is None:
            return None
        reply = await self._ask_peer(peer, Question(claims=call), call.wait_s + _ANSWER_S)
        if reply is not None and reply.claims is None:
            self._deaf[arbiter] = self._clock() + _DEAF_S
        return None if reply is None else reply.claims

    def _keep(self, key: ClaimKey, arbiter: NodeName) -> None:
        kept = self._kept.get(key)
        if kept is None:
            now_s = self._clock()
            self._kept[key] = _Kept(key=key, arbiter=arbiter, since_s=now_s, told_s=now_s, grew_s=now_s)
        else:
            kept.pulls, kept.arbiter, kept.lost = kept.pulls + 1, arbiter, False
        self._stirred.set()

    def _leave(self, key: ClaimKey, arbiter: NodeName) -> None:
        """A client left that waited: its arbiter need not keep a place for this node, or a claim."""
        if self._asking[key] == 1 and key not in self._kept and arbiter != self._roster.own:
            self._tell(arbiter, (GivenUp(key, failed=False),), ())

    def _waited_in_vain(self, key: ClaimKey, beyond_bytes: int) -> None:
        self._waited[key, beyond_bytes] = self._clock() + _WAITED_S
        if len(self._waited) > _WAITED_MAX:
            del self._waited[next(iter(self._waited))]

    def _look(self) -> None:
        """Look how far each content is, and tell the arbiters what there is to tell."""
        told: dict[NodeName, list[tuple[_Kept, News]]] = {}
        for kept in [*self._kept.values()]:
            if not kept.telling and (news := self._news(kept)) is not None:
                told.setdefault(kept.arbiter, []).append((kept, news))
        for arbiter, those in told.items():
            for start in range(0, len(those), NEWS_MAX):
                part = those[start : start + NEWS_MAX]
                self._tell(arbiter, tuple(news for _, news in part), tuple(kept for kept, _ in part))

    def _news(self, kept: _Kept) -> News | None:
        """What there is to tell of a claim."""
        now_s, digest = self._clock(), kept.key.digest
        if self._store.holds(digest):
            del self._kept[kept.key]
            self._grew_s = now_s
            return Completed(kept.key)
        growing = self._store.growing(digest)
        available_bytes = kept.told_bytes if growing is None else growing.available_bytes
        if growing is not None or self._store.receiving(digest):
            kept.missing_s = None
        elif kept.used_s is not None:
            kept.missing_s = now_s if kept.missing_s is None else kept.missing_s
            if now_s >= kept.missing_s + _GONE_S:
                del self._kept[kept.key]
                if not kept.lost:
                    self._metrics.claim("lost", _scope(kept.key))
                return GivenUp(kept.key, failed=True)
        if available_bytes > kept.told_bytes:
            self._grew_s = kept.grew_s = now_s
        waits = now_s < self._grew_s + self.settings.claim_start_s or self._waits_elsewhere(kept.key)
        queued = not available_bytes and waits
        if not queued and kept.used_s is not None and now_s >= max(kept.used_s, kept.grew_s) + _STALE_S:
            del self._kept[kept.key]
            return GivenUp(kept.key, failed=True)
        started = available_bytes > 0 and not kept.told_bytes
        if not started and now_s < kept.told_s + RENEW_S:
            return None
        kept.told_s, kept.told_bytes = now_s, max(kept.told_bytes, available_bytes)
        kept.arbiter = self._arbiter(kept.key, set()) or kept.arbiter  # the one that others ask by now
        return Renewed(kept.key, kept.told_bytes, queued)

    def _waits_elsewhere(self, key: ClaimKey) -> bool:
        """Whether this node waits until another zone has what its own zone waits for."""
        return not key.cluster and replace(key, cluster=True) in self._asking

    def _unblock(self) -> None:
        """End one wait if all that waits here may keep containerd from fetching what this node claimed."""
        now_s = self._clock()
        idle = [kept for kept in self._kept.values() if kept.used_s is not None and not kept.told_bytes]
        stuck = any(now_s >= (kept.used_s or now_s) + _STUCK_S for kept in idle)
        if not stuck or now_s < self._grew_s + _STUCK_S or len(self._waits) < _STUCK_WAITS:
            return
        oldest = next(iter(self._waits))
        if now_s >= self._waits[oldest] + _STUCK_S:
            self._grew_s = now_s  # the next one not before this one had time to help
            oldest.reschedule(asyncio.get_running_loop().time())

    def _step_back(self, lost: _Kept) -> None:
        """It is another zone's turn, and this node has nothing: the next one of its zone follows that."""
        kept = self._kept.get(replace(lost.key, cluster=False))
        if lost.key.cluster and kept is not None and not kept.told_bytes:
            self._end(kept, GivenUp(kept.key, failed=True))

    def _end(self, kept: _Kept, news: News) -> None:
        del self._kept[kept.key]
        self._tell(kept.arbiter, (news,), (kept,))

    def _tell(self, arbiter: NodeName, news: tuple[News, ...], kept: Iterable[_Kept]) -> None:
        """Tell an arbiter in the background."""
        task = asyncio.create_task(self._send(arbiter, news, tuple(kept)), name="news of claims")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _send(self, arbiter: NodeName, news: tuple[News, ...], kept: tuple[_Kept, ...]) -> None:
        """Tell it. If an arbiter does not answer, another one decides now, on each content its own."""
        for one in kept:
            one.telling = True
        left = [(arbiter, news, kept, frozenset[NodeName]())]
        try:
            while left:
                told, part, those, silent = left.pop()
                reply = await self._call(told, ClaimCall(node=self._roster.own, news=part))
                if reply is not None:
                    self._heed(reply, told, those)
                else:
                    left += self._for_the_next(part, those, silent | {told})
        finally:
            for one in kept:
                one.telling = False

    def _for_the_next(
        self, news: tuple[News, ...], kept: tuple[_Kept, ...], silent: frozenset[NodeName]
    ) -> list[tuple[NodeName, tuple[News, ...], tuple[_Kept, ...], frozenset[NodeName]]]:
        """Whom to tell what instead, if these do not answer: who takes the claim from who has it."""
        parts: dict[NodeName, list[tuple[News, _Kept]]] = {}
        for one_news, one in zip(news, kept, strict=False):
            if (arbiter := self._arbiter(one.key, {*silent})) is not None:
                parts.setdefault(arbiter, []).append((one_news, one))
        return [
            (arbiter, tuple(each for each, _ in part), tuple(one for _, one in part), silent)
            for arbiter, part in parts.items()
        ]

    def _heed(self, reply: ClaimReply, arbiter: NodeName, kept: tuple[_Kept, ...]) -> None:
        """The arbiter said which of these claims are still this node's."""
        for one, is_kept in zip(kept, reply.kept, strict=False):
            one.arbiter = arbiter
            if one.lost is is_kept and self._kept.get(one.key) is one:
                one.lost = not is_kept
                if one.lost:
                    self._metrics.claim("lost", _scope(one.key))
                    self._step_back(one)


def _scope(key: ClaimKey) -> str:
    return "cluster" if key.cluster else "zone"


def _waited_label(outcome: Outcome) -> str:
    """The label of a wait in the metrics."""
    known = (Outcome.FOLLOWED, Outcome.GRANTED)
    return outcome.value if outcome in known else Outcome.TIMEOUT.value
