"""One pull's question whose turn it is: what is granted is used once, or given back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from agent.config import ColdStartSettings
from agent.holders.claimant import Answer, Outcome
from agent.holders.claims import ClaimKey, Held
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.observe.steps import Steps
from agent.oci.reference import Addressed, Kind, Repository
from agent.oci.registry import Registry
from agent.pull.events import AskClaim, ClaimAnswered, Event, Turn
from agent.transfer.answers import FetchRequest
from agent.transfer.attempts import Attempts, Crashed
from agent.transfer.peers import PeerBody
from agent.transfer.turns import OwnTurn
from tests.unit.twins import loop_clock, make_policy, node, placed, run_in_virtual_time, sha256
from topology.placement import NodeName, Tier
from topology.ranking import Ranked

TARGET = Addressed(
    registry=Registry("registry.test"), repository=Repository("app"), kind=Kind.BLOB, digest=sha256("blob")
)
A = Ranked(node=node("a"), tier=Tier.ZONE, rank=1)
ASK = AskClaim(offset=5, wait_s=20.0)


@dataclass
class Arbiter:
    """Gives one answer, after a while. Records what it was asked, and what became of the claim."""

    answer: Answer
    after_s: float = 1.0
    settings: ColdStartSettings = field(default_factory=ColdStartSettings)
    asked: list[tuple[int, float, NodeName | None]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def key_of(self, target: Addressed) -> ClaimKey:
        return ClaimKey(target.digest)

    def has(self, key: ClaimKey) -> bool:
        return "used" in self.said

    async def ask(
        self, key: ClaimKey, *, beyond_bytes: int, wait_s: float, despite: NodeName | None = None
    ) -> Answer:
        self.asked.append((beyond_bytes, wait_s, despite))
        try:
            await asyncio.sleep(self.after_s)
        except asyncio.CancelledError:
            self.said.append("left")
            raise
        return self.answer

    def use(self, key: ClaimKey) -> None:
        self.said.append("used")

    def give_back(self, key: ClaimKey) -> None:
        self.said.append("given back")


async def never(_: Ranked, __: FetchRequest) -> PeerBody:
    raise AssertionError("nothing is fetched here")


@asynccontextmanager
async def turn_of(
    arbiter: Arbiter, steps: Steps | None = None
) -> AsyncIterator[tuple[OwnTurn, "asyncio.Queue[Event | Crashed]"]]:
    events: asyncio.Queue[Event | Crashed] = asyncio.Queue()
    attempts = Attempts(
        fetch=never,
        report=events.put_nowait,
        policy=make_policy(),
        snapshot=lambda: Roster(own=node("own"), placement=placed("r", "z")).snapshot,
        metrics=Metrics(),
        clock=loop_clock,
    )
    turn = OwnTurn(
        arbiter,
        TARGET,
        attempts=attempts,
        rank=lambda held: tuple(A for source in held.sources if source == A.node),
        report=events.put_nowait,
        steps=steps,
    )
    yield turn, events
    turn.close()
    await attempts.close()


GRANTED = Answer(outcome=Outcome.GRANTED)


def test_own_turn_is_used_when_the_client_goes_to_the_registry() -> None:
    async def scene() -> None:
        arbiter = Arbiter(GRANTED)
        async with turn_of(arbiter) as (turn, events):
            turn.ask(ASK, 17)
            assert await events.get() == ClaimAnswered(turn=Turn.OWN)
            assert "this node's turn" in turn.words
            turn.to_the_registry()
            turn.to_the_registry()
            assert turn.begun
        assert arbiter.asked == [(17, 20.0, None)]
        assert arbiter.said == ["used"]

    run_in_virtual_time(scene())


@pytest.mark.parametrize("delivers", [True, False])
def test_own_turn_that_is_of_no_use_is_given_back_once(*, delivers: bool) -> None:
    async def scene() -> None:
        arbiter = Arbiter(GRANTED)
        async with turn_of(arbiter) as (turn, events):
            turn.ask(ASK, 0)
            await events.get()
            if delivers:
                turn.delivering(far=False)
        assert arbiter.said == ["given back"]

    run_in_virtual_time(scene())


def test_node_that_brings_it_from_another_zone_keeps_its_turn_so_that_its_zone_follows_it() -> None:
    async def scene() -> None:
        arbiter = Arbiter(GRANTED)
        async with turn_of(arbiter) as (turn, events):
            turn.ask(ASK, 0)
            await events.get()
            turn.delivering(far=True)
        assert arbiter.said == ["used"]

    run_in_virtual_time(scene())


def test_new_question_ends_the_one_before() -> None:
    async def scene() -> None:
        arbiter = Arbiter(GRANTED)
        async with turn_of(arbiter) as (turn, events):
            turn.ask(ASK, 0)
            await asyncio.sleep(0.5)
            turn.ask(ASK, 0)
            await asyncio.sleep(2.0)
        assert arbiter.said == ["left", "given back"]
        assert events.qsize() == 1

    run_in_virtual_time(scene())


@pytest.mark.parametrize("delivers", [True, False])
def test_question_that_is_of_no_use_any_more_ends(*, delivers: bool) -> None:
    async def scene() -> None:
        arbiter = Arbiter(GRANTED)
        async with turn_of(arbiter) as (turn, events):
            turn.ask(ASK, 0)
            await asyncio.sleep(0.5)
            if delivers:
                turn.delivering(far=False)
        assert arbiter.said == ["left"]
        assert events.empty()

    run_in_virtual_time(scene())


@pytest.mark.parametrize("complete", [True, False])
def test_turn_of_another_node_leads_to_whom_this_pull_may_fetch_from(*, complete: bool) -> None:
    async def scene() -> None:
        held = Held((node("shunned"), A.node), 9, complete)
        arbiter = Arbiter(Answer(outcome=Outcome.FOLLOWED, held=held))
        async with turn_of(arbiter) as (turn, events):
            turn.ask(ASK, 0)
            assert await events.get() == ClaimAnswered(turn=Turn.OTHER, holders=(A,), complete=complete)
            assert turn.followed
        assert arbiter.said == []

    run_in_virtual_time(scene())


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.ALONE, Outcome.REFUSED])
def test_all_else_is_nobodys_turn(outcome: Outcome) -> None:
    async def scene() -> None:
        arbiter = Arbiter(Answer(outcome=outcome))
        async with turn_of(arbiter) as (turn, events):
            turn.ask(ASK, 0)
            assert await events.get() == ClaimAnswered(turn=Turn.NOBODYS)
            turn.to_the_registry()
        assert arbiter.said == []

    run_in_virtual_time(scene())


@pytest.mark.parametrize(
    ("answer", "outcome", "whose"),
    [
        (GRANTED, "granted", None),
        (
            Answer(
                outcome=Outcome.FOLLOWED,
                held=Held(sources=(A.node,), available_bytes=7, complete=False),
            ),
            "ok",
            "a",
        ),
        (Answer(outcome=Outcome.TIMEOUT), "timeout", None),
        (Answer(outcome=Outcome.REFUSED), "none", None),
        (Answer(outcome=Outcome.ALONE), "none", None),
    ],
    ids=lambda each: each.outcome.value if isinstance(each, Answer) else "",
)
def test_wait_for_a_turn_is_a_step_that_says_what_came_of_it(
    answer: Answer, outcome: str, whose: str | None
) -> None:
    async def scene() -> None:
        steps = Steps(loop_clock)
        async with turn_of(Arbiter(answer, after_s=3.0), steps) as (turn, events):
            turn.ask(ASK, 17)
            await events.get()
        (entry,) = steps.entries()
        assert (entry.kind, entry.seconds, entry.outcome, entry.node) == ("claim", 3.0, outcome, whose)
        assert entry.why

    run_in_virtual_time(scene())


def test_wait_that_is_of_no_use_any_more_ends_its_step() -> None:
    async def scene() -> None:
        steps = Steps(loop_clock)
        async with turn_of(Arbiter(GRANTED, after_s=30.0), steps) as (turn, _):
            turn.ask(ASK, 17)
            await asyncio.sleep(2.0)
            turn.delivering(far=False)
            await asyncio.sleep(5.0)
        (entry,) = steps.entries()
        assert (entry.seconds, entry.outcome) == (2.0, "left")

    run_in_virtual_time(scene())
