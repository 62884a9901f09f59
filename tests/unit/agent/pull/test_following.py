"""What a pull goes through with holders that are still fetching the content."""

import pytest

from agent.pull.events import Failure
from agent.pull.following import Following, as_follower, is_in_flight, stall_s
from tests.unit.agent.pull.playbook import ranked
from topology.ranking import Condition

HELD, ARRIVING = ranked("held"), ranked("arriving", condition=Condition(in_flight=0))
OF_THE_CHAIN = (Failure.SILENT, Failure.SLOW, Failure.BROKEN)


def test_holder_of_which_a_part_is_known_is_in_flight_even_if_that_is_nothing_yet() -> None:
    assert is_in_flight(ARRIVING)
    assert not is_in_flight(HELD)


@pytest.mark.parametrize("failure", Failure)
def test_silence_slowness_and_a_short_body_say_nothing_about_a_step_of_the_chain(failure: Failure) -> None:
    meant = as_follower(failure)
    assert meant is (Failure.STARVED if failure in OF_THE_CHAIN else failure)
    assert not (failure in OF_THE_CHAIN and meant.is_peers_fault)


def test_each_step_of_the_chain_is_waited_for_a_little_longer_up_to_a_bound() -> None:
    waits = [stall_s(3.0, depth) for depth in (0, 1, 2, 3, 4, 5, 1000)]
    assert waits == [3.0, 4.0, 5.0, 6.0, 7.0, 7.0, 7.0]


def test_holder_that_sends_on_is_come_back_to_once() -> None:
    following = Following()
    assert following.sent_on(HELD)
    assert not following.sent_on(HELD)
    assert following.sharing == {"held"}


def test_pull_is_sent_on_sixteen_times_at_most() -> None:
    following = Following()
    went = [following.sent_on(ranked(f"n{number}")) for number in range(1000)]
    assert went == [True] * 16 + [False] * 984


def test_holder_that_is_not_ahead_is_asked_again_three_times_and_all_of_them_sixteen_times() -> None:
    following = Following()
    assert [following.not_ahead(ARRIVING, begun=False) for _ in range(5)] == [True] * 3 + [False] * 2
    others = (ranked(f"n{number}") for number in range(100))
    assert sum(following.not_ahead(other, begun=False) for other in others) == 11


def test_one_that_is_not_ahead_of_a_body_that_began_is_not_asked_again() -> None:
    assert not Following().not_ahead(ARRIVING, begun=True)


def test_slow_holder_in_flight_is_left_for_a_complete_one_whose_link_is_not_taken() -> None:
    following = Following()
    assert following.may_replace(HELD)
    assert not following.may_replace(ARRIVING)
    following.sent_on(HELD)
    assert not following.may_replace(HELD)
