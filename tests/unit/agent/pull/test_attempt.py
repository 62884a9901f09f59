"""How long the holder of one attempt is waited for."""

from agent.pull.arrival import AHEAD_S
from agent.pull.attempt import Attempt
from tests.unit.agent.pull.playbook import HEDGING, LIMITS, ranked
from topology.ranking import Condition

HELD = Attempt(ranked("a"), 10.0, 0)
ARRIVING = Attempt(ranked("a", condition=Condition(in_flight=0)), 10.0, 0)


def test_holder_is_slow_after_the_patience_and_one_in_flight_after_it_may_have_waited_itself() -> None:
    assert not HELD.is_slow(LIMITS, 10.4)
    assert HELD.is_slow(LIMITS, 10.5)
    assert not ARRIVING.is_slow(LIMITS, 10.8)
    assert ARRIVING.is_slow(LIMITS, 10.5 + AHEAD_S)


def test_attempt_ends_after_the_stall_whoever_it_is() -> None:
    for attempt in (HELD, ARRIVING):
        assert not attempt.stalls(LIMITS, 12.9)
        assert attempt.stalls(LIMITS, 13.0)


def test_second_holder_is_asked_when_the_first_is_later_than_usual_but_one_in_flight_takes_its_time() -> None:
    assert HELD.hedge_at_s(HEDGING) == 10.125
    assert HELD.hedge_at_s(LIMITS) == 10.5
    assert ARRIVING.hedge_at_s(HEDGING) == 10.5 + AHEAD_S


def test_it_is_looked_at_again_when_it_is_slow_and_then_when_it_is_to_end() -> None:
    attempt = Attempt(ranked("a"), 10.0, 0)
    assert attempt.wake_s(LIMITS) == 10.5
    attempt.avoided = True
    assert attempt.wake_s(LIMITS) == 13.0
