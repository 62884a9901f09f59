"""Executes one pull: runs the attempts that the state machine commands, moves the bytes of the one that it
chose, and tells it what came of both.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import assert_never

from agent.config import PullSettings, TransferSettings
from agent.holders.index import HolderIndex
from agent.members.neighbourhood import Neighbourhood
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.ranges import RangeSpec
from agent.pull.bucket import TokenBucket
from agent.pull.events import (
    Abandon,
    Avoid,
    Broke,
    ClientGone,
    Command,
    Commend,
    Completed,
    Cut,
    Deliver,
    Event,
    Failed,
    Failure,
    Fetch,
    Forget,
    Found,
    Gathered,
    GiveUp,
    LaneFailed,
    Limits,
    Lookup,
    NotFound,
    Progressed,
    Relieve,
    Responded,
    Shun,
    Stripe,
    Ticked,
    WakeAt,
)
from agent.pull.machine import Pull
from agent.pull.meter import Look, Meter
from agent.pull.pace import Pace
from agent.pull.trust import Trust
from agent.transfer.answers import AttemptFailed, Wanted
from agent.transfer.movers import Relays
from agent.transfer.peers import PeerBody, PeerClient
from agent.transfer.sink import ClientSink
from agent.transfer.striper import StripeBuffers, StripeLimits, Striper
from topology.placement import NodeName
from topology.ranking import Ranked

_log = logging.getLogger(__name__)

_USUAL_BYTES_PER_S = 10e6  # of a tier that nothing is known of: less than any link between servers
_STUBBORN_S = 0.5  # with a client that had a part already: a holder may have been too busy to answer
_SHUN_TIMES = 4  # a cool-off; so that a kubelet that tries again after 10 s meets somebody else


class NobodyHasIt(Exception):
    """No peer can serve the content now."""

    def __init__(self, attempts: int, unsatisfiable_bytes: int | None = None) -> None:
        super().__init__(f"no peer has it ({attempts} tried)")
        self.unsatisfiable_bytes = unsatisfiable_bytes  # the content's size, if the range was the reason


class BodyCut(Exception):
    """A body ended before its end: cut the response, so that the client resumes."""


@dataclass(frozen=True, slots=True)
class _Crashed:
    """A bug in an attempt or a look-up."""

    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Puller:
    """What every pull needs; `pull` makes one. ``running``: those under way."""

    index: HolderIndex
    neighbourhood: Neighbourhood
    client: PeerClient
    settings: PullSettings
    transfer: TransferSettings
    metrics: Metrics
    relays: Relays
    buffers: StripeBuffers
    pace: Pace
    trust: Trust
    limit: TokenBucket
    clock: Callable[[], float] = time.monotonic
    running: set["RunningPull"] = field(default_factory=set)

    def ranked(self, digest: Digest, nodes: tuple[NodeName, ...]) -> tuple[Ranked, ...]:
        """The holders that a pull may try, in the order in which it tries them."""
        distrusted = self.trust.distrusted(digest, self.clock())
        trusted = tuple(node for node in nodes if node not in distrusted) if distrusted else nodes
        # So many are tried at most: the nearest, those of a second look-up, and those that it repeats.
        return self.neighbourhood.ranked(digest, trusted, limit=3 * self.settings.attempts_max)

    def pull(self, wanted: Wanted, *, committed: bool = False) -> "RunningPull":
        """A pull of ``wanted``; enter it to start it.

        ``committed``: for a client that puts whole blobs into this node's store, and verifies them there.
        """
        return RunningPull(self, wanted, committed=committed)

    def doubt(self, wanted: Wanted) -> None:
        """This node's containerd asks: if it was sent all of it before, that was no good."""
        if wanted.range_spec is None or wanted.range_spec.first == 0:
            self.metrics.suspects(self.trust.asked_from_start(wanted.target.digest, self.clock()))

    def limits(self, wanted: Wanted) -> Limits:
        """What the state machine of such a pull goes by."""
        settings, transfer = self.settings, self.transfer
        goes_on = wanted.range_spec is not None and bool(wanted.range_spec.first)
        stubborn_s = settings.deadline_s if wanted.chunk else _STUBBORN_S
        return Limits(
            patience_s=settings.patience_s,
            deadline_s=settings.deadline_s,
            attempts_max=settings.attempts_max,
            stall_s=settings.stall_s,
            floor_bytes_per_s=settings.floor_bytes_per_s,
            floor_ratio=settings.floor_ratio,
            hedge_s=self.pace.hedge_s(),
            stripe_min_bytes=transfer.stripe_min_bytes,
            stubborn_s=stubborn_s if goes_on else 0.0,
            stubborn_begun_s=settings.deadline_s if wanted.chunk else 0.0,
        )


@dataclass(slots=True)
class _Attempt:
    """One attempt's task, and its body once there is one. ``counted``: its result is in the metrics."""

    holder: Ranked
    started_s: float
    task: asyncio.Task[None] | None = None
    body: PeerBody | None = None
    counted: bool = False


class RunningPull:
    """One pull. ``async with`` it: leaving ends every attempt that is still open.

    `first_bytes` comes first, then `deliver`. Cancelling either ends the pull. ``given_bytes``: how many
    the client was sent of whom; ``resumes``: how often another holder went on where one had failed.
    """

    def __init__(self, puller: Puller, wanted: Wanted, *, committed: bool) -> None:
        self._puller = puller
        self._wanted = wanted
        self._committed = committed and not wanted.head
        self._machine = Pull(limits=puller.limits(wanted))
        self._events: asyncio.Queue[Event | _Crashed] = asyncio.Queue()
        self._attempts: dict[int, _Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake_at_s = 0.0
        self._chosen: Deliver | None = None
        self._lanes: tuple[Ranked, ...] = ()
        self._given_up: GiveUp | None = None
        self._not_found: NotFound | None = None
        self._cut_short = False
        self._leaving = False
        self._verified = False  # the body, by this agent
        self._bytes_per_s = 1.0  # of one holder, lately
        self._reason = ""
        self._unsatisfiable_bytes: int | None = None
        self._begins = 0  # where in the content the body begins
        self._size_bytes = 0
        self.length = 0
        self.offset = 0  # how many of the body's bytes the client was sent
        self.resumes = 0
        self.given_bytes: dict[NodeName, tuple[Ranked, int]] = {}

    @property
    def digest(self) -> Digest:
        """What is pulled."""
        return self._wanted.target.digest

    @property
    def holder(self) -> Ranked | None:
        """Who gives it now; None while nobody does."""
        return None if self._chosen is None else self._chosen.holder

    async def __aenter__(self) -> "RunningPull":
        self._puller.running.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._puller.running.discard(self)
        self._leaving = True
        self._tell(ClientGone())
        if self._committed:
            # Of several sources, one that broke off is the likelier one to be no good.
            sources = (self.given_bytes.keys() & self._machine.failed) or self.given_bytes.keys()
            self._puller.trust.delivered(
                self.digest,
                () if self._verified else sources,
                start=self._begins,
                stop=self._begins + self.offset,
                size_bytes=self._size_bytes,
                taken=self.offset == self.length,
                now_s=self._puller.clock(),
            )
        # What needs no waiting came first: a cancelled caller may not get further.
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def first_bytes(self) -> tuple[Ranked, PeerBody]:
        """The holder that answers and its body, first bytes in hand. Raises `NobodyHasIt`."""
        puller = self._puller
        if self._committed:
            puller.doubt(self._wanted)
        self._execute(self._machine.start(puller.clock()))
        chosen, body = await self._next_body()
        self._verified = body.verified
        self._begins, self._size_bytes, self.length = body.start, body.size_bytes, body.length
        if body.manifest is not None:
            self._credit(chosen.holder, body.length)
        if self._wanted.head or body.manifest is not None:  # that is all there is to it
            self._completed(chosen)
        return chosen.holder, body

    async def deliver(self, sink: ClientSink) -> None:
        """Send the body, from one holder after the other where need be. After `first_bytes`.

        Raises `BodyCut` when it ended early, and `sink.ClientGone`.
        """
        chosen, body = await self._next_body()
        with self._crediting(chosen.holder, sink):
            await sink.begin(body.first)
        while True:
            try:
                await self._move(chosen.holder, body, sink)
                if self._lanes:
                    useless = await self._stripe(chosen.holder, body, sink)
                    if self.offset < self.length:
                        self._tell(Gathered(offset=self.offset, useless=useless))
                        chosen, body = await self._go_on_with_next(sink)
                        continue
                if self._given_up is not None:
                    raise AttemptFailed(self._given_up.failure, f"{self._bytes_per_s:.0f} bytes/s")
            except AttemptFailed as error:
                self._broke(chosen, error)
            else:
                self._completed(chosen)
                return
            chosen, body = await self._go_on_with_next(sink)
            self.resumes += 1

    async def _go_on_with_next(self, sink: ClientSink) -> tuple[Deliver, PeerBody]:
        chosen, body = await self._next_body()
        with self._crediting(chosen.holder, sink):
            await sink.write(body.first, "memory")
        return chosen, body

    async def _next_body(self) -> tuple[Deliver, PeerBody]:
        """The attempt that the machine chose. Raises `NobodyHasIt`, or `BodyCut` once a body began."""
        while self._chosen is None:
            if self._not_found is not None:
                raise NobodyHasIt(self._not_found.attempts, self._unsatisfiable_bytes)
            if self._cut_short:
                raise BodyCut(f"{self._reason}; {self.length - self.offset} bytes short")
            self._tell(await self._next_event())
        body = self._attempts[self._chosen.attempt].body
        assert body is not None, "an attempt is chosen when it has a body"
        return self._chosen, body

    async def _move(self, holder: Ranked, body: PeerBody, sink: ClientSink) -> None:
        """To the body's end, or to where the machine wants it otherwise."""
        if not body.left_bytes:
            return
        puller = self._puller
        meter, held_s = Meter(puller.clock(), window_s=puller.settings.stall_s), sink.held_s
        looks = puller.relays.move(body, sink, meter, puller.settings.stall_s)
        with self._crediting(holder, sink):
            async with aclosing(looks):
                async for look in looks:
                    self._credit(holder, sink.sent_bytes - self.offset)
                    self._bytes_per_s = look.bytes_per_s
                    self._progressed(holder, look)
                    if self._lanes or self._given_up is not None:
                        break
        took_s = puller.clock() - meter.started_s - (sink.held_s - held_s)
        if 2 * meter.waited_s >= took_s:  # else the reader's pace is what was measured
            puller.pace.body(holder.locality, meter.moved_bytes, took_s)

    def _progressed(self, holder: Ranked, look: Look) -> None:
        puller = self._puller
        while not self._events.empty():  # a look-up may have ended meanwhile
            self._tell(self._taken(self._events.get_nowait()))
        usual = puller.pace.usual_bytes_per_s(holder.locality) or _USUAL_BYTES_PER_S
        # Those under way share this node's link, and may not be blamed for it.
        share = usual / max(1, len(puller.running))
        progressed = Progressed(
            left_bytes=self.length - self.offset,
            look=look,
            usual_bytes_per_s=share,
            # What is fetched ahead for a client that leaves at the end of its chunk is thrown away.
            lanes_max=1 if self._wanted.chunk else puller.buffers.lanes_max(puller.clock()),
        )
        self._tell(progressed)

    async def _stripe(self, holder: Ranked, body: PeerBody, sink: ClientSink) -> bool:
        """To the body's end, or until that is no use any more. Whether it was none at all."""
        puller, lanes = self._puller, self._lanes
        self._lanes = ()
        puller.metrics.striped()
        limits = StripeLimits(
            stall_s=puller.settings.stall_s, floor_bytes_per_s=puller.settings.floor_bytes_per_s
        )
        with ExitStack() as stack:
            for lane in lanes:
                puller.neighbourhood.fetching(lane.node, +1)
                stack.callback(puller.neighbourhood.fetching, lane.node, -1)
            striper = Striper(
                replace(self._wanted, size_bytes=self._size_bytes),
                self._begins + self.offset,
                self._begins + self.length,
                limits=limits,
                alone_bytes_per_s=max(1.0, self._bytes_per_s),
                share=stack.enter_context(puller.buffers.share()),
                fetch=self._fetch,
                failed=self._lane_failed,
                credit=self._credit,
            )
            return await striper.run(sink, holder, body, lanes)

    def _lane_failed(self, holder: Ranked, error: AttemptFailed, given_bytes: int) -> None:
        self._count(error.failure.value)
        self._log_failure("a holder of several failed", holder, error)
        failed = LaneFailed(
            holder=holder, failure=error.failure, given_bytes=given_bytes, wait_s=error.wait_s
        )
        self._tell(failed)

    def _broke(self, chosen: Deliver, error: AttemptFailed) -> None:
        self._attempts[chosen.attempt].counted = True
        self._count(error.failure.value)
        self._log_failure("body broke off", chosen.holder, error)
        self._reason, self._given_up = str(error), None
        self._puller.metrics.broke(error.failure.value)
        self._tell(Broke(failure=error.failure, offset=self.offset))

    def _completed(self, chosen: Deliver) -> None:
        self._attempts[chosen.attempt].counted = True
        self._count("ok")
        given_bytes = {node: size_bytes for node, (_, size_bytes) in self.given_bytes.items()}
        self._tell(Completed(given_bytes=given_bytes))

    @contextmanager
    def _crediting(self, holder: Ranked, sink: ClientSink) -> Iterator[None]:
        """What the client is sent meanwhile comes from this holder."""
        try:
            yield
        finally:
            self._credit(holder, sink.sent_bytes - self.offset)

    def _credit(self, holder: Ranked, size_bytes: int) -> None:
        self.offset += size_bytes
        _, before = self.given_bytes.get(holder.node, (holder, 0))
        self.given_bytes[holder.node] = holder, before + size_bytes

    def _count(self, result: str) -> None:
        self._puller.metrics.attempt(result)

    def _log_failure(self, what: str, holder: Ranked, error: AttemptFailed) -> None:
        fields = {"node": holder.node, "failure": error.failure.value, "digest": self.digest}
        _log.info("%s: %s", what, error, extra={"fields": {**fields, "offset": self.offset}})

    async def _next_event(self) -> Event:
        left_s = self._wake_at_s - self._puller.clock()
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                return self._taken(await self._events.get())
        except TimeoutError:
            return Ticked()

    def _taken(self, event: Event | _Crashed) -> Event:
        if isinstance(event, _Crashed):
            raise event.error
        return event

    def _tell(self, event: Event) -> None:
        self._execute(self._machine.on(event, self._puller.clock()))

    def _execute(self, commands: tuple[Command, ...]) -> None:
        puller = self._puller
        for command in commands:
            match command:
                case Lookup():
                    self._start(partial(self._look_up, command.everyone))
                case Fetch():
                    attempt = _Attempt(command.holder, puller.clock())
                    self._attempts[command.attempt] = attempt
                    attempt.task = self._start(partial(self._attempt, command, attempt))
                    if command.hedge:
                        puller.metrics.hedge()
                case Abandon():
                    self._abandon(command)
                case WakeAt():
                    self._wake_at_s = command.at_s
                case Avoid():
                    puller.neighbourhood.failed(command.node, puller.clock())
                case Commend():
                    puller.neighbourhood.served(command.node)
                    puller.trust.well(command.node)
                case Shun():
                    now_s = puller.clock()
                    until_s = now_s + _SHUN_TIMES * puller.neighbourhood.cooling_s(command.node, now_s)
                    puller.trust.distrust(self.digest, command.node, until_s)
                case Relieve():
                    puller.neighbourhood.saturated(command.node, puller.clock(), command.wait_s)
                case Forget():
                    puller.index.forget(self.digest, command.node)
                case Deliver():
                    self._chosen = command
                    puller.neighbourhood.fetching(command.holder.node, +1)
                case Stripe():
                    self._lanes = command.holders
                case GiveUp():
                    self._given_up = command
                case NotFound():
                    self._not_found = command
                case Cut():
                    self._cut_short = True
                case _:
                    assert_never(command)

    def _abandon(self, command: Abandon) -> None:
        attempt = self._attempts.pop(command.attempt, None)
        if self._chosen is not None and self._chosen.attempt == command.attempt:
            self._puller.neighbourhood.fetching(self._chosen.holder.node, -1)
            self._chosen = None
        if attempt is None:  # it failed a moment ago
            return
        if attempt.task is not None:
            attempt.task.cancel()
        if attempt.body is not None:
            attempt.body.close()
        elif not self._leaving:  # it lost the race: it takes at least so long
            waited_s = self._puller.clock() - attempt.started_s
            self._puller.pace.first_byte(attempt.holder.locality, waited_s)
        if not attempt.counted:
            self._count("abandoned" if command.failure is None else command.failure.value)

    def _start(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._reporting(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _reporting(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work; a bug in it ends the pull at once, not at its deadline."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised again where the pull is waited for
            self._events.put_nowait(_Crashed(error))

    async def _look_up(self, everyone: bool) -> None:
        index, digest = self._puller.index, self.digest
        holders = await (index.lookup_all(digest) if everyone else index.lookup(digest))
        ranked = self._puller.ranked(digest, holders.nodes)
        self._events.put_nowait(Found(holders=ranked, complete=holders.complete))

    async def _attempt(self, command: Fetch, attempt: _Attempt) -> None:
        wanted = self._wanted
        if command.offset:  # the client has the head, and what came before: no other part will do
            first = self._begins + command.offset
            spec = RangeSpec(first=first, last=self._begins + self.length - 1)
            wanted = replace(wanted, range_spec=spec, size_bytes=self._size_bytes)
        try:
            body = attempt.body = await self._fetch(command.holder, wanted)
        except AttemptFailed as error:
            self._attempts.pop(command.attempt, None)
            self._count(error.failure.value)
            self._unsatisfiable_bytes = error.size_bytes or self._unsatisfiable_bytes
            self._log_failure("attempt failed", command.holder, error)
            # All who were refused at once should not come back at once.
            wait_s = error.wait_s * random.uniform(1.0, 1.3)
            self._events.put_nowait(Failed(attempt=command.attempt, failure=error.failure, wait_s=wait_s))
            return
        if not body.manifest:
            took_s = self._puller.clock() - attempt.started_s
            self._puller.pace.first_byte(command.holder.locality, took_s)
        self._events.put_nowait(Responded(attempt=command.attempt))

    async def _fetch(self, holder: Ranked, wanted: Wanted) -> PeerBody:
        peer = self._puller.neighbourhood.peer(holder.node)
        if peer is None:
            raise AttemptFailed(Failure.MISSING, "no longer a member")
        return await self._puller.client.fetch(peer, wanted)
