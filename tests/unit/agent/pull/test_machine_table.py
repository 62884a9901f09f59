"""The machine's table is correct: all that happens is in it, and all that is in it happens.

As h11's tables are, this one is executed: an event without a rule changes nothing. What is left to check is
what a rule says of the states and commands that may follow.
"""

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.pull.events import (
    PROGRESS_BYTES,
    Abandon,
    Broke,
    ClaimAnswered,
    ClientGone,
    Command,
    Commands,
    Completed,
    Deliver,
    Event,
    Failed,
    Failure,
    Fetch,
    Found,
    Gathered,
    LaneFailed,
    Limits,
    Progressed,
    Responded,
    Stripe,
    Ticked,
    Turn,
    WakeAt,
)
from agent.pull.machine import TABLE, Pull, State
from agent.pull.meter import Rate
from tests.unit.twins import node
from topology.placement import Tier
from topology.ranking import Condition, Ranked

EVENTS: tuple[type[Event], ...] = (
    Found, Responded, Failed, Broke, Progressed, LaneFailed, Gathered, Completed, ClaimAnswered,
    Ticked, ClientGone,
)  # fmt: skip
HOLDERS = tuple(
    Ranked(node=node(name), tier=tier, rank=1, condition=condition)
    for name, tier, condition in (
        ("a", Tier.ZONE, Condition()),
        ("b", Tier.ZONE, Condition()),
        ("c", Tier.REGION, Condition(cooling=True)),
        ("d", Tier.ZONE, Condition()),
    )
)
MIB = 1 << 20
SCHEDULES, STEPS = 3200, 14

Row = tuple[State, type[Event]]


def some_limits(dice: random.Random) -> Limits:
    stubborn_s = dice.choice((0.0, 0.0, 1.0))
    return Limits(
        patience_s=0.5,
        deadline_s=dice.choice((2.0, 10.0)),
        attempts_max=dice.choice((1, 2, 8)),
        stall_s=1.0,
        floor_bytes_per_s=1e5,
        floor_ratio=0.1,
        hedge_s={Tier.ZONE: 0.1},
        stripe_min_bytes=MIB,
        stubborn_s=stubborn_s,
        stubborn_begun_s=stubborn_s,
        claim_wait_s=dice.choice((0.0, 4.0)),
        claim_look_s=1.0,
    )


def some_event(dice: random.Random, offset: int, attempts: set[int], lanes: set[Ranked]) -> Event:
    """Any event with any content, possible now or not. Most are about ``attempts`` and ``lanes``."""
    attempt = dice.choice([*sorted(attempts), 99])
    lane = dice.choice(sorted(lanes, key=lambda holder: holder.node) or HOLDERS)
    failure = dice.choice(tuple(Failure))
    rate = Rate(
        bytes_per_s=dice.choice((0.0, 5e5, 5e7)),
        over_s=dice.choice((0.6, 3.0)),
        source_bound=dice.random() < 0.9,
    )
    makers: tuple[Callable[[], Event], ...] = (
        lambda: Found(holders=tuple(dice.sample(HOLDERS, dice.randrange(5))), exhaustive=dice.random() < 0.5),
        lambda: Responded(attempt=attempt),
        lambda: Failed(attempt=attempt, failure=failure, wait_s=dice.choice((0.2, 60.0))),
        lambda: Broke(failure=failure, offset=offset),
        lambda: Progressed(
            left_bytes=100 * MIB,
            rate=rate,
            expected_bytes_per_s=dice.choice((0.0, 1e9)),
            lanes_max=dice.choice((1, 3)),
        ),
        lambda: LaneFailed(
            holder=lane, failure=failure, given_bytes=2 * MIB, wait_s=dice.choice((0.2, 60.0))
        ),
        lambda: Gathered(offset=offset, useless=dice.random() < 0.5),
        lambda: Completed(given_bytes={holder.node: 2 * MIB for holder in HOLDERS}),
        lambda: ClaimAnswered(
            turn=dice.choice(tuple(Turn)), holders=tuple(dice.sample(HOLDERS, dice.randrange(3)))
        ),
        Ticked,
        ClientGone,
    )
    rare = 0.1  # the events that end a pull
    weights = (3, 3, 3, 1, 2, 1, 0.5, rare, 2, 3, rare)
    return dice.choices(makers, weights)[0]()


def ends(*, exhaustive: bool, last: Event) -> list[Event]:
    """A body from two holders, both of which fail for good before ``last``."""
    rate = Rate(bytes_per_s=5e5, over_s=0.6, source_bound=True)
    progressed = Progressed(left_bytes=100 * MIB, rate=rate, expected_bytes_per_s=0.0, lanes_max=3)
    failed = (
        LaneFailed(holder=holder, failure=Failure.INVALID, given_bytes=0, wait_s=0.0)
        for holder in HOLDERS[:2]
    )
    found = Found(holders=HOLDERS[:2], exhaustive=exhaustive)
    return [found, Responded(attempt=1), progressed, *failed, last]


LAST_WORDS: tuple[Event, ...] = (
    Gathered(offset=1, useless=False),
    Broke(failure=Failure.INVALID, offset=1),
    ClientGone(),
)
MISSED = LaneFailed(holder=HOLDERS[0], failure=Failure.MISSING, given_bytes=0, wait_s=0.0)
# Schedules that random events hardly ever play to their end.
PLAYBOOKS = [
    *(ends(exhaustive=exhaustive, last=last) for exhaustive in (True, False) for last in LAST_WORDS),
    [*ends(exhaustive=True, last=Completed())[:3], MISSED, Completed(given_bytes={node("b"): 2 * MIB})],
    [Found(holders=HOLDERS[:1], exhaustive=True), Responded(attempt=1), LAST_WORDS[1]],
    [
        Found(holders=HOLDERS[:2], exhaustive=True),
        Responded(attempt=1),
        LAST_WORDS[1],
        Failed(attempt=2, failure=Failure.INVALID),
    ],
    [*ends(exhaustive=True, last=ClientGone())[:3], Completed(given_bytes={HOLDERS[0].node: 2 * MIB})],
    *(
        [
            *ends(exhaustive=True, last=ClientGone())[:3],
            LaneFailed(holder=HOLDERS[1], failure=failure, given_bytes=0, wait_s=0.2),
        ]
        for failure in Failure
    ),
]


class Observed:
    """The states and commands that followed each event, in playbooks and in schedules with fixed seeds."""

    def __init__(self) -> None:
        self.states: dict[Row, set[State]] = {}
        self.commands: dict[Row, set[type[Command]]] = {}
        self.ignored: dict[Row, set[State]] = {}
        for events, claim_wait_s in itertools.product(PLAYBOOKS, (0.0, 4.0)):
            limits = replace(some_limits(random.Random(0)), stubborn_begun_s=0.0, attempts_max=8)
            pull = Pull(limits=replace(limits, claim_wait_s=claim_wait_s))
            pull.start(0.0)
            for event in events:
                self._tell(pull, event, 0.0)
        for seed in range(SCHEDULES):
            self._play(random.Random(seed))

    def _play(self, dice: random.Random) -> None:
        pull, now_s, offset = Pull(limits=some_limits(dice)), 0.0, 0
        attempts: set[int] = set()  # the open attempts
        lanes: set[Ranked] = set()  # the holders of a striped body that did not fail
        pull.start(now_s)
        for _ in range(STEPS):
            now_s += dice.choice((0.0, 0.01, 0.2, 0.6, 1.2, 5.0))
            offset += dice.choice((0, 1000, PROGRESS_BYTES))
            event = some_event(dice, offset, attempts, lanes)
            if isinstance(event, Failed | Responded):
                attempts.discard(event.attempt)
            elif isinstance(event, LaneFailed):
                lanes.discard(event.holder)
            for command in self._tell(pull, event, now_s):
                if isinstance(command, Fetch):
                    attempts.add(command.attempt)
                elif isinstance(command, Abandon):
                    attempts.discard(command.attempt)
                elif isinstance(command, Deliver):
                    lanes = {command.holder}
                elif isinstance(command, Stripe):
                    lanes.update(command.holders)

    def _tell(self, pull: Pull, event: Event, now_s: float) -> Commands:
        before = pull.state
        row = (before, type(event))
        commands = pull.on(event, now_s)
        kinds = {type(command) for command in commands} - {WakeAt}
        if type(event) in TABLE[before]:
            self.states.setdefault(row, set()).add(pull.state)
            self.commands.setdefault(row, set()).update(kinds)
        else:
            assert not kinds, f"{row} is not in the table and leads to {kinds}"
            self.ignored.setdefault(row, set()).add(pull.state)
        return commands


@pytest.fixture(scope="module")
def observed() -> Observed:
    return Observed()


ROWS = [(state, event) for state, rules in TABLE.items() for event in rules]
IDS = [f"{state.value}-{event.__name__}" for state, event in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_states_that_follow_are_those_of_the_table(observed: Observed, row: Row) -> None:
    state, event = row
    assert observed.states[row] == TABLE[state][event].next


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_commands_that_follow_are_those_of_the_table(observed: Observed, row: Row) -> None:
    state, event = row
    assert observed.commands[row] == TABLE[state][event].commands


def test_event_without_a_rule_changes_nothing(observed: Observed) -> None:
    assert observed.ignored, "the schedules have events that come too late"
    assert all(states == {state} for (state, _), states in observed.ignored.items())


def test_every_state_has_its_rules_and_the_end_has_none() -> None:
    assert TABLE.keys() == set(State)
    assert TABLE[State.DONE] == {}
    assert {event for rules in TABLE.values() for event in rules} == set(EVENTS)
