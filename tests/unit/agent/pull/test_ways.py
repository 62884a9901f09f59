"""Ways: whose trouble it is that a peer can't be dialled."""

import errno

import pytest

from agent.pull.ways import Ways
from tests.unit.twins import node

A, B, C = node("a"), node("b"), node("c")


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES])
def test_error_that_the_network_may_have_answered_is_asked_of_the_routing_table(number: int) -> None:
    assert Ways().has_none(number, lambda: False)
    assert not Ways().has_none(number, lambda: True)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENETDOWN, errno.EINVAL, errno.EADDRNOTAVAIL])
def test_error_that_no_answer_of_the_network_becomes_is_local(number: int) -> None:
    assert Ways().has_none(number, lambda: True)


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ENOPROTOOPT, None])
def test_error_that_only_others_cause_says_nothing_of_the_ways(number: int | None) -> None:
    assert not Ways().has_none(number, lambda: False)


def test_without_a_way_to_anybody_it_is_this_nodes_trouble_however_often_it_tries() -> None:
    ways = Ways()
    assert all(ways.is_own(each, errno.ENETUNREACH) for each in (A, B, C) * 5)


def test_peer_without_a_way_while_others_are_reached_is_out_of_reach_alone() -> None:
    ways = Ways()
    assert ways.is_own(A, errno.ENETUNREACH), "perhaps all of the network is gone"
    ways.reached(B)
    assert not ways.is_own(A, errno.ENETUNREACH)
    assert not ways.is_own(A, errno.ENETUNREACH)
    assert ways.is_own(B, errno.ENETUNREACH), "of this one nothing is known"


def test_peer_that_was_reached_is_not_out_of_reach_any_more() -> None:
    ways = Ways()
    ways.is_own(A, errno.ENETUNREACH)
    ways.reached(B)
    ways.reached(A)
    assert ways.is_own(A, errno.ENETUNREACH)


def test_network_that_came_back_blames_no_peer_that_is_reached() -> None:
    ways = Ways()
    for each in (A, B, C):
        ways.is_own(each, errno.ENETUNREACH)
    for each in (A, B, C):
        ways.reached(each)
    assert all(ways.is_own(each, errno.ENETUNREACH) for each in (A, B, C))


def test_peer_not_dialled_between_two_outages_is_not_blamed_for_the_second() -> None:
    ways = Ways()
    for each in (A, B, C):
        ways.is_own(each, errno.ENETUNREACH)
    ways.reached(A)  # nobody dialled B and C
    assert ways.is_own(A, errno.ENETUNREACH), "the network is gone again"
    assert ways.is_own(B, errno.ENETUNREACH)
    ways.reached(A)
    assert not ways.is_own(B, errno.ENETUNREACH)


def test_missing_address_or_port_is_never_the_peers_trouble() -> None:
    ways = Ways()
    ways.is_own(A, errno.EADDRNOTAVAIL)
    ways.reached(B)
    assert ways.is_own(A, errno.EADDRNOTAVAIL)


def test_number_of_peers_that_are_remembered_is_bounded() -> None:
    ways = Ways()
    ways.is_own(A, errno.ENETUNREACH)
    ways.reached(B)
    assert not ways.is_own(A, errno.ENETUNREACH)
    for number in range(10_000):
        ways.is_own(node(f"n{number}"), errno.ENETUNREACH)
    assert ways.is_own(A, errno.ENETUNREACH), "forgotten"
