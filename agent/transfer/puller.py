"""Executes one pull: runs the attempts that the state machine commands and tells it what came of them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass

from agent.config import PullSettings
from agent.holders.index import HolderIndex
from agent.members.neighbourhood import Neighbourhood
from agent.observe.metrics import Metrics
from agent.pull.machine import (
    Abandon,
    Avoid,
    Broke,
    ClientGone,
    Command,
    Completed,
    Cut,
    Deliver,
    Event,
    Failed,
    Failure,
    Fetch,
    Forget,
    Found,
    Limits,
    Lookup,
    NotFound,
    Pull,
    Relieve,
    Responded,
    Ticked,
    WakeAt,
)
from agent.transfer.peers import AttemptFailed, PeerBody, PeerClient, Wanted
from topology.placement import NodeName
from topology.ranking import Ranked

_log = logging.getLogger(__name__)


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
    """What every pull needs; `pull` makes one."""

    index: HolderIndex
    neighbourhood: Neighbourhood
    client: PeerClient
    settings: PullSettings
    metrics: Metrics
    clock: Callable[[], float] = time.monotonic

    def ranked(self, digest: str, nodes: tuple[NodeName, ...]) -> tuple[Ranked, ...]:
        """The holders that a pull may try, in the order in which it tries them."""
        # So many are tried at most: the nearest, those of a second look-up, and those that it repeats.
        return self.neighbourhood.ranked(digest, nodes, limit=3 * self.settings.attempts_max)

    def pull(self, wanted: Wanted) -> "RunningPull":
        """A pull of ``wanted``; enter it to start it."""
        return RunningPull(self, wanted)


class RunningPull:
    """One pull. ``async with`` it: leaving ends every attempt that is still open.

    `first_bytes` comes first, then `rest`. Cancelling either ends the pull.
    """

    def __init__(self, puller: Puller, wanted: Wanted) -> None:
        self._puller = puller
        self._wanted = wanted
        limits = puller.settings
        self._machine = Pull(
            limits=Limits(
                patience_s=limits.patience_s, deadline_s=limits.deadline_s, attempts_max=limits.attempts_max
            )
        )
        self._events: asyncio.Queue[Event | _Crashed] = asyncio.Queue()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._lookups: set[asyncio.Task[None]] = set()
        self._bodies: dict[int, PeerBody] = {}
        self._wake_at_s = 0.0
        self._delivering: Deliver | None = None
        self._not_found: NotFound | None = None
        self._unsatisfiable_bytes: int | None = None

    async def __aenter__(self) -> "RunningPull":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._execute(self._machine.on(ClientGone(), self._puller.clock()))
        if self._delivering is not None:
            self._puller.neighbourhood.fetching(self._delivering.holder.node, -1)
        # What needs no waiting comes first: a cancelled caller may not get further.
        running = [*self._tasks.values(), *self._lookups]
        for task in running:
            task.cancel()
        for body in self._bodies.values():
            body.close()
        await asyncio.gather(*running, return_exceptions=True)
        for body in self._bodies.values():
            body.close()  # one that a task opened while it was being cancelled

    async def first_bytes(self) -> tuple[Ranked, PeerBody]:
        """The holder that answers and its body, first bytes in hand. Raises `NobodyHasIt`."""
        clock = self._puller.clock
        self._execute(self._machine.start(clock()))
        while self._delivering is None:
            if self._not_found is not None:
                raise NobodyHasIt(self._not_found.attempts, self._unsatisfiable_bytes)
            self._execute(self._machine.on(await self._next_event(), clock()))
        return self._delivering.holder, self._bodies[self._delivering.attempt]

    async def rest(self) -> AsyncIterator[bytes]:
        """The bytes after the first ones. Raises `BodyCut` when they end early."""
        assert self._delivering is not None, "first_bytes comes first"
        body = self._bodies[self._delivering.attempt]
        missing = body.length - len(body.first)
        try:
            while missing > 0:
                chunk = await body.read(self._puller.settings.stall_s)
                if not chunk:
                    raise AttemptFailed(Failure.BROKEN, f"{missing} bytes short")
                missing -= len(chunk)
                yield chunk
        except AttemptFailed as error:
            self._puller.metrics.attempt(error.failure.value)
            _log.warning(
                "body cut short: %s",
                error,
                extra={"fields": {"node": self._delivering.holder.node, "missing_bytes": missing}},
            )
            self._execute(self._machine.on(Broke(failure=error.failure), self._puller.clock()))
            raise BodyCut(str(error)) from error
        self._execute(self._machine.on(Completed(), self._puller.clock()))

    async def _next_event(self) -> Event:
        left_s = self._wake_at_s - self._puller.clock()
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                event = await self._events.get()
        except TimeoutError:
            return Ticked()
        if isinstance(event, _Crashed):
            raise event.error
        return event

    def _execute(self, commands: tuple[Command, ...]) -> None:
        puller = self._puller
        for command in commands:
            match command:
                case Lookup():
                    task = asyncio.create_task(self._reporting(self._look_up(command.everyone)))
                    self._lookups.add(task)
                    task.add_done_callback(self._lookups.discard)
                case Fetch():
                    self._tasks[command.attempt] = asyncio.create_task(
                        self._reporting(self._attempt(command))
                    )
                case Abandon():
                    self._tasks.pop(command.attempt).cancel()
                    body = self._bodies.pop(command.attempt, None)
                    if body is not None:
                        body.close()
                case WakeAt():
                    self._wake_at_s = command.at_s
                case Avoid():
                    puller.neighbourhood.failed(command.node, puller.clock())
                case Relieve():
                    puller.neighbourhood.saturated(command.node, puller.clock())
                case Forget():
                    puller.index.forget(self._wanted.target.digest, command.node)
                case Deliver():
                    self._delivering = command
                    puller.neighbourhood.fetching(command.holder.node, +1)
                case NotFound():
                    self._not_found = command
                case Cut():
                    pass  # `rest` raises BodyCut

    async def _reporting(self, work: Coroutine[None, None, None]) -> None:
        """Do the work; a bug in it ends the pull at once, not at its deadline."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - raised again where the pull is waited for
            self._events.put_nowait(_Crashed(error))

    async def _look_up(self, everyone: bool) -> None:
        index, digest = self._puller.index, self._wanted.target.digest
        holders = await (index.lookup_all(digest) if everyone else index.lookup(digest))
        ranked = self._puller.ranked(digest, holders.nodes)
        self._events.put_nowait(Found(holders=ranked, complete=holders.complete))

    async def _attempt(self, command: Fetch) -> None:
        puller = self._puller
        peer = puller.neighbourhood.peer(command.holder.node)
        try:
            if peer is None:
                raise AttemptFailed(Failure.MISSING, "no longer a member")
            body = await puller.client.fetch(peer, self._wanted)
        except AttemptFailed as error:
            puller.metrics.attempt(error.failure.value)
            if error.failure is Failure.UNSATISFIABLE:
                self._unsatisfiable_bytes = error.size_bytes
            _log.info(
                "attempt failed: %s",
                error,
                extra={"fields": {"node": command.holder.node, "failure": error.failure.value}},
            )
            self._events.put_nowait(Failed(attempt=command.attempt, failure=error.failure))
            return
        puller.metrics.attempt("ok")
        puller.neighbourhood.served(peer.name)
        self._bodies[command.attempt] = body
        self._events.put_nowait(Responded(attempt=command.attempt))
