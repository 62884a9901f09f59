"""The open attempts of one pull: their tasks, and the bodies that they received.

The pull commands when an attempt starts and ends. Each attempt's result is reported as an event.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from agent.observe.exemplars import CURRENT
from agent.observe.metrics import Metrics
from agent.observe.steps import Outcome, Step, StepKind, Steps
from agent.pull.events import Abandon, Event, Failed, Failure, Fetch, Responded
from agent.pull.following import is_in_flight
from agent.pull.policy import Policy
from agent.tasks import end_all
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.peers import PeerBody
from topology.placement import NodeName
from topology.ranking import Ranked
from topology.snapshot import Snapshot

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Crashed:
    """A bug ended an attempt or a look-up."""

    error: Exception


Report = Callable[[Event | Crashed], None]
"""Is called with what happened. Must not block."""

FetchBody = Callable[[Ranked, FetchRequest], Awaitable[PeerBody]]
"""Ask a holder. Raises `AttemptFailed`."""


@dataclass(slots=True)
class _Attempt:
    """``counted``: its result is in the metrics. ``chosen``: its body is delivered."""

    holder: Ranked
    started_s: float
    step: Step
    task: asyncio.Task[None] | None = None
    body: PeerBody | None = None
    counted: bool = False
    chosen: bool = False


class Attempts:
    """The open attempts of one pull, by the pull's numbers for them. `close` it at the end."""

    def __init__(
        self,
        *,
        fetch: FetchBody,
        report: Report,
        policy: Policy,
        snapshot: Callable[[], Snapshot],
        metrics: Metrics,
        clock: Callable[[], float],
        steps: Steps | None = None,
    ) -> None:
        self.steps = Steps(clock, 0.0) if steps is None else steps
        self._fetch = fetch
        self._report = report
        self._policy = policy
        self._snapshot = snapshot
        self._metrics = metrics
        self._clock = clock
        self._open: dict[int, _Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures: dict[NodeName, str] = {}  # what the peers that failed did, in words
        self.faults = 0  # how many of these failures were somebody's fault
        self.unsatisfiable_bytes: int | None = None  # the content's size, if a peer answered 416

    def body(self, attempt: int) -> PeerBody:
        """The body of an attempt that responded."""
        opened = self._open[attempt]
        assert opened.body is not None, "an attempt is chosen when it has a body"
        opened.chosen = True
        return opened.body

    async def next_piece(self, attempt: int, wanted: FetchRequest) -> PeerBody:
        """The next piece of an attempt's body, which was read to its end. Raises `AttemptFailed`."""
        opened = self._open[attempt]
        assert opened.body is not None, "it has no body to go on with"
        opened.body.close()
        opened.body = await self._fetch(opened.holder, wanted)
        return opened.body

    def start(self, command: Fetch, wanted: FetchRequest) -> None:
        """Request the content from the holder. `Responded` or `Failed` is reported later."""
        step = self._begin_step(command)
        attempt = self._open[command.attempt] = _Attempt(command.holder, self._clock(), step)
        attempt.task = self.run(partial(self._ask, command, attempt, wanted))
        if command.hedge:
            self._metrics.hedge()

    def abandon(self, command: Abandon, *, client_left: bool) -> None:
        """End an attempt. ``client_left``: the reason is that the client left."""
        attempt = self._open.pop(command.attempt, None)
        if attempt is None:  # it failed a moment ago
            return
        if attempt.task is not None:
            attempt.task.cancel()
        self._end_step(attempt, command, client_left=client_left)
        if attempt.body is not None:
            attempt.body.close()
        elif not is_in_flight(attempt.holder):  # such a one may wait for its own source
            waited_s = self._clock() - attempt.started_s
            self._policy.no_first_byte(attempt.holder.tier, waited_s, client_left=client_left)
        if command.failure is not None:
            words = f"no first byte for {self._clock() - attempt.started_s:.3g} s"
            self.failed(attempt.holder.node, command.failure, words)
        if not attempt.counted:
            self._metrics.attempt("abandoned" if command.failure is None else command.failure.value)

    def count(self, number: int, result: str) -> None:
        """Count an attempt whose body ended with this result. `abandon` will not count it again."""
        self._open[number].counted = True
        self._metrics.attempt(result)

    def failed(self, node: NodeName, failure: Failure, words: str) -> None:
        """Note what a peer did, for this pull and for all."""
        self.faults += failure.is_peers_fault or failure.is_own
        if failure is not Failure.WITHHELD:  # whoever asks under a wrong name is not told who has it
            self.failures[node] = words
        self._policy.attempt_failed(node, failure, words, self._clock())

    def run(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run work for this pull in a task. An unexpected error in it ends the pull at once."""
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        await end_all(self._tasks)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised again where the pull is waited for
            self._report(Crashed(error))

    async def _ask(self, command: Fetch, attempt: _Attempt, wanted: FetchRequest) -> None:
        number = command.attempt
        try:
            waits = is_in_flight(attempt.holder)
            body = attempt.body = await self._fetch(attempt.holder, replace(wanted, waits=waits))
        except AttemptFailed as error:
            self._open.pop(number, None)
            self._metrics.attempt(error.failure.value)
            attempt.step.request = error.request
            self.steps.end(attempt.step, Outcome.FAILED, why=f"{error.failure.value}: {error}")
            self.unsatisfiable_bytes = error.size_bytes or self.unsatisfiable_bytes
            log_failure("attempt failed", attempt.holder, wanted, error, offset=command.offset)
            self.failed(attempt.holder.node, error.failure, str(error))
            wait_s = self._policy.busy_wait_s(error.failure, error.told_wait_s)
            instead = self._instead(attempt.holder, wanted, error)
            self._report(Failed(attempt=number, failure=error.failure, wait_s=wait_s, instead=instead))
            return
        attempt.step.request = body.request
        self.steps.end(attempt.step, why=_with_connect(attempt.step.why, body.connect_s))
        holder = attempt.holder = _as_it_says(attempt.holder, body)
        if not is_in_flight(holder):
            took_s = self._clock() - attempt.started_s
            self._policy.first_byte(holder.tier, took_s, manifest=body.manifest is not None)
        self._report(Responded(attempt=number, holder=holder))

    def _begin_step(self, command: Fetch) -> Step:
        waited_for = [attempt.started_s for attempt in self._open.values() if attempt.body is None]
        why = f"hedge after {1e3 * (self._clock() - max(waited_for)):.3g} ms" if waited_for else ""
        return self.steps.begin(
            StepKind.HEADERS,
            command.holder.node,
            command.holder.tier,
            why=why,
            hedge=bool(waited_for),
            resume=command.offset > 0 or self.steps.begun,
        )

    def _end_step(self, attempt: _Attempt, command: Abandon, *, client_left: bool) -> None:
        """What came of an attempt that was abandoned before its body was chosen."""
        step = attempt.step
        if command.failure is not None:
            self.steps.end(step, Outcome.TIMEOUT, why="no first byte")
        elif client_left:
            self.steps.end(step, Outcome.LEFT)
        elif any(other.body is not None for other in self._open.values()):
            self.steps.end(step, Outcome.LOST)
            if not attempt.chosen:
                step.outcome = Outcome.LOST
        else:
            self.steps.end(step, Outcome.LEFT)

    def _instead(self, holder: Ranked, wanted: FetchRequest, error: AttemptFailed) -> tuple[Ranked, ...]:
        """The nodes that a holder said to ask instead."""
        if not error.instead:
            return ()
        return self._policy.told_of(
            wanted.target.digest, error.instead, holder, self._snapshot(), self._clock()
        )


def _with_connect(why: str, connect_s: float) -> str:
    if not connect_s:
        return why
    connected = f"connected in {1e3 * connect_s:.3g} ms"
    return f"{why}; {connected}" if why else connected


def _as_it_says(holder: Ranked, body: PeerBody) -> Ranked:
    """The holder as its answer shows it: the content may have arrived there meanwhile."""
    arrival = body.arrival
    percent = None if arrival is None else arrival.percent_of(body.size_bytes)
    if percent == holder.condition.in_flight:
        return holder
    return holder._replace(condition=holder.condition._replace(in_flight=percent))


def log_failure(
    what: str, holder: Ranked, wanted: FetchRequest, error: AttemptFailed, *, offset: int
) -> None:
    """Log a holder's failure. ``offset``: how many bytes of the body the client has."""
    record = CURRENT.get()
    fields = {"node": holder.node, "failure": error.failure.value, "digest": wanted.target.digest}
    if record is not None:
        fields["request"] = record.id
    _log.info("%s: %s", what, error, extra={"fields": {**fields, "offset": offset}})
