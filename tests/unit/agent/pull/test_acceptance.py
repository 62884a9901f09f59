"""Whose trouble it is if peers refuse this node's proof."""

from agent.pull.acceptance import Acceptance, Refused
from tests.unit.twins import node

A, B, C, D = (node(name) for name in "abcd")


def refusal(words: str = "refuses", at_s: float = 0.0, *, unlisted: bool = False) -> Refused:
    return Refused(words=words, hint="do something", at_s=at_s, since_s=at_s, unlisted=unlisted)


def among(*members: str) -> Acceptance:
    acceptance = Acceptance()
    acceptance.members_changed(node(name) for name in members)
    return acceptance


def test_refusals_of_all_are_this_node_s_own_trouble_and_blame_nobody() -> None:
    acceptance = among(A, B, C)
    for each in (A, B, C, A, B):
        assert acceptance.refused(each, refusal(f"says {each}"))
    problem = acceptance.problem(0.0)
    assert problem is not None
    assert problem.words == "c says c, and 2 more refuse it; no peer accepts it"
    assert problem.hint == "do something"
    assert [*acceptance.alone(0.0)] == []


def test_one_peer_that_refuses_alone_is_to_blame_once_another_one_accepted() -> None:
    acceptance = among(A, B, C)
    assert acceptance.refused(A, refusal())  # nobody knows yet
    assert acceptance.problem(0.0) is None  # one of three is not enough
    acceptance.accepted(B)
    assert not acceptance.refused(A, refusal("differs"))
    assert [(name, told.words) for name, told in acceptance.alone(0.0)] == [("a", "differs")]
    assert acceptance.problem(0.0) is None


def test_the_only_peer_s_refusal_is_a_problem_and_blames_nobody() -> None:
    acceptance = among(A)
    assert acceptance.refused(A, refusal())
    assert acceptance.problem(0.0) is not None
    assert acceptance.refused(A, refusal())


def test_trouble_is_over_when_a_peer_accepts_again() -> None:
    acceptance = among(A, B)
    for each in (A, B):
        acceptance.refused(each, refusal())
    assert acceptance.problem(0.0) is not None
    acceptance.accepted(A)
    assert acceptance.problem(0.0) is None
    acceptance.accepted(B)
    assert [*acceptance.alone(0.0)] == []


def test_peer_that_was_alone_is_not_blamed_when_all_refuse() -> None:
    acceptance = among(A, B, C)
    acceptance.refused(A, refusal())
    acceptance.accepted(B)
    acceptance.accepted(C)
    assert acceptance.refused(B, refusal())  # the clock of this node was set wrong
    assert acceptance.refused(A, refusal())
    assert acceptance.refused(C, refusal())
    assert acceptance.problem(0.0) is not None


def test_peer_that_does_not_list_this_node_yet_is_not_blamed_and_this_node_neither() -> None:
    acceptance = among(A, B)
    for each in (A, B):
        assert acceptance.refused(each, refusal(unlisted=True))
    assert acceptance.problem(59.0) is None
    acceptance.accepted(B)
    assert acceptance.refused(A, refusal(at_s=30.0, unlisted=True))
    assert [*acceptance.alone(31.0)] == []


def test_node_that_nobody_lists_after_a_minute_is_in_trouble() -> None:
    acceptance = among(A, B)
    for at_s in (0.0, 30.0, 59.0):
        for each in (A, B):
            acceptance.refused(each, refusal(at_s=at_s, unlisted=True))
    assert acceptance.problem(60.0) is not None


def test_same_peer_is_not_asked_again_at_once_and_later_it_is() -> None:
    acceptance = among(A, B)
    acceptance.refused(A, refusal(at_s=10.0))
    assert acceptance.refused_lately(A, 10.5) is not None
    assert acceptance.refused_lately(B, 10.5) is None
    assert acceptance.refused_lately(A, 11.0) is None


def test_peers_that_left_are_forgotten() -> None:
    acceptance = among(A, B, C)
    for each in (A, B, C):
        acceptance.refused(each, refusal())
    acceptance.members_changed([D])
    assert acceptance.problem(0.0) is None
