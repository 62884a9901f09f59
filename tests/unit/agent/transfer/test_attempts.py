"""The open attempts of a pull: what is reported and counted, and that nothing goes on after the end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from agent.observe.metrics import Metrics
from agent.oci.reference import Addressed, Kind, Repository
from agent.pull.arrival import Arrival
from agent.pull.events import Abandon, Event, Failed, Failure, Fetch, Responded
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.attempts import Attempts, Crashed
from agent.transfer.peers import PeerBody
from tests.unit.exposition import total
from tests.unit.twins import loop_clock, make_policy, node, other_tasks, placed, run_in_virtual_time, sha256
from topology.cluster import ClusterTopology
from topology.placement import Tier
from topology.ranking import Condition, Ranked

INNOCENT = (Failure.WITHHELD, Failure.SHARED, Failure.STARVED)
WANTED = FetchRequest(
    target=Addressed(registry=None, repository=Repository("a"), kind=Kind.BLOB, digest=sha256("x"))
)
NEAR = Ranked(node=node("near"), tier=Tier.ZONE, rank=1)
PLACES = {"near": placed("r", "z"), "beside": placed("r", "z"), "far": placed("s", "y")}
SNAPSHOT = ClusterTopology(own=node("own"), placement=placed("r", "z")).update(
    {node(name): place for name, place in PLACES.items()}, 0.0
)


class Body:
    """A peer's body, of which only the end matters here."""

    manifest = request = None
    arrival: Arrival | None = None
    size_bytes = 200
    closed = False
    connect_s = 0.0

    def close(self) -> None:
        self.closed = True


@dataclass
class Run:
    """Attempts, and what they reported. The peer answers after ``takes_s``: with an error, or a body."""

    takes_s: float = 1.0
    error: Exception | None = None
    body: Body = field(default_factory=Body)
    reported: list[Event | Crashed] = field(default_factory=list)
    waits: list[bool] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.policy = make_policy()
        self.attempts = Attempts(
            fetch=self._fetch,
            report=self.reported.append,
            policy=self.policy,
            snapshot=lambda: SNAPSHOT,
            metrics=self.metrics,
            clock=loop_clock,
        )

    async def _fetch(self, holder: Ranked, wanted: FetchRequest) -> PeerBody:
        assert (holder.node, replace(wanted, waits=True)) == (NEAR.node, WANTED)
        self.waits.append(wanted.waits)
        await asyncio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        return cast(PeerBody, self.body)

    def start(self, *, hedge: bool = False, holder: Ranked = NEAR) -> None:
        self.attempts.start(Fetch(attempt=1, holder=holder, hedge=hedge), WANTED)

    def abandon(self, failure: Failure | None = None, *, client_left: bool = False) -> None:
        self.attempts.abandon(Abandon(attempt=1, failure=failure), client_left=client_left)

    def counted(self, result: str | None = None) -> float:
        labels = {} if result is None else {"result": result}
        return total(self.metrics.expose(), "peer_attempts_total", **labels)


def play(run: Run, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run the scenario, close, and see that nothing is left running."""

    async def main() -> None:
        await scenario()
        await run.attempts.close()
        assert other_tasks() == set()

    run_in_virtual_time(main())


def test_attempt_with_its_first_bytes_responds_and_has_a_body() -> None:
    run = Run()

    async def scenario() -> None:
        run.start()
        await asyncio.sleep(0.9)
        assert run.reported == []
        await asyncio.sleep(0.2)
        assert run.reported == [Responded(attempt=1, holder=NEAR)]
        assert run.attempts.body(1) is cast(PeerBody, run.body)
        assert run.counted() == 0, "its result is not known yet"

    play(run, scenario)


@pytest.mark.parametrize("failure", [Failure.MISSING, Failure.BROKEN, Failure.BUSY])
def test_attempt_that_fails_is_reported_and_counted_by_its_failure(failure: Failure) -> None:
    run = Run(error=AttemptFailed(failure, "no"))

    async def scenario() -> None:
        run.start()
        await asyncio.sleep(2.0)
        (failed,) = run.reported
        assert isinstance(failed, Failed)
        assert (failed.attempt, failed.failure) == (1, failure)
        assert run.counted(failure.value) == run.counted() == 1
        run.abandon()
        assert run.counted() == 1, "it failed a moment ago, and counts once"

    play(run, scenario)


def test_size_that_a_416_told_is_kept() -> None:
    run = Run(error=AttemptFailed(Failure.UNSATISFIABLE, "no", size_bytes=77))

    async def scenario() -> None:
        run.start()
        await asyncio.sleep(2.0)
        assert run.attempts.unsatisfiable_bytes == 77

    play(run, scenario)


@pytest.mark.parametrize(
    ("failure", "result"), [(None, "abandoned"), (Failure.SILENT, "silent"), (Failure.SLOW, "slow")]
)
def test_attempt_that_is_given_up_before_it_answers_ends_at_once(
    failure: Failure | None, result: str
) -> None:
    run = Run(takes_s=100.0)

    async def scenario() -> None:
        run.start()
        await asyncio.sleep(0.5)
        run.abandon(failure)
        await asyncio.sleep(0)
        assert other_tasks() == set()
        assert run.counted(result) == run.counted() == 1
        assert run.reported == []

    play(run, scenario)


def test_body_that_is_given_up_is_closed() -> None:
    run = Run()

    async def scenario() -> None:
        run.start()
        await asyncio.sleep(2.0)
        run.abandon()
        assert run.body.closed

    play(run, scenario)


def test_body_whose_end_was_counted_is_not_counted_again() -> None:
    run = Run()

    async def scenario() -> None:
        run.start()
        await asyncio.sleep(2.0)
        run.attempts.count(1, "ok")
        run.abandon()
        assert run.counted("ok") == run.counted() == 1

    play(run, scenario)


def test_peers_that_a_holder_named_are_reported_if_they_are_members_and_no_farther_than_it() -> None:
    named = tuple(map(node, ("far", "own", "near", "stranger", "beside")))
    run = Run(error=AttemptFailed(Failure.SHARED, "no", instead=named))

    async def scenario() -> None:
        run.start()
        await asyncio.sleep(2.0)
        (failed,) = run.reported
        assert isinstance(failed, Failed)
        assert [(one.node, one.condition.in_flight) for one in failed.instead] == [("beside", 0)]

    play(run, scenario)


def test_holder_that_is_still_fetching_it_says_so_and_does_not_tell_how_soon_its_tier_answers() -> None:
    run = Run()
    run.body.arrival = Arrival(available_bytes=123)

    async def scenario() -> None:
        for _ in range(8):
            run.start()
            await asyncio.sleep(2.0)
        told = run.reported[0]
        assert isinstance(told, Responded)
        assert told.holder == NEAR._replace(condition=Condition(in_flight=61))
        assert run.policy.pace.hedge_s() == make_policy().pace.hedge_s()

    play(run, scenario)


def test_hedge_is_counted() -> None:
    run = Run()

    async def scenario() -> None:
        run.start(hedge=True)
        assert total(run.metrics.expose(), "hedges_total") == 1

    play(run, scenario)


def test_bug_in_an_attempt_is_reported_and_not_lost() -> None:
    run = Run(error=ZeroDivisionError("a bug"))

    async def scenario() -> None:
        run.start()
        await asyncio.sleep(2.0)
        (crashed,) = run.reported
        assert isinstance(crashed, Crashed)
        assert crashed.error is run.error

    play(run, scenario)


def test_closing_ends_what_is_under_way() -> None:
    run = Run(takes_s=100.0)

    async def scenario() -> None:
        run.start()
        await asyncio.sleep(0.1)
        assert len(other_tasks()) == 1

    play(run, scenario)
    assert run.reported == []


@pytest.mark.parametrize(
    ("failure", "silent"),
    [
        *((failure, True) for failure in (Failure.UNREACHABLE, Failure.SILENT)),
        *((failure, False) for failure in Failure if not failure.is_silence),
    ],
)
def test_only_a_peer_from_which_nothing_came_does_not_answer(failure: Failure, silent: bool) -> None:
    run = Run(error=AttemptFailed(failure, "words"))
    regard = run.policy.regard
    regard.members_changed([NEAR.node])

    async def scenario() -> None:
        regard.unanswered(NEAR.node, "no reply", loop_clock())
        run.start()
        await asyncio.sleep(2.0)
        # A source that had nothing more for this node may be well, or may have died meanwhile.
        proves_nothing = failure.is_own or failure is Failure.STARVED
        assert (regard.silence(NEAR.node) is not None) is (silent or proves_nothing), "it was silent before"
        noted = regard.failure(NEAR.node)
        assert noted is not None
        blames_nobody = failure.is_own or failure in INNOCENT
        assert noted.words == ("no reply" if blames_nobody else "words")
        assert (regard.own_failure is not None) is failure.is_own

    play(run, scenario)


def test_only_a_holder_that_is_known_to_be_fetching_it_may_keep_this_node_waiting() -> None:
    run = Run()

    async def main() -> None:
        run.start()
        run.start(holder=NEAR._replace(condition=Condition(in_flight=10)))
        await asyncio.sleep(0)
        await run.attempts.close()

    run_in_virtual_time(main())
    assert run.waits == [False, True]


def told(run: Run) -> list[tuple[str, str, str]]:
    """The steps: the holder, what came of it, and why."""
    return [(str(entry.node), entry.outcome, entry.why) for entry in run.attempts.steps.entries()]


def test_step_of_an_attempt_says_what_came_of_it() -> None:
    failed, left, slow, answered = Run(error=AttemptFailed(Failure.BUSY, "no room")), Run(), Run(), Run()
    answered.body.request = "0123456789abcdef"  # type: ignore[assignment]
    answered.body.connect_s = 0.0045

    async def scenario() -> None:
        for run in (failed, left, slow, answered):
            run.start()
        await asyncio.sleep(0.5)
        left.abandon(client_left=True)
        slow.abandon(Failure.SILENT)
        await asyncio.sleep(1.0)

    play(failed, scenario)
    name = str(NEAR.node)
    assert told(failed) == [(name, "failed", "busy: no room")]
    assert told(left) == [(name, "left", "")]
    assert told(slow) == [(name, "timeout", "no first byte")]
    assert told(answered) == [(name, "ok", "connected in 4.5 ms")]
    (entry,) = answered.attempts.steps.entries()
    assert (entry.kind, entry.seconds, entry.request) == ("headers", 1.0, "0123456789abcdef")


def test_attempt_beside_a_slower_one_is_a_hedge_and_the_slower_one_lost() -> None:
    run = Run(takes_s=1.0)

    async def scenario() -> None:
        run.start()
        await asyncio.sleep(0.25)
        run.takes_s = 0.1
        run.attempts.start(Fetch(attempt=2, holder=NEAR, hedge=True), WANTED)
        await asyncio.sleep(0.2)
        assert run.attempts.body(2)
        run.abandon()

    play(run, scenario)
    name = str(NEAR.node)
    assert told(run) == [(name, "lost", ""), (name, "ok", "hedge after 250 ms")]
    assert [entry.hedge for entry in run.attempts.steps.entries()] == [False, True]


def test_answer_that_came_second_lost_too() -> None:
    run = Run(takes_s=0.1)

    async def scenario() -> None:
        run.start()
        run.attempts.start(Fetch(attempt=2, holder=NEAR), WANTED)
        await asyncio.sleep(0.2)
        assert run.attempts.body(2)
        run.abandon()

    play(run, scenario)
    assert [outcome for _, outcome, _ in told(run)] == ["lost", "ok"]


def test_fetch_behind_the_beginning_is_a_resume() -> None:
    run = Run(takes_s=0.1)

    async def scenario() -> None:
        run.attempts.start(Fetch(attempt=1, holder=NEAR, offset=500), WANTED)
        await asyncio.sleep(0.2)

    play(run, scenario)
    assert [entry.resume for entry in run.attempts.steps.entries()] == [True]
