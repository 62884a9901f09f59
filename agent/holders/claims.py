"""Which node fetches from the registry what nobody has: the book of an arbiter, and who the arbiter is. Pure.

The first node that asks for a content gets the claim: it fetches from the registry, and renews the claim with
what it has so far. The others wait until it has more than they have, and are then told to fetch from it. A
claim is lost if it is not renewed for `LEASE_S`, if nothing comes for `start_s` (`STALL_FACTOR` times as long
once something came), or if its node gives it up. The next node that waits then gets it. A lost claim costs
its node nothing else: it may go on, and only has no turn any more while others wait (`BARRED_S`).

Nothing here is needed for a pull to be right. If an arbiter forgets all, or two decide on one content, one
node more goes to the registry. Times are seconds of one monotonic clock, the arbiter's. No clock of another
node counts.
"""

import hashlib
import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import assert_never

from agent.oci.digest import Digest
from topology.placement import NodeName

LEASE_S = 3.0
"""A claim that was not renewed for so long is lost. It is renewed every `RENEW_S`."""

RENEW_S = 1.0
TENTATIVE_S = 1.5
"""For so long a new arbiter waits for the renewal of a claim that it knows from hearsay only."""

STALL_FACTOR = 3.0
"""Once something came, nothing may come for so many times `start_s`.

containerd writes a MiB at a time. A registry that gives 70 kB/s takes 15 s for one, and is still worth it.
"""

QUEUED_FACTOR = 3.0
"""So many times as long may be waited for a node whose containerd is busy with other contents of the zone."""

DONE_S = 30.0
"""For so long those that ask late are told who has fetched it. Look-ups find it within a second."""

BARRED_S = 60.0
KEYS_MAX = 8192
WAITERS_MAX = 4096
"""Nodes that wait for one content. Beyond that, the one that waits longest goes to the registry."""

OF_NODE_MAX = 1024
"""How many contents one node may wait for. A cluster node pulls some tens of layers at once."""

_BARRED_MAX = 64
_QUEUE_STARTS = 8  # times `start_s`: the next one begins before those that wait have waited in vain


@dataclass(frozen=True, slots=True)
class ClaimKey:
    """What a claim is about.

    ``realm``: stands for a name that the registry decides on; empty for all others. Content is given under
    such a name alone, so nobody who asks under another one may wait for it, or learn that it comes.
    ``cluster``: the claim is for all zones, not for the zone of who asks.
    """

    digest: Digest
    realm: str = ""
    cluster: bool = False


def realm_of(registry: str, repository: str) -> str:
    """The realm of a name that the registry decides on. It tells the arbiter nothing of the name."""
    return hashlib.sha256(f"{registry}/{repository}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A node needs a content that nobody has.

    ``beyond_bytes``: it has so many bytes, and can only use a source that has more. ``takes``: it can take
    the claim; false if nobody could see what it fetches. ``despite``: it could not fetch from this node,
    which has the claim. ``hearsay``: an arbiter that has gone said that this node has the claim.
    """

    key: ClaimKey
    node: NodeName
    beyond_bytes: int = 0
    takes: bool = True
    despite: NodeName | None = None
    hearsay: NodeName | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """The node has the claim: it goes to the registry, and renews the claim."""


@dataclass(frozen=True, slots=True)
class Held:
    """Another node has what is needed. ``sources``: whom to fetch from, the best first.

    ``complete``: it has all of it. ``available_bytes``: how much it has, if not.
    """

    sources: tuple[NodeName, ...]
    available_bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Free:
    """Go to the registry without a claim: nobody has it, and this node can't take it or waited too long."""


Verdict = Granted | Held | Free


@dataclass(frozen=True, slots=True)
class Renewed:
    """The asker still fetches, and has so many bytes.

    ``queued``: it has none yet because its containerd is busy with other contents that it fetches for the
    zone. containerd fetches three at a time, whatever it was sent to the registry for. Or because it waits
    for another zone, from which it will take it.
    """

    key: ClaimKey
    available_bytes: int
    queued: bool = False


@dataclass(frozen=True, slots=True)
class Completed:
    """The asker's store has the content."""

    key: ClaimKey


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The asker does not fetch it. ``failed``: the registry refused it, say. Else its client left."""

    key: ClaimKey
    failed: bool


News = Renewed | Completed | GivenUp
"""What who has a claim says of it."""


@dataclass(frozen=True, slots=True)
class Told:
    """The verdict for a question. ``ticket``: the number under which it was asked."""

    ticket: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Decided:
    """What an arbiter knows of a claim. ``complete``: its node has all of it. ``waiting``: open questions."""

    key: ClaimKey
    holder: NodeName
    available_bytes: int
    complete: bool
    waiting: int


@dataclass(slots=True)
class _Waiter:
    ticket: int
    ask: Ask


@dataclass(slots=True)
class _Claim:
    """The claim on one content.

    ``holder``: who has it. ``lease_s``: when it ends if it is not renewed. ``grew_s``: when it grew last.
    ``waits_s``: when its holder said last that its containerd is busy with others; ``queue_ends_s``: after
    this time that does not count.
    ``barred``: who has no turn, and until when. ``late``: those of them that had not begun. ``complained``:
    since when a node says that it gets nothing from the holder. ``arrived``: who asked first, in order.
    """

    holder: NodeName
    lease_s: float
    grew_s: float
    queue_ends_s: float
    available_bytes: int = 0
    started: bool = False
    waits_s: float = float("-inf")
    complete_until_s: float | None = None
    waiters: dict[int, _Waiter] = field(default_factory=dict)
    barred: dict[NodeName, float] = field(default_factory=dict)
    late: set[NodeName] = field(default_factory=set)
    complained: dict[NodeName, float] = field(default_factory=dict)
    arrived: dict[NodeName, int] = field(default_factory=dict)
    queued_s: float = float("inf")  # the earliest time for which the book looks at it anyhow


class ClaimBook:
    """The claims that one arbiter decides on. ``start_s``: see `ColdStartSettings.claim_start_s`.

    Each method returns who is to be told what. Who asked and is not told anything waits.
    """

    def __init__(self, *, start_s: float) -> None:
        self._start_s = start_s
        self._claims: OrderedDict[ClaimKey, _Claim] = OrderedDict()
        self._tickets: dict[int, ClaimKey] = {}
        self._of_node: dict[NodeName, dict[int, None]] = {}
        self._due: list[tuple[float, int, ClaimKey]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        """How many contents it knows of."""
        return len(self._claims)

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return len(self._tickets)

    @property
    def next_s(self) -> float | None:
        """When to call `expire` next. None: there is nothing to wait for."""
        return self._due[0][0] if self._due else None

    def holder(self, key: ClaimKey) -> NodeName | None:
        """Who has the claim, or fetched it a moment ago."""
        claim = self._claims.get(key)
        return None if claim is None else claim.holder

    def is_queued(self, key: ClaimKey, now_s: float) -> bool:
        """Whether the node that has the claim said a moment ago that its containerd is busy with others."""
        claim = self._claims.get(key)
        return claim is not None and not claim.started and now_s < claim.waits_s + LEASE_S

    def decided(self) -> Iterator[Decided]:
        """The claims of now, the youngest first."""
        for key, claim in reversed(self._claims.items()):
            complete = claim.complete_until_s is not None
            yield Decided(key, claim.holder, claim.available_bytes, complete, len(claim.waiters))

    def asked(self, key: ClaimKey) -> tuple[NodeName, ...]:
        """The nodes that asked since somebody has the claim, in the order of their first question."""
        claim = self._claims.get(key)
        return () if claim is None else (*claim.arrived,)

    def ask(self, ask: Ask, ticket: int, now_s: float) -> tuple[Told, ...]:
        """A node asks. ``ticket``: a number of its own for each question."""
        return (*self.expire(now_s), *self._ask(ask, ticket, now_s))

    def _ask(self, ask: Ask, ticket: int, now_s: float) -> tuple[Told, ...]:
        claim = self._claims.get(ask.key)
        complete = claim is not None and claim.complete_until_s is not None
        if claim is not None and complete and claim.holder in (ask.despite, ask.node):
            self._drop(ask.key)  # if it is the holder itself that asks, its store has lost it again
            claim = None
        if claim is None:
            return self._ask_first(ask, ticket, now_s)
        self._arrive(claim, ask.node)
        if claim.holder == ask.node:
            return (Told(ticket, Granted()),)
        if ask.despite != claim.holder and (held := _held(claim, ask)) is not None:
            return (Told(ticket, held),)
        told = self._make_room(claim, ask.node)
        claim.waiters[ticket] = _Waiter(ticket, ask)
        self._tickets[ticket] = ask.key
        self._of_node.setdefault(ask.node, {})[ticket] = None
        if ask.despite == claim.holder and ask.takes:
            claim.complained.setdefault(ask.node, now_s)
            self._queue(ask.key, claim)
        return told

    def hear(self, news: News, node: NodeName, now_s: float) -> tuple[bool, tuple[Told, ...]]:
        """A node says what became of its claim. Returns also whether it has it still."""
        match news:
            case Renewed():
                return self.renewed(news.key, node, news.available_bytes, now_s, queued=news.queued)
            case Completed():
                return True, self.completed(news.key, node, now_s)
            case GivenUp():
                return False, self.given_up(news.key, node, now_s, failed=news.failed)
            case _:
                assert_never(news)

    def renewed(
        self, key: ClaimKey, node: NodeName, available_bytes: int, now_s: float, *, queued: bool = False
    ) -> tuple[bool, tuple[Told, ...]]:
        """A node fetches a content, and has so much of it. Returns also whether it has the claim.

        ``queued``: see `Renewed`.

        A book that knows of no claim takes it as one: its arbiter was another one until now.
        """
        claim = self._claims.get(key)
        told: tuple[Told, ...] = ()
        if claim is None:
            told = self._grant(key, node, now_s)
            claim = self._claims[key]
        if claim.holder != node and node in claim.late and available_bytes and not claim.started:
            claim.late.discard(node)  # it is ahead of the one whose turn it is now
            claim.complained.clear()
            claim.holder, claim.available_bytes = node, 0
        if claim.holder != node:
            return False, told
        if claim.complete_until_s is not None:
            return True, told
        claim.lease_s = now_s + LEASE_S
        if queued and not claim.started and now_s < claim.queue_ends_s:
            claim.grew_s = claim.waits_s = now_s
        if available_bytes > claim.available_bytes:
            claim.available_bytes, claim.grew_s, claim.started = available_bytes, now_s, True
            told = (*told, *self._serve(claim))
        self._queue(key, claim)
        return True, told

    def completed(self, key: ClaimKey, node: NodeName, now_s: float) -> tuple[Told, ...]:
        """A node's store has the content."""
        claim = self._claims.get(key)
        told: tuple[Told, ...] = ()
        if claim is None:
            told = self._grant(key, node, now_s)
            claim = self._claims[key]
        if claim.holder != node and node not in claim.barred:
            return told  # whoever had the claim before and is complete first is as good a source
        claim.holder, claim.complete_until_s = node, now_s + DONE_S
        told = (*told, *self._serve(claim))
        self._queue(key, claim)
        return told

    def given_up(self, key: ClaimKey, node: NodeName, now_s: float, *, failed: bool) -> tuple[Told, ...]:
        """A node neither fetches nor waits any more. ``failed``: a registry refused it: others come first."""
        claim = self._claims.get(key)
        if claim is None:
            return ()
        own = [ticket for ticket, waiter in claim.waiters.items() if waiter.ask.node == node]
        told = self._tell(claim, own, Free()) if own else ()
        if claim.holder != node or claim.complete_until_s is not None:
            return told
        return (*told, *self._lose(key, claim, now_s, bar=failed))

    def left(self, ticket: int) -> None:
        """Whoever asked under this number does not wait any more."""
        key = self._tickets.get(ticket)
        if key is not None:
            self._remove_waiter(self._claims[key], ticket)

    def gone(self, node: NodeName, now_s: float) -> None:
        """A node's connection ended. If it does not renew its claims within a moment, they are lost."""
        for key, claim in self._claims.items():
            if claim.holder == node and claim.complete_until_s is None:
                claim.lease_s = min(claim.lease_s, now_s + TENTATIVE_S)
                self._queue(key, claim)

    def expire(self, now_s: float) -> tuple[Told, ...]:
        """End the claims whose time is over."""
        told: list[Told] = []
        while self._due and self._due[0][0] <= now_s:
            _, _, key = heapq.heappop(self._due)
            claim = self._claims.get(key)
            if claim is None:
                continue
            claim.queued_s = float("inf")
            if self._due_s(claim) > now_s:
                self._queue(key, claim)
            elif claim.complete_until_s is not None:
                told += self._drop(key)
            else:
                told += self._lose(key, claim, now_s, bar=True)
        return tuple(told)

    def _ask_first(self, ask: Ask, ticket: int, now_s: float) -> tuple[Told, ...]:
        if ask.hearsay is not None and ask.hearsay not in (ask.node, ask.despite):
            told = self._grant(ask.key, ask.hearsay, now_s)
            self._claims[ask.key].lease_s = now_s + TENTATIVE_S
            self._queue(ask.key, self._claims[ask.key])
            return (*told, *self._ask(ask, ticket, now_s))
        if not ask.takes:
            return (Told(ticket, Free()),)
        return (*self._grant(ask.key, ask.node, now_s), Told(ticket, Granted()))

    def _grant(self, key: ClaimKey, node: NodeName, now_s: float) -> tuple[Told, ...]:
        """A first claim on a content. Tells those who wait for one that is forgotten for it."""
        told: tuple[Told, ...] = ()
        if len(self._claims) >= KEYS_MAX:
            told = self._drop(next(iter(self._claims)))
        claim = self._claims[key] = _Claim(
            node, now_s + LEASE_S, now_s, now_s + _QUEUE_STARTS * self._start_s
        )
        self._arrive(claim, node)
        self._queue(key, claim)
        return told

    def _arrive(self, claim: _Claim, node: NodeName) -> None:
        if node not in claim.arrived and len(claim.arrived) < WAITERS_MAX:
            self._arrivals += 1
            claim.arrived[node] = self._arrivals

    def _make_room(self, claim: _Claim, node: NodeName) -> tuple[Told, ...]:
        told: tuple[Told, ...] = ()
        if len(claim.waiters) >= WAITERS_MAX:
            told = self._tell(claim, [next(iter(claim.waiters))], Free())
        of_node = self._of_node.get(node, {})
        if len(of_node) >= OF_NODE_MAX:
            oldest = next(iter(of_node))
            told = (*told, *self._tell(self._claims[self._tickets[oldest]], [oldest], Free()))
        return told

    def _serve(self, claim: _Claim) -> tuple[Told, ...]:
        """Tell those for whom the claim's node has enough now."""
        told: list[Told] = []
        for waiter in [*claim.waiters.values()]:
            if waiter.ask.despite == claim.holder and claim.complete_until_s is None:
                continue
            if (held := _held(claim, waiter.ask)) is not None:
                told += self._tell(claim, [waiter.ticket], held)
        return tuple(told)

    def _lose(self, key: ClaimKey, claim: _Claim, now_s: float, *, bar: bool) -> tuple[Told, ...]:
        """The claim's node has lost it: the next one gets it."""
        if bar:
            claim.barred[claim.holder] = now_s + BARRED_S
            if len(claim.barred) > _BARRED_MAX:
                del claim.barred[next(iter(claim.barred))]
            claim.late = claim.late & claim.barred.keys() | ({claim.holder} if not claim.started else set())
        takers = [waiter for waiter in claim.waiters.values() if waiter.ask.takes]
        turns = [waiter for waiter in takers if claim.barred.get(waiter.ask.node, now_s) <= now_s]
        if not (turns or takers):
            return self._drop(key)
        chosen = min(turns or takers, key=lambda waiter: _turn(claim, waiter))
        claim.holder, claim.lease_s = chosen.ask.node, now_s + LEASE_S
        claim.grew_s = now_s
        claim.available_bytes, claim.started = 0, False
        claim.queue_ends_s, claim.waits_s = now_s + _QUEUE_STARTS * self._start_s, float("-inf")
        claim.complained.clear()
        self._queue(key, claim)
        own = [ticket for ticket, waiter in claim.waiters.items() if waiter.ask.node == chosen.ask.node]
        return self._tell(claim, own, Granted())

    def _drop(self, key: ClaimKey) -> tuple[Told, ...]:
        """Forget a content."""
        claim = self._claims[key]
        told = self._tell(claim, [*claim.waiters], Free())
        del self._claims[key]
        return told

    def _tell(self, claim: _Claim, tickets: Iterable[int], verdict: Verdict) -> tuple[Told, ...]:
        told = tuple(Told(ticket, verdict) for ticket in tickets)
        for each in told:
            self._remove_waiter(claim, each.ticket)
        return told

    def _remove_waiter(self, claim: _Claim, ticket: int) -> None:
        node = claim.waiters.pop(ticket).ask.node
        del self._tickets[ticket]
        of_node = self._of_node[node]
        del of_node[ticket]
        if not of_node:
            del self._of_node[node]

    def _due_s(self, claim: _Claim) -> float:
        """When the claim ends, if nothing happens."""
        if claim.complete_until_s is not None:
            return claim.complete_until_s
        patience_s = self._start_s * (STALL_FACTOR if claim.started else 1.0)
        complaints_s = (
            claim.complained[waiter.ask.node] + self._start_s
            for waiter in claim.waiters.values()
            if waiter.ask.despite == claim.holder and waiter.ask.node in claim.complained
        )
        return min(claim.lease_s, claim.grew_s + patience_s, *complaints_s)

    def _queue(self, key: ClaimKey, claim: _Claim) -> None:
        """Look at the claim when its time may be over. A time that moved on is found then."""
        due_s = self._due_s(claim)
        if due_s < claim.queued_s:
            claim.queued_s = due_s
            self._arrivals += 1
            heapq.heappush(self._due, (due_s, self._arrivals, key))


def _held(claim: _Claim, ask: Ask) -> Held | None:
    """What to tell who asks about a claim of another node. None: there is nothing for it yet."""
    complete = claim.complete_until_s is not None
    if complete or claim.available_bytes > ask.beyond_bytes:
        return Held((claim.holder,), claim.available_bytes, complete)
    return None


def _turn(claim: _Claim, waiter: _Waiter) -> tuple[int, int]:
    """Whoever has most of it already comes first, then whoever asked first."""
    return -waiter.ask.beyond_bytes, claim.arrived.get(waiter.ask.node, 1 << 62)


def arbiters(key: ClaimKey, members: Iterable[NodeName], *, most: int = 3) -> tuple[NodeName, ...]:
    """The nodes that may decide on a content, in order: the same on all nodes (rendezvous hash)."""
    subject = f"{key.digest}\0{key.realm}\0".encode()

    def weight(node: NodeName) -> bytes:
        return hashlib.blake2b(subject + node.encode(), digest_size=8).digest()

    return tuple(heapq.nsmallest(most, members, key=weight))
