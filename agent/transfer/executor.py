"""Executes one pull: starts the attempts that the state machine commands, and delivers the chosen body.

The results go to the machine as events. Nothing is decided here: see `agent.pull.machine` and
`agent.pull.policy`.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, assert_never

from agent.documents.index import IndexSource
from agent.holders.claims import Held
from agent.holders.clusterclaims import Claims
from agent.holders.index import HolderIndex, Holders
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.observe.steps import Outcome, Step, StepKind, Steps, held_words
from agent.oci.digest import Digest
from agent.oci.ranges import RangeSpec
from agent.oci.reference import Kind
from agent.pull.absence import is_fault, nobody_gave_it, without
from agent.pull.bucket import TokenBucket
from agent.pull.events import (
    Abandon,
    AskClaim,
    Avoid,
    Broke,
    ClientGone,
    Commands,
    Commend,
    Completed,
    Cut,
    Deliver,
    Event,
    Fetch,
    Forget,
    Found,
    Gathered,
    GiveUp,
    LaneFailed,
    Limits,
    Lookup,
    NotFound,
    Relieve,
    Shun,
    Stripe,
    Ticked,
    WakeAt,
)
from agent.pull.fanout import LEAST_BYTES
from agent.pull.following import as_follower, is_in_flight, stall_s
from agent.pull.lateness import CATCH_UP_S, held_up
from agent.pull.lineages import Lineages
from agent.pull.machine import Pull
from agent.pull.meter import Meter, Rate
from agent.pull.policy import Delivery, Policy
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.attempts import Attempts, Crashed, log_failure
from agent.transfer.checks import Checks
from agent.transfer.commits import Commits
from agent.transfer.given import Given
from agent.transfer.patience import not_silent_for
from agent.transfer.peers import PeerBody, PeerClient, fetch_from
from agent.transfer.relays import Relays
from agent.transfer.sink import ClientSink
from agent.transfer.striper import StripeBuffers, Striper
from agent.transfer.turns import OwnTurn
from topology.placement import NodeName, Tier
from topology.ranking import Ranked
from topology.snapshot import Snapshot


class NobodyHasIt(Exception):
    """No peer can serve the content now. ``unsatisfiable_bytes``: its size, if no byte is in the range.

    ``fault``: a peer may have it all the same; see `is_fault`.
    """

    def __init__(self, why: str, unsatisfiable_bytes: int | None = None, *, fault: bool = False) -> None:
        super().__init__(why)
        self.fault = fault
        self.unsatisfiable_bytes = unsatisfiable_bytes


class BodyCut(Exception):
    """A body can't be completed: cut the response, so that the client resumes."""


class Pieces(Protocol):
    """A client that may leave before the end of the body. So the body is fetched piece by piece.

    Positions are bytes of the content.
    """

    @property
    def in_chunks(self) -> bool:
        """Whether the client leaves before the end, as far as it is known."""
        ...

    def piece_stop(self, position: int) -> int | None:
        """The end of the piece that begins at this byte. None: the end of the content."""
        ...

    def is_chunk_end(self, position: int) -> bool:
        """Whether the client wanted the bytes up to this one and no more."""
        ...

    def pause_s(self, position: int) -> float:
        """How long to wait for the client to leave, before more is fetched for it."""
        ...

    def stayed(self, position: int) -> None:
        """The client was sent the bytes up to this one, and did not leave within the pause."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Puller:
    """What every pull needs. `pull` makes one. ``running``: the pulls that run now.

    ``follows``: whether this node's containerd is sent what other nodes are still fetching themselves.
    ``lineages``: is told from whom it comes.
    ``claimant``: asks whose turn it is to fetch what nobody has; None: nobody is asked.
    ``fetching``: is told of each content that begins to arrive here, from a peer or from the registry.
    ``outcast``: whether peers refuse this node, by its own fault: its key, its clock, its certificate.
    """

    index: HolderIndex
    roster: Roster
    policy: Policy
    client: PeerClient
    stall_s: float
    metrics: Metrics
    relays: Relays
    buffers: StripeBuffers
    limit: TokenBucket
    commits: Commits
    checks: Checks
    lineages: Lineages
    follows: bool = False
    claimant: Claims | None = None
    fetching: Callable[[Digest], None] = lambda _: None
    outcast: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    running: set["RunningPull"] = field(default_factory=set)

    def pull(
        self,
        wanted: FetchRequest,
        *,
        committed: bool = False,
        claims: bool = True,
        pieces: Pieces | None = None,
        steps: Steps | None = None,
    ) -> "RunningPull":
        """A pull of ``wanted``. Enter it with ``async with``.

        ``committed``: the client commits whole blobs to this node's store, and so verifies them. ``claims``:
        then it is asked whose turn it is to fetch what nobody has. ``pieces``: how to fetch an open-ended
        range piece by piece. ``steps``: those of the request that it is for; None: nobody is told of them.
        """
        claims = claims and committed
        if steps is None:
            steps = Steps(self.clock)
        return RunningPull(self, wanted, committed=committed, claims=claims, pieces=pieces, steps=steps)

    async def fetch(
        self, holder: Ranked, wanted: FetchRequest, account: Callable[[int], None] | None = None
    ) -> PeerBody:
        """Ask a holder. Raises `AttemptFailed`."""
        return await fetch_from(self.roster, self.client, holder.node, wanted, account)


class Crossing:
    """Fetches for one pull, and counts what came from each holder: ``received_bytes``, by the kernel's count.

    Heads count, and so does what no client was sent.
    """

    def __init__(self, puller: Puller) -> None:
        self._puller = puller
        self.received_bytes: dict[NodeName, tuple[Ranked, int]] = {}

    async def fetch(self, holder: Ranked, wanted: FetchRequest) -> PeerBody:
        """See `Puller.fetch`."""
        return await self._puller.fetch(holder, wanted, partial(self._add, holder))

    def _add(self, holder: Ranked, size_bytes: int) -> None:
        _, before = self.received_bytes.get(holder.node, (holder, 0))
        self.received_bytes[holder.node] = holder, before + size_bytes


class RunningPull:
    """One pull. Use it with ``async with``: leaving ends every attempt that is still open.

    Call `first_bytes`, then `deliver`. Cancelling either ends the pull. ``given``: what the client
    was sent from each peer. ``resumes``: how often another holder went on where one had failed.
    """

    def __init__(
        self,
        puller: Puller,
        wanted: FetchRequest,
        *,
        committed: bool,
        claims: bool,
        pieces: Pieces | None,
        steps: Steps,
    ) -> None:
        self._puller = puller
        self._pieces = pieces
        self._steps = steps
        self._bytes: Step | None = None  # whose bytes are delivered now
        self._lanes: dict[NodeName, Step] = {}  # or from several holders at once
        self._held_before_s = 0.0
        self._policy = puller.policy
        self._committed = committed and not wanted.head
        self._wanted = replace(wanted, follow=True) if puller.follows and self._committed else wanted
        self._events: asyncio.Queue[Event | Crashed] = asyncio.Queue()
        self._crossing = Crossing(puller)
        # None of these refers to this pull. Otherwise its buffers were kept until the garbage collector runs.
        self._attempts = Attempts(
            fetch=self._crossing.fetch,
            report=self._events.put_nowait,
            policy=puller.policy,
            snapshot=partial(_snapshot, puller.roster),
            metrics=puller.metrics,
            clock=puller.clock,
            steps=steps,
        )
        self._turn = self._make_turn() if claims and not wanted.head else None
        self._machine = Pull(limits=self._limits())
        self._wake_at_s = 0.0
        self._outcome: Deliver | NotFound | Cut | None = None  # what the machine decided last
        self._change: Stripe | GiveUp | None = None  # what the machine wants to change in the delivery
        self._leaving = False
        self._began_s = puller.clock()
        self._held_up_s = 0.0  # for how long this node did not run meanwhile
        self._received: bool | None = None  # whether this node's containerd is writing the blob
        self._verified = False  # this agent verified the body
        self._bytes_per_s = 1.0  # the recent rate of the holder that delivers
        self._reason = ""
        self._begins = 0  # where in the content the body begins
        self._size_bytes = 0
        self.length = 0
        self.offset = 0  # how many bytes of the body the client was sent
        self._sent_before = 0  # what the sink had sent before this pull delivered
        self.resumes = 0
        self.given = Given(wanted.target.digest, lineages=puller.lineages, metrics=puller.metrics)

    def _make_turn(self) -> OwnTurn | None:
        """Only for this node's own containerd, which everybody can take the content from in turn."""
        puller = self._puller
        if puller.claimant is None:
            return None
        return OwnTurn(
            puller.claimant,
            self._wanted.target,
            attempts=self._attempts,
            rank=partial(_rank_claimed, puller, self._wanted.target.digest),
            report=self._events.put_nowait,
            steps=self._steps,
        )

    def _limits(self) -> Limits:
        spec, turn, claimant = self._wanted.range_spec, self._turn, self._puller.claimant
        # Who fetches it from the registry, and asks here first for the rest, is not kept waiting.
        begun = turn is not None and turn.begun and not self._wanted.chunk
        resumes = spec is not None and bool(spec.first) and not begun
        claims = None if turn is None or claimant is None else claimant.settings
        return self._policy.limits(
            in_chunks=self._wanted.chunk,
            resumes=resumes,
            claims=claims,
            size_bytes=self._wanted.size_bytes,
        )

    @property
    def received_bytes(self) -> Mapping[NodeName, tuple[Ranked, int]]:
        """How many bytes came from each holder, by the kernel's count. Complete once the pull was left."""
        return self._crossing.received_bytes

    @property
    def digest(self) -> Digest:
        """The digest of the content that is pulled."""
        return self._wanted.target.digest

    @property
    def holder(self) -> Ranked | None:
        """The holder that gives the body now. None while none does."""
        return self._outcome.holder if isinstance(self._outcome, Deliver) else None

    async def __aenter__(self) -> "RunningPull":
        self._puller.running.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._puller.running.discard(self)
        self._leaving = True
        self._tell(ClientGone())
        self._end_bytes(Outcome.LEFT)
        if self._turn is not None:
            self._turn.close()
        if self._committed:
            self._record_sources()
        await self._attempts.close()  # last: if the caller is cancelled, nothing after this may run

    def _record_sources(self) -> None:
        """Tell the policy which peers gave the bytes that containerd is about to verify and commit."""
        delivery = Delivery(
            start=self._begins,
            stop=self._begins + self.offset,
            size_bytes=self._size_bytes,
            given_bytes=self.given.sizes,
            origins=self.given.origins,
            failed=self._machine.failed,
            verified=self._verified,
            taken=self.offset == self.length or self._has_chunk,
            began_s=self._began_s,
            received=self._received,
        )
        self._puller.checks.remember(self._wanted.target)
        self._policy.delivered(self.digest, delivery, self._puller.clock())

    async def first_bytes(self) -> tuple[Ranked, PeerBody]:
        """The holder that answers, and its body with the first bytes. Raises `NobodyHasIt`."""
        puller = self._puller
        if self._committed:
            puller.commits.requested(self.digest, self._wanted.range_spec)
            self._received = puller.commits.receiving(self.digest)
        self._execute(self._machine.start(self._machine_s()))
        chosen, body = await self._next_body()
        self._verified = body.verified
        self._begins, self._size_bytes, self.length = body.start, body.size_bytes, body.length
        if self._pieces is not None:
            self.length = body.size_bytes - body.start
        if body.manifest is not None:
            self._credit(chosen.holder, body.length)
        if self._wanted.head or body.manifest is not None:  # nothing is left to deliver
            self._completed(chosen)
        return chosen.holder, body

    async def deliver(self, sink: ClientSink) -> None:
        """Send the body. If a holder fails, the next one goes on. Call it after `first_bytes`.

        Raises `BodyCut` if the body can't be completed, and `sink.ClientGone`.
        """
        chosen, body = await self._next_body()
        self._sent_before = sink.sent_bytes
        self._begin_bytes(chosen.holder, sink)
        with self._crediting(chosen.holder, sink):
            await sink.begin(body.first)
        while True:
            try:
                await self._move(chosen.holder, body, sink)
                change, self._change = self._change, None
                if isinstance(change, Stripe):
                    useless = await self._stripe(change, chosen.holder, body, sink)
                    if self.offset < self.length:
                        self._tell(Gathered(offset=self.offset, useless=useless))
                        chosen, body = await self._go_on_with_next(sink)
                        continue
                elif isinstance(change, GiveUp):
                    raise AttemptFailed(change.failure, f"{self._bytes_per_s:.0f} bytes/s")
                elif self.offset < self.length:
                    body = await self._next_piece(chosen, sink)
                    continue
            except AttemptFailed as error:
                self._broke(chosen, error)
            else:
                self._end_bytes(why=held_words(sink.held_s - self._held_before_s))
                self._completed(chosen)
                return
            chosen, body = await self._go_on_with_next(sink)
            self.resumes += 1

    async def _go_on_with_next(self, sink: ClientSink) -> tuple[Deliver, PeerBody]:
        chosen, body = await self._next_body()
        self._begin_bytes(chosen.holder, sink)
        with self._crediting(chosen.holder, sink):
            await sink.write(body.first, "memory")
        return chosen, body

    async def _next_piece(self, chosen: Deliver, sink: ClientSink) -> PeerBody:
        """The next piece from the same holder. First waits for a client that is about to leave."""
        assert self._pieces is not None, "a body ended before its end"
        body = self._attempts.body(chosen.attempt)
        body.close()  # the connection can serve another chunk meanwhile
        position = self._begins + self.offset
        if pause_s := self._pieces.pause_s(position):
            await sink.stays(pause_s)
            self._pieces.stayed(position)
        async with not_silent_for(self._puller.stall_s):
            body = await self._attempts.next_piece(chosen.attempt, self._wanted_from(self.offset))
        with self._crediting(chosen.holder, sink):
            await sink.write(body.first, "memory")
        return body

    async def _next_body(self) -> tuple[Deliver, PeerBody]:
        """The attempt that the machine chooses next. Raises `NobodyHasIt`, or `BodyCut` once a body began."""
        while True:
            match self._outcome:
                case Deliver() as chosen:
                    body = self._attempts.body(chosen.attempt)
                    if self._wanted.follow:
                        self.given.comes_from(chosen.holder, body.arrival, self._puller.roster.peers)
                    return chosen, body
                case NotFound(attempts=attempts):
                    if self._committed:
                        self.given.left_to_registry()
                    raise self._nobody(attempts)
                case Cut():
                    if self._committed:
                        self.given.left_to_registry()
                    raise BodyCut(f"{self._reason}; {self.length - self.offset} bytes short")
                case None:
                    if self._steps.open or not self._events.empty():
                        self._tell(await self._next_event())
                    else:
                        await self._wait_for_somebody()

    async def _wait_for_somebody(self) -> None:
        """Nothing is under way: the machine waits for a better moment."""
        step = self._steps.begin(StepKind.WAIT, why=self._machine.waits_for, resume=self._steps.begun)
        event = await self._next_event()
        self._steps.end(step)
        self._tell(event)

    def _begin_bytes(self, holder: Ranked, sink: ClientSink) -> None:
        before_bytes = sink.sent_bytes
        self._held_before_s = sink.held_s
        self._bytes = self._steps.begin(
            StepKind.BYTES,
            holder.node,
            holder.tier,
            resume=self._steps.begun,
            told=lambda: sink.sent_bytes - before_bytes,
        )

    def _end_bytes(self, outcome: Outcome = Outcome.OK, why: str | None = None) -> None:
        if self._bytes is not None:
            self._steps.end(self._bytes, outcome, why=why)
            self._bytes = None

    def _nobody(self, attempts: int) -> NobodyHasIt:
        tried = self._attempts.failures
        now_s = self._puller.clock()
        unasked, own = (
            without(tried, self._policy.unasked(now_s, self.digest)),
            self._policy.own_trouble(now_s),
        )
        words = nobody_gave_it(attempts, tried, unasked, own)
        if self._turn is not None:
            words += self._turn.words
        fault = is_fault(
            faults=self._attempts.faults,
            unasked=len(unasked),
            peers=len(self._puller.roster.peers),
            own=bool(own) or self._puller.outcast(),
        )
        return NobodyHasIt(words, self._attempts.unsatisfiable_bytes, fault=fault)

    async def _move(self, holder: Ranked, body: PeerBody, sink: ClientSink) -> None:
        """Relay the body to its end, or until the machine wants a change."""
        if not body.left_bytes:
            return
        puller = self._puller
        meter, held_s = Meter(puller.clock(), window_s=puller.stall_s), sink.held_s
        rates = puller.relays.move(body, sink, meter, self._stall_s(body))
        with self._crediting(holder, sink):
            async with aclosing(rates):
                async for rate in rates:
                    self._credit(holder, sink.sent_bytes - self._sent_before - self.offset)
                    self._bytes_per_s = rate.bytes_per_s
                    self._progressed(holder, rate)
                    if self._change is not None:
                        break
        if body.arrival is None:  # else its own source was measured
            took_s = puller.clock() - meter.started_s - (sink.held_s - held_s)
            self._policy.measured(holder.tier, meter, took_s=took_s)

    def _stall_s(self, body: PeerBody) -> float:
        """For how long the holder may give nothing."""
        usual_s, arrival = self._puller.stall_s, body.arrival
        return usual_s if arrival is None else stall_s(usual_s, arrival.depth)

    def _progressed(self, holder: Ranked, rate: Rate) -> None:
        puller = self._puller
        while not self._events.empty():  # a look-up may have ended meanwhile
            self._tell(_raised(self._events.get_nowait()))
        rival = self._machine.rival if is_in_flight(holder) else None
        self._tell(
            self._policy.progressed(
                (rival or holder).tier,
                rate,
                left_bytes=self.length - self.offset,
                pulls=len(puller.running),
                lanes_max=self._policy.striping.lanes_max(puller.buffers.free, puller.clock()),
                in_chunks=self._pieces is not None and self._pieces.in_chunks,
            )
        )

    async def _stripe(self, stripe: Stripe, holder: Ranked, body: PeerBody, sink: ClientSink) -> bool:
        """Stripe the body to its end, or until striping does not help. Returns whether it was useless."""
        puller, regard = self._puller, self._policy.regard
        puller.metrics.striped()
        self._end_bytes()
        with ExitStack() as stack:
            stack.enter_context(self._lane_steps((holder, *stripe.holders)))
            for lane in stripe.holders:
                regard.fetching(lane.node, +1)
                stack.callback(regard.fetching, lane.node, -1)
            striper = Striper(
                replace(self._wanted, size_bytes=self._size_bytes),
                self._begins + self.offset,
                self._begins + self.length,
                limits=self._machine.limits,
                striping=self._policy.striping,
                alone_bytes_per_s=max(1.0, self._bytes_per_s),
                share=stack.enter_context(puller.buffers.share()),
                fetch=self._crossing.fetch,
                failed=self._lane_failed,
                credit=self._credit,
                clock=puller.clock,
            )
            return await striper.run(sink, holder, body, stripe.holders)

    @contextmanager
    def _lane_steps(self, holders: tuple[Ranked, ...]) -> Iterator[None]:
        """The steps of the holders that give the body at once."""
        given, why = self.given, f"one of {len(holders)} holders at once"
        for holder in holders:
            before = given.bytes_of(holder.node)
            self._lanes[holder.node] = self._steps.begin(
                StepKind.BYTES,
                holder.node,
                holder.tier,
                why=why,
                told=partial(_since, given, holder.node, before),
            )
        outcome = Outcome.LEFT
        try:
            yield
            outcome = Outcome.OK
        except AttemptFailed:
            outcome = Outcome.FAILED
            raise
        finally:
            for step in self._lanes.values():
                self._steps.end(step, outcome)
            self._lanes.clear()

    def _lane_failed(self, holder: Ranked, error: AttemptFailed, given_bytes: int) -> None:
        lane = self._lanes.get(holder.node)
        if lane is not None:  # its last bytes may still be delivered
            lane.why = f"{error.failure.value}: {error}"
        self._puller.metrics.attempt(error.failure.value)
        log_failure("a holder of several failed", holder, self._wanted, error, offset=self.offset)
        self._attempts.failed(holder.node, error.failure, str(error))
        wait_s = self._policy.busy_wait_s(error.failure, error.told_wait_s)
        self._tell(LaneFailed(holder=holder, failure=error.failure, given_bytes=given_bytes, wait_s=wait_s))

    def _broke(self, chosen: Deliver, error: AttemptFailed) -> None:
        failure = as_follower(error.failure) if is_in_flight(chosen.holder) else error.failure
        self._attempts.count(chosen.attempt, failure.value)
        log_failure("body broke off", chosen.holder, self._wanted, error, offset=self.offset)
        self._attempts.failed(chosen.holder.node, failure, str(error))
        self._reason, self._change = str(error), None
        outcome = Outcome.TIMEOUT if failure.is_silence else Outcome.FAILED
        self._end_bytes(outcome, f"{failure.value}: {error}, after {_size(self.offset)}")
        self._puller.metrics.broke(failure.value)
        wait_s = self._policy.busy_wait_s(failure, error.told_wait_s)
        self._tell(Broke(failure=failure, offset=self.offset, wait_s=wait_s))

    def _completed(self, chosen: Deliver) -> None:
        self._attempts.count(chosen.attempt, "ok")
        self._count_avoided()
        self._tell(Completed(given_bytes=self.given.sizes))

    def _count_avoided(self) -> None:
        """Count content that nobody had when it was asked for, and that the registry was not asked for."""
        waited = self._turn is not None and self._turn.followed
        if not (self._committed and (waited or self.given.in_flight_bytes)):
            return
        whole = self._wanted.range_spec is None or not self._wanted.range_spec.first
        if whole:  # a part of a layer is counted with its beginning
            is_manifest = self._wanted.target.kind is Kind.MANIFEST
            kind = "manifest" if is_manifest else "config" if self._wanted.config else "layer"
            self._puller.metrics.registry_avoided(kind)

    @property
    def _has_chunk(self) -> bool:
        """Whether the client was sent exactly the chunk that it wanted."""
        return self._pieces is not None and self._pieces.is_chunk_end(self._begins + self.offset)

    @contextmanager
    def _crediting(self, holder: Ranked, sink: ClientSink) -> Iterator[None]:
        """Credit this holder with what the client is sent meanwhile."""
        try:
            yield
        finally:
            self._credit(holder, sink.sent_bytes - self._sent_before - self.offset)

    def _credit(self, holder: Ranked, size_bytes: int) -> None:
        self.offset += size_bytes
        self.given.add(holder, size_bytes)

    async def _next_event(self) -> Event:
        while True:
            left_s = self._wake_at_s - self._machine_s()
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    return _raised(await self._events.get())
            except TimeoutError:
                late_s = self._machine_s() - max(self._wake_at_s, self._wake_at_s - left_s)
                if not held_up(late_s):
                    return Ticked()
                # This node did not run: it was suspended, or far too busy. The answers of peers may be there,
                # unread. So that time does not count, and they are read before anybody is called silent.
                self._held_up_s += late_s + CATCH_UP_S

    def _machine_s(self) -> float:
        """The machine's time, which stands still while this node does not run."""
        return self._puller.clock() - self._held_up_s

    def _tell(self, event: Event) -> None:
        self._execute(self._machine.on(event, self._machine_s()))

    def _execute(self, commands: Commands) -> None:
        for command in commands:
            match command:
                case Lookup():
                    known = None if command.everyone else self._puller.index.remembered(self.digest)
                    if known is not None:  # the usual case: a task would cost a turn of the event loop
                        step = self._steps.begin(StepKind.LOOKUP)
                        self._found_near(known)
                        self._end_look_up(step, known, "remembered")
                    else:
                        step = self._steps.begin(StepKind.LOOKUP, resume=self._steps.begun)
                        self._attempts.run(partial(self._look_up, command, step))
                case Fetch():
                    self._attempts.start(command, self._wanted_from(command.offset))
                case Abandon():
                    self._abandon(command)
                case WakeAt():
                    self._wake_at_s = command.at_s
                case Avoid() | Commend() | Shun() | Relieve():
                    self._policy.apply(command, self.digest, self._puller.clock())
                case Forget():
                    self._puller.index.forget(self.digest, command.node)
                case AskClaim():
                    assert self._turn is not None, "the limits say that nobody is asked"
                    self._turn.ask(command, self._position)
                case Deliver():
                    self._policy.regard.fetching(command.holder.node, +1)
                    self._outcome = command
                    self._say_that_it_arrives()
                    if self._turn is not None:
                        self._turn.delivering(far=command.holder.tier > Tier.ZONE)
                case NotFound() | Cut():
                    self._outcome = command
                    if isinstance(command, NotFound):  # the client asks the registry now
                        self._say_that_it_arrives()
                    if self._turn is not None:
                        self._turn.to_the_registry()
                case Stripe() | GiveUp():
                    self._change = command
                case _:
                    assert_never(command)

    def _say_that_it_arrives(self) -> None:
        """Other nodes may follow this one, while the content arrives here."""
        is_small = (self._wanted.size_bytes or LEAST_BYTES) < LEAST_BYTES
        if self._committed and not is_small and self._wanted.target.kind is not Kind.MANIFEST:
            self._puller.fetching(self.digest)

    def _abandon(self, command: Abandon) -> None:
        delivering = self._outcome
        if isinstance(delivering, Deliver) and delivering.attempt == command.attempt:
            self._policy.regard.fetching(delivering.holder.node, -1)
            self._outcome = None
        self._attempts.abandon(command, client_left=self._leaving)

    async def _look_up(self, command: Lookup, step: Step) -> None:
        puller, digest = self._puller, self.digest
        holders = await (
            puller.index.lookup_everyone(digest) if command.everyone else puller.index.lookup(digest)
        )
        self._end_look_up(step, holders, _who_said(holders, everyone=command.everyone))
        if command.everyone:
            await self._found_all(holders)
        else:
            self._found_near(holders)

    def _end_look_up(self, step: Step, holders: Holders, who: str) -> None:
        found = len(holders.nodes) + len(holders.in_flight)
        arriving = f", {len(holders.in_flight)} of them still fetch it" if holders.in_flight else ""
        who_has = "one node has it" if found == 1 else f"{found} nodes have it"
        words = f"{who}: {who_has}{arriving}" if found else f"{who}: nobody has it"
        self._steps.end(step, Outcome.OK if found else Outcome.NONE, why=words)

    def _found_near(self, holders: Holders) -> None:
        """Report the near holders without the suspects: those come last, after everybody was asked."""
        ranked = self._candidates(holders)
        sound = tuple(holder for holder in ranked if not holder.condition.doubted)
        exhaustive = holders.exhaustive and len(sound) == len(ranked)
        self._events.put_nowait(Found(holders=sound, exhaustive=exhaustive))

    async def _found_all(self, holders: Holders) -> None:
        """Report all holders. If only suspects are left, wait for their check for a while.

        Then a wrong one need not fail this pull as well.
        """
        ranked = self._candidates(holders)
        if ranked and all(holder.condition.doubted for holder in ranked):
            until_s = self._began_s + self._machine.limits.deadline_s / 2
            await self._puller.checks.settled(self.digest, until_s - self._puller.clock())
            ranked = self._candidates(holders)
        neighbours = self._policy.neighbours(
            holders.nodes, holders.in_flight, holders.arriving, self._puller.roster.snapshot
        )
        found = Found(holders=ranked, exhaustive=holders.exhaustive, neighbours=neighbours)
        self._events.put_nowait(found)

    def _candidates(self, holders: Holders) -> tuple[Ranked, ...]:
        puller = self._puller
        return self._policy.found(
            self.digest,
            holders.nodes,
            holders.in_flight,
            puller.roster.snapshot,
            puller.clock(),
            position=self._position,
            size_bytes=self._wanted.size_bytes,
            follows=self._wanted.follow,
        )

    @property
    def _position(self) -> int:
        """The byte of the content that is needed next, as far as it is known."""
        asked = self._wanted.range_spec
        return self.offset + (self._begins or (0 if asked is None else asked.first or 0))

    def _wanted_from(self, offset: int) -> FetchRequest:
        """What is left to fetch, or the next piece of it. Once the client has the head, it fits that."""
        if offset:
            first, end = self._begins + offset, self._begins + self.length
            stop = self._piece_stop(first)
            spec = RangeSpec(first=first, last=(end if stop is None else min(stop, end)) - 1)
            return replace(self._wanted, range_spec=spec, size_bytes=self._size_bytes)
        asked = self._wanted.range_spec
        if asked is None or asked.first is None or (stop := self._piece_stop(asked.first)) is None:
            return self._wanted
        return replace(self._wanted, range_spec=replace(asked, last=stop - 1))

    def _piece_stop(self, position: int) -> int | None:
        return None if self._pieces is None else self._pieces.piece_stop(position)


def _who_said(holders: Holders, *, everyone: bool) -> str:
    if everyone:
        return "all peers were asked"
    match holders.source:
        case IndexSource.SERVER:
            return "the index's server"
        case IndexSource.CACHE:
            return "remembered"
        case IndexSource.FALLBACK:
            return "near peers, as the index's server could not tell"
        case None:
            return "the nearest peers were asked"
        case _:
            assert_never(holders.source)


def _since(given: Given, node: NodeName, before_bytes: int) -> int:
    return given.bytes_of(node) - before_bytes


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes} bytes"


def _snapshot(roster: Roster) -> Snapshot:
    return roster.snapshot


def _rank_claimed(puller: Puller, digest: Digest, held: Held) -> tuple[Ranked, ...]:
    return puller.policy.claimed(
        digest, held.sources, puller.roster.snapshot, puller.clock(), complete=held.complete
    )


def _raised(event: Event | Crashed) -> Event:
    if isinstance(event, Crashed):
        raise event.error
    return event
