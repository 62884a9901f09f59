"""What holds for all pulls of this node: their limits, the peers that they may try, what a command means.

`agent.pull.machine` decides a single pull. This module decides what pulls have in common. The executor,
`/api/explain` and simulations ask it, and have no rules of their own. Pure. Times are seconds of one
monotonic clock.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from agent.config.settings import ColdStartSettings, PullSettings, TransferSettings
from agent.oci.digest import Digest
from agent.oci.ranges import RangeSpec
from agent.pull.absence import ago
from agent.pull.events import (
    Avoid,
    Commend,
    Failure,
    Limits,
    Neighbours,
    PeerFinding,
    Progressed,
    Relieve,
    Shun,
)
from agent.pull.fanout import LEAST_BYTES
from agent.pull.meter import Meter, Rate
from agent.pull.pace import Pace
from agent.pull.regard import Regard
from agent.pull.striping import Striping
from agent.pull.trust import Distrust
from topology.placement import NodeName, Tier
from topology.ranking import Condition, Ranked, rank
from topology.snapshot import Snapshot

SHUN_COOLOFFS = 4
"""A peer that gave a bad body of a digest is not asked for that digest for this many of its cool-offs.

One cool-off is too short: a kubelet tries again after 10 s, and should then get another peer.
"""

_OWN_TROUBLE_S = 5.0  # for so long a failure of this node explains why it knows of no holder
_UNKNOWN_BYTES_PER_S = 10e6  # assumed for a tier without measured rates: less than any link between servers
_RESUME_S = 0.5  # for a client that has a part already: perhaps a holder was too busy to answer the look-up
_CHUNK_S = 2.0  # for a part of a blob: an agent that restarts is back by then; else the blob is handed over
_BORDER_WAIT_S = 2.0  # a registry's first byte takes half of that; another zone has the content meanwhile
_BUSY_WAIT_S = 1.0  # for a busy peer that does not say how long
_BUSY_WAIT_LEAST_S = 0.05  # a peer that says 0 must not be asked in a loop
_BUSY_WAIT_MOST_S = 60.0  # a peer that says a day must not be the last choice for a day
_BUSY_WAIT_SPREAD = 1.3  # spreads the retries of pulls that were refused at the same moment
_NO_FAILURES = (Failure.WITHHELD, Failure.SHARED)  # the peer is well, and answers

_NOTHING: Mapping[NodeName, int] = {}
_CANDIDATES_FACTOR = 3  # times attempts_max: nearest holders, those of a second look-up, and repetitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What one pull sent to this node's containerd: bytes ``start`` to ``stop`` of a blob.

    ``given_bytes``: how many bytes the client was sent from each peer. ``origins``: the first node that they
    came through, of each peer that was still fetching them. ``failed``: the peers that failed in this pull.
    ``verified``: this agent verified the bytes. ``taken``: the client was sent all that it asked
    for. ``began_s``: when it asked. ``received``: whether the store's owner was writing the blob then; None:
    that can't be seen.
    """

    start: int
    stop: int
    size_bytes: int
    given_bytes: Mapping[NodeName, int]
    failed: Set[NodeName]
    verified: bool
    taken: bool
    began_s: float
    received: bool | None = None
    origins: Mapping[NodeName, NodeName] = field(default_factory=dict)


class Arriving(Protocol):
    """A node that is still fetching a content."""

    @property
    def node(self) -> NodeName:
        """Its name."""
        ...

    @property
    def available_bytes(self) -> int:
        """How many bytes it can give, from the first one on."""
        ...

    @property
    def percent(self) -> int:
        """How much of it there is: 0 to 100."""
        ...


class Policy:
    """One node's policy. ``chance``: returns a random number between two limits; it spreads retries."""

    def __init__(
        self,
        *,
        regard: Regard,
        pace: Pace,
        pull: PullSettings,
        transfer: TransferSettings,
        chance: Callable[[float, float], float],
    ) -> None:
        self.regard = regard
        self.pace = pace
        self.striping = Striping()
        self._pull = pull
        self._transfer = transfer
        self._chance = chance

    def limits(
        self,
        *,
        in_chunks: bool,
        resumes: bool,
        claims: ColdStartSettings | None = None,
        size_bytes: int | None = None,
    ) -> Limits:
        """The limits of one pull.

        ``in_chunks``: the client fetches the blob in parts, and gives it up if this part fails.
        ``resumes``: the client has the beginning of the blob already. ``claims``: None: it asks for none.
        ``size_bytes``: of the content, if it is known. A small one crosses zones as often as it is wanted.
        """
        pull = self._pull
        stubborn_s = _CHUNK_S if in_chunks else _RESUME_S
        crosses_once = claims is not None and not resumes and (size_bytes or 0) >= LEAST_BYTES
        return Limits(
            patience_s=pull.patience_s,
            deadline_s=pull.deadline_s,
            attempts_max=pull.attempts_max,
            stall_s=pull.stall_s,
            floor_bytes_per_s=pull.floor_bytes_per_s,
            floor_ratio=pull.floor_ratio,
            hedge_s=self.pace.hedge_s(),
            stripe_min_bytes=self._transfer.stripe_min_bytes,
            stubborn_s=stubborn_s if resumes else 0.0,
            stubborn_begun_s=_CHUNK_S if in_chunks else 0.0,
            claim_wait_s=0.0 if claims is None else claims.claim_wait_s,
            claim_look_s=pull.deadline_s if claims is None else claims.claim_start_s,
            border_wait_s=_BORDER_WAIT_S if crosses_once else 0.0,
        )

    def candidates(
        self,
        digest: Digest,
        holders: Iterable[NodeName],
        snapshot: Snapshot,
        now_s: float,
        *,
        in_flight: Mapping[NodeName, int] = _NOTHING,
        zone_as_one: bool = False,
    ) -> tuple[Ranked, ...]:
        """The holders that a pull of this digest may try, in the order in which it tries them.

        ``in_flight``, ``zone_as_one``: see `ranked`.
        """
        limit = _CANDIDATES_FACTOR * self._pull.attempts_max
        return self.ranked(
            digest, holders, snapshot, now_s, in_flight=in_flight, zone_as_one=zone_as_one, limit=limit
        )

    def ranked(
        self,
        digest: Digest,
        holders: Iterable[NodeName],
        snapshot: Snapshot,
        now_s: float,
        *,
        in_flight: Mapping[NodeName, int] = _NOTHING,
        zone_as_one: bool = False,
        limit: int | None = None,
    ) -> tuple[Ranked, ...]:
        """The first ``limit`` of the holders that a pull of this digest may try, in order; None: all.

        ``in_flight``: further ones that are still fetching it, and how much of it each has, in per cent. A
        suspect is none of them: nobody has verified what it gets now, and it would spoil each retry.
        ``zone_as_one``: see `topology.ranking.rank`.
        """
        distrust = self.regard.trust.reasons(digest, now_s)
        out = {node for node, reason in distrust.items() if reason.is_out}
        nodes = [node for node in holders if node not in out] if out else [*holders]
        if in_flight:
            nodes += [node for node in in_flight if node not in distrust]
        if not nodes:
            return ()  # most look-ups of a rare image end here
        conditions = self.regard.conditions(now_s, nodes)
        for node in distrust.keys() - out:
            conditions[node] = conditions.get(node, Condition())._replace(doubted=True)
        for node, percent in in_flight.items():
            conditions[node] = conditions.get(node, Condition())._replace(in_flight=percent)
        return rank(
            nodes, snapshot, digest=digest, conditions=conditions, limit=limit, zone_as_one=zone_as_one
        )

    def found(
        self,
        digest: Digest,
        nodes: Iterable[NodeName],
        arriving: Iterable[Arriving],
        snapshot: Snapshot,
        now_s: float,
        *,
        position: int,
        size_bytes: int | None,
        follows: bool,
    ) -> tuple[Ranked, ...]:
        """Whom of those that a look-up found a pull may try, in order.

        ``nodes``: have all of it. ``arriving``: are still fetching it; one that is not ahead of ``position``,
        the byte that is needed next, may wait for what this node has, and would be asked in vain.
        ``size_bytes``: of the content, if it is known. ``follows``: the pull takes what still arrives, too.
        """
        in_flight = {each.node: each.percent for each in arriving if each.available_bytes > position}
        return self.candidates(
            digest,
            nodes,
            snapshot,
            now_s,
            in_flight=in_flight if follows else _NOTHING,
            zone_as_one=follows and (size_bytes or 0) >= LEAST_BYTES,
        )

    def neighbours(
        self, nodes: Iterable[NodeName], arriving: Iterable[Arriving], number: int | None, snapshot: Snapshot
    ) -> Neighbours:
        """How far the own zone is. ``nodes``: have all of it. ``number``: so many of the zone are still
        fetching it; None: those of the zone in ``arriving``.
        """
        complete = sum(1 for node in nodes if snapshot.tier(node) <= Tier.ZONE)
        if number is None:
            number = sum(1 for each in arriving if snapshot.tier(each.node) <= Tier.ZONE)
        return Neighbours(complete, number)

    def claimed(
        self, digest: Digest, sources: Sequence[NodeName], snapshot: Snapshot, now_s: float, *, complete: bool
    ) -> tuple[Ranked, ...]:
        """Whom of those that fetch it a pull may try, in the order in which they were named.

        ``complete``: they have all of it.
        """
        whole, arriving = (sources, ()) if complete else ((), sources)
        ranked = self.candidates(digest, whole, snapshot, now_s, in_flight=dict.fromkeys(arriving, 0))
        return tuple(sorted(ranked, key=lambda holder: sources.index(holder.node)))

    def told_of(
        self, digest: Digest, nodes: Iterable[NodeName], holder: Ranked, snapshot: Snapshot, now_s: float
    ) -> tuple[Ranked, ...]:
        """The nodes that a holder said to ask instead, in the order in which to ask them.

        Only members, never this node, and none that is farther than the holder unless it is in this node's
        zone. They are taken to be still fetching the content.
        """
        own_zone = snapshot.zone_of(snapshot.own)
        near = {
            node: 0
            for node in nodes
            if node not in (snapshot.own, holder.node)
            and (standing := snapshot.standings.get(node)) is not None
            and (standing.tier <= holder.tier or snapshot.zone_of(node) == own_zone)
        }
        return self.candidates(digest, (), snapshot, now_s, in_flight=near)

    def passed_over(self, digest: Digest, now_s: float) -> Set[NodeName]:
        """The peers that no pull of this digest may try now."""
        return self.passed_over_reasons(digest, now_s).keys()

    def passed_over_reasons(
        self, digest: Digest, now_s: float, *, arriving: Collection[NodeName] = ()
    ) -> Mapping[NodeName, Distrust]:
        """The peers that no pull of this digest may try now, and why.

        ``arriving``: they are still fetching it. A suspect of these is not tried either, see `ranked`.
        """
        reasons = self.regard.trust.reasons(digest, now_s)
        return {node: reason for node, reason in reasons.items() if reason.is_out or node in arriving}

    def unasked(self, now_s: float, digest: Digest | None = None) -> dict[NodeName, str]:
        """The peers that are not asked now, or not in full, and why in words.

        ``digest``: names also the peers that are not trusted with it.
        """
        reasons = {node: self.why_cooling(node, now_s) for node in self.regard.cooling(now_s)}
        if digest is not None:
            passed_over = self.passed_over_reasons(digest, now_s)
            reasons |= {node: reason.value for node, reason in passed_over.items()}
        return reasons

    def own_trouble(self, now_s: float) -> str:
        """Why this node could not ask peers a moment ago, in words. Empty if it could."""
        failure = self.regard.own_failure
        if failure is None or now_s - failure.at_s > _OWN_TROUBLE_S:
            return ""
        return ago(failure.words, now_s - failure.at_s)

    def why_cooling(self, node: NodeName, now_s: float) -> str:
        """Why a peer cools off, in words, and since when."""
        failure = self.regard.failure(node)
        if failure is None:
            return "it failed"
        since = ", and has answered since" if self.regard.answered_since(node) else ""
        return f"{ago(failure.words, now_s - failure.at_s)}{since}"

    def apply(self, finding: PeerFinding, digest: Digest, now_s: float) -> None:
        """Do what a pull's finding about a peer means for all pulls."""
        regard, node = self.regard, finding.node
        match finding:
            case Avoid():
                regard.failed(node, now_s)
            case Commend():
                regard.served(node, now_s)
                regard.trust.served(node)
            case Shun():
                until_s = now_s + SHUN_COOLOFFS * regard.cooloff_of_failure_s(node, now_s)
                regard.trust.distrust(digest, node, until_s)
            case Relieve():
                regard.saturated(node, finding.wait_s, now_s)
            case _:
                assert_never(finding)

    def attempt_failed(self, node: NodeName, failure: Failure, words: str, now_s: float) -> None:
        """Remember how a fetch from the peer failed. The pulls' findings say what follows: see `apply`."""
        if failure.is_own:
            self.regard.could_not_ask(words, now_s)
            return
        if failure is Failure.STARVED:
            return  # the peer may wait for its own source, or be dead
        if failure in _NO_FAILURES:
            self.regard.heard(node, now_s)
        elif failure.is_answer:
            self.regard.refused(node, words, now_s)
        else:
            self.regard.noted(node, words, now_s, silent=failure.is_silence)

    def busy_wait_s(self, failure: Failure, told_s: float | None) -> float:
        """How long to wait before asking a busy peer again. 0 if this failure is another one.

        ``told_s``: how long the peer said to wait. None: it did not say.
        """
        if failure is not Failure.BUSY:
            return 0.0
        wait_s = _BUSY_WAIT_S if told_s is None else told_s
        bounded_s = min(max(wait_s, _BUSY_WAIT_LEAST_S), _BUSY_WAIT_MOST_S)
        return bounded_s * self._chance(1.0, _BUSY_WAIT_SPREAD)

    def progressed(
        self, tier: Tier, rate: Rate, *, left_bytes: int, pulls: int, lanes_max: int, in_chunks: bool
    ) -> Progressed:
        """The event that reports a body's progress. ``pulls``: how many run on this node now."""
        tier_bytes_per_s = self.pace.median_bytes_per_s(tier) or _UNKNOWN_BYTES_PER_S
        return Progressed(
            left_bytes=left_bytes,
            rate=rate,
            # The pulls share this node's link. That is not the peer's fault.
            expected_bytes_per_s=tier_bytes_per_s / max(1, pulls),
            # A client that fetches in chunks leaves at the end of each. What was fetched ahead would be lost.
            lanes_max=1 if in_chunks else lanes_max,
        )

    def first_byte(self, tier: Tier, took_s: float, *, manifest: bool) -> None:
        """A peer answered. ``took_s``: how long its first byte took, or the whole body of a manifest."""
        if not manifest:  # it was received and verified whole, which takes longer than a first byte
            self.pace.first_byte(tier, took_s)

    def no_first_byte(self, tier: Tier, waited_s: float, *, client_left: bool) -> None:
        """An attempt was abandoned before its first byte: another was faster, it stalled, or the client left.

        A client may leave at any moment, which says nothing about the peer. Otherwise the peer would have
        taken at least this long. If this did not count, slow peers would look as fast as those that win.
        """
        if not client_left:
            self.pace.first_byte(tier, waited_s)

    def measured(self, tier: Tier, meter: Meter, *, took_s: float) -> None:
        """A body ended. ``took_s``: how long it took, without the time spent waiting for its reader."""
        if 2 * meter.waited_s >= took_s:  # otherwise the reader's rate would be measured
            self.pace.body(tier, meter.moved_bytes, took_s)

    def requested(self, digest: Digest, range_spec: RangeSpec | None, now_s: float) -> Set[NodeName]:
        """This node's containerd requests a blob. Returns the peers that became suspect.

        If containerd was sent all of the blob before, that blob was bad. A request that does not begin at
        the blob's start says nothing: it resumes an incomplete blob.
        """
        if range_spec is not None and range_spec.first != 0:
            return frozenset()
        return self.regard.trust.requested_again(digest, now_s)

    def redirected(
        self, digest: Digest, node: NodeName, *, size_bytes: int, received: bool | None, now_s: float
    ) -> None:
        """This node's containerd was redirected to a peer for a blob of this size."""
        self.regard.trust.redirected(digest, node, size_bytes=size_bytes, received=received, now_s=now_s)

    def delivered(self, digest: Digest, delivery: Delivery, now_s: float) -> None:
        """This node's containerd was sent a part of a blob, or all of it."""
        self.regard.trust.delivered(
            digest,
            () if delivery.verified else self.responsible_sources(delivery.given_bytes, delivery.failed),
            origins=delivery.origins,
            start=delivery.start,
            stop=delivery.stop,
            size_bytes=delivery.size_bytes,
            taken=delivery.taken,
            began_s=delivery.began_s,
            received=delivery.received,
            now_s=now_s,
        )

    def committed(self, digest: Digest, now_s: float) -> None:
        """This node's store has the blob now, so its sources gave the right bytes."""
        self.regard.trust.committed(digest, now_s)

    def store_unwell(self, now_s: float) -> None:
        """This node's store may have lost what it was sent until now."""
        self.regard.trust.store_unwell(now_s)

    @property
    def pending_bytes(self) -> int:
        """The size of what containerd was sent and did not commit yet."""
        return self.regard.trust.pending_bytes

    def suspect_overdue(
        self,
        now_s: float,
        *,
        holds: Callable[[Digest], bool],
        receiving: Callable[[Digest], bool | None],
    ) -> Mapping[Digest, Set[NodeName]]:
        """See `Trust.suspect_overdue`."""
        return self.regard.trust.suspect_overdue(now_s, holds=holds, receiving=receiving)

    def checked(self, digest: Digest, node: NodeName, *, right: bool, now_s: float) -> None:
        """This agent fetched the whole content from a suspect and hashed it."""
        self.regard.trust.checked(digest, node, right=right, now_s=now_s)

    def responsible_sources(
        self, given_bytes: Mapping[NodeName, int], failed: Set[NodeName]
    ) -> Set[NodeName]:
        """The peers to suspect if the body turns out wrong: those that failed, else all that gave bytes."""
        return (given_bytes.keys() & failed) or given_bytes.keys()
