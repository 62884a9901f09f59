"""The steps of a request tell where its time went, and how many of its bytes came with which step."""

from dataclasses import dataclass

from agent.observe.steps import STEPS_MAX, Outcome, StepKind, Steps, held_words
from tests.unit.twins import node
from topology.placement import Tier

BYTES, HEADERS, LOOKUP = StepKind.BYTES, StepKind.HEADERS, StepKind.LOOKUP


@dataclass
class Clock:
    """A clock that goes on when it is told."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def begun() -> tuple[Clock, Steps]:
    clock = Clock()
    return clock, Steps(clock)


def test_step_says_when_it_began_how_long_it_took_and_what_came_of_it() -> None:
    clock, steps = begun()
    clock.now_s += 0.25
    step = steps.begin(HEADERS, node("near"), Tier.ZONE)
    clock.now_s += 0.5
    steps.end(step, Outcome.FAILED, why="busy")
    (entry,) = steps.entries()
    assert (entry.kind, entry.start_s, entry.seconds) == ("headers", 0.25, 0.5)
    assert (entry.node, entry.tier, entry.outcome, entry.why) == ("near", "zone", "failed", "busy")


def test_steps_are_in_the_order_in_which_they_began() -> None:
    clock, steps = begun()
    first, second = steps.begin(HEADERS), steps.begin(HEADERS, hedge=True)
    clock.now_s += 1
    steps.end(second)
    steps.end(first, Outcome.LOST)
    assert [(entry.outcome, entry.hedge) for entry in steps.entries()] == [("lost", False), ("ok", True)]


def test_step_under_way_says_how_long_it_takes_so_far_and_what_it_brought() -> None:
    clock, steps = begun()
    sent = [0]
    step = steps.begin(BYTES, told=lambda: sent[0])
    clock.now_s += 2
    sent[0] = 300
    (entry,) = steps.entries()
    assert (entry.outcome, entry.seconds, entry.size_bytes) == ("under_way", 2, 300)
    sent[0] = 400
    steps.end(step)
    sent[0] = 999
    (entry,) = steps.entries()
    assert (entry.outcome, entry.size_bytes) == ("ok", 400), "what comes later is another step's"


def test_a_step_ends_once() -> None:
    clock, steps = begun()
    step = steps.begin(LOOKUP)
    steps.end(step, why="first")
    clock.now_s += 1
    steps.end(step, Outcome.FAILED, why="second")
    (entry,) = steps.entries()
    assert (entry.seconds, entry.outcome, entry.why, steps.open) == (0, "ok", "first", 0)


def test_the_end_of_a_request_ends_what_is_open_and_nothing_else() -> None:
    clock, steps = begun()
    steps.end(steps.begin(LOOKUP))
    steps.begin(HEADERS)
    clock.now_s += 1
    steps.close()
    assert [(entry.outcome, entry.seconds) for entry in steps.entries()] == [("ok", 0), ("left", 1)]
    assert not steps.open


def test_steps_beyond_the_bound_are_counted_and_not_kept() -> None:
    _, steps = begun()
    for _ in range(STEPS_MAX + 3):
        steps.end(steps.begin(LOOKUP))
    assert (len(steps.entries()), steps.left_out, steps.open) == (STEPS_MAX, 3, 0)


def test_dropped_step_is_not_told() -> None:
    _, steps = begun()
    steps.drop(steps.begin(StepKind.LOCAL))
    assert (steps.entries(), steps.left_out, steps.open) == ((), 0, 0)
    for _ in range(STEPS_MAX):
        steps.end(steps.begin(LOOKUP))
    steps.drop(steps.begin(StepKind.LOCAL))
    assert (len(steps.entries()), steps.left_out, steps.open) == (STEPS_MAX, 0, 0)


def test_body_that_came_whole_with_a_head_counts_for_that_step() -> None:
    _, steps = begun()
    steps.end(steps.begin(HEADERS, node("lost")), Outcome.LOST)
    steps.end(steps.begin(HEADERS, node("near")))
    steps.end(steps.begin(LOOKUP))
    steps.gave(500)
    assert [entry.size_bytes for entry in steps.entries()] == [None, 500, None]


def test_client_that_is_waited_for_is_named_and_one_that_takes_its_bytes_is_not() -> None:
    assert held_words(0.05) is None
    assert held_words(2.5) == "for 2.5 s the client took no more, or its rate was limited"


def test_bytes_that_ended_make_what_follows_a_resume() -> None:
    _, steps = begun()
    step = steps.begin(BYTES)
    assert not steps.begun
    steps.end(step, Outcome.FAILED)
    assert steps.begun
