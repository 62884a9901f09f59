"""Agents that are not who the list says: told, and only this very process is left out."""

import asyncio
from collections.abc import Iterable

import pytest

from agent.members.identities import Identities
from agent.members.introduction import Answer, Introduction
from agent.members.member import Peer
from agent.members.problems import Problem, Problems
from agent.members.roster import Roster
from tests.unit.twins import located, node, run_in_virtual_time

TTL_S = 60.0


def peer(name: str, address: str) -> Peer:
    return Peer(name=node(name), address=address, port=30020, placement=located("r", "a"))


def said_to_be(name: str, instance: str, listener: str = "peer") -> Answer:
    return Answer(who=Introduction(name=name, instance=instance, listener=listener), how="HTTP 404")


A, B = peer("a", "10.0.0.1"), peer("b", "10.0.0.2")


class Cluster:
    """A node that knows a and b."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.roster = Roster(own=node("own"), placement=located("r", "a"))
        self.problems = Problems()
        self.identities = Identities(
            instance="mine",
            roster=self.roster,
            problems=self.problems,
            report_ttl_s=TTL_S,
            clock=lambda: self.now_s,
        )
        self.listing(A, B)

    def listing(self, *peers: Peer) -> None:
        self.roster.update({each.name: each for each in peers})

    @property
    def said(self) -> list[str]:
        return [f"{each.node}: {each.problem}" for each in self.problems.all]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_agents_that_are_who_the_list_says_are_no_problem(cluster: Cluster) -> None:
    cluster.identities.answered(A, said_to_be("a", "one"))
    cluster.identities.answered(B, said_to_be("b", "two"))
    assert cluster.said == []


def test_agent_with_another_name_than_listed_is_told_until_it_has_the_right_one(cluster: Cluster) -> None:
    cluster.identities.answered(A, said_to_be("c", "one"))
    assert cluster.said == ["a: 10.0.0.1:30020 is listed as a, but its agent calls itself 'c'"]
    assert node("a") in cluster.roster.peers
    cluster.identities.answered(A, said_to_be("a", "two"))
    assert cluster.said == []


def test_agent_with_this_nodes_name_is_told(cluster: Cluster) -> None:
    cluster.identities.answered(A, said_to_be("own", "another"))
    assert cluster.said == ["a: 10.0.0.1:30020 is listed as a, but its agent has this node's name, own"]
    assert node("a") in cluster.roster.peers


def test_entry_that_leads_to_this_node_itself_is_left_out_until_it_is_corrected(cluster: Cluster) -> None:
    cluster.identities.answered(A, said_to_be("own", "mine"))
    assert list(cluster.roster.peers) == ["b"]
    assert "leads to this node (own) itself" in cluster.said[0]
    cluster.listing(A, B)
    assert list(cluster.roster.peers) == ["b"]
    cluster.listing(peer("a", "10.0.0.7"), B)
    assert list(cluster.roster.peers) == ["a", "b"]
    assert cluster.said == []


def test_what_was_told_of_a_peer_that_left_is_over(cluster: Cluster) -> None:
    cluster.identities.answered(A, said_to_be("c", "one"))
    cluster.listing(B)
    assert cluster.said == []


@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("own", "10.9.9.9", "own: an agent at 10.9.9.9 has this node's name too"),
        ("a", "10.9.9.9", "a: an agent at 10.9.9.9 calls itself a, which is listed at 10.0.0.1:30020"),
        ("a", "10.0.0.2", "b: an agent at 10.0.0.2 calls itself a, which is listed at 10.0.0.1:30020"),
        ("c", "10.0.0.1", "a: an agent at 10.0.0.1, which is listed as a, calls itself 'c'"),
    ],
)
def test_report_in_a_name_that_is_another_agents_is_told(
    cluster: Cluster, name: str, address: str, said: str
) -> None:
    cluster.identities.reported(node(name), address)
    assert cluster.said == [said]
    assert list(cluster.roster.peers) == ["a", "b"]


def test_claim_that_a_corrected_list_confirms_is_over(cluster: Cluster) -> None:
    cluster.identities.reported(node("c"), "10.0.0.1")
    cluster.identities.reported(node("own"), "10.9.9.9")
    cluster.listing(peer("c", "10.0.0.1"), B)
    assert cluster.said == ["own: an agent at 10.9.9.9 has this node's name too"]


def test_report_of_a_node_that_is_not_listed_yet_is_no_problem(cluster: Cluster) -> None:
    cluster.identities.reported(node("new"), "10.9.9.9")
    assert cluster.said == []


def test_report_that_is_not_repeated_is_over(cluster: Cluster) -> None:
    async def main() -> None:
        task = asyncio.create_task(cluster.identities.run())
        cluster.identities.reported(node("own"), "10.9.9.9")
        cluster.now_s = TTL_S - 1
        await asyncio.sleep(20)
        assert len(cluster.said) == 1
        cluster.identities.reported(node("own"), "10.9.9.9")
        cluster.now_s = TTL_S + 1
        await asyncio.sleep(20)
        assert len(cluster.said) == 1
        cluster.now_s = 2 * TTL_S
        await asyncio.sleep(20)
        assert cluster.said == []
        task.cancel()

    run_in_virtual_time(main())


def test_thousand_claims_from_one_liar_are_bounded(cluster: Cluster) -> None:
    for number in range(1000):
        cluster.identities.reported(node("own"), f"10.1.{number // 250}.{number % 250}")
    assert len(cluster.said) <= 20
    assert list(cluster.roster.peers) == ["a", "b"]


def test_liar_at_one_address_with_all_names_of_the_list_leaves_room_for_others(cluster: Cluster) -> None:
    cluster.listing(*(peer(f"n{number}", f"10.2.0.{number}") for number in range(200)))
    for number in range(200):
        cluster.identities.reported(node(f"n{number}"), "10.9.9.9")
    assert len(cluster.said) == 4
    cluster.identities.reported(node("own"), "10.8.8.8")
    assert cluster.said[-1] == "own: an agent at 10.8.8.8 has this node's name too"


def test_agent_that_answers_as_before_is_not_told_again(cluster: Cluster) -> None:
    class CountedProblems(Problems):
        times = 0

        def found(self, source: str, problems: Iterable[Problem]) -> None:
            self.times += 1
            super().found(source, problems)

    counted = CountedProblems()
    identities = Identities(instance="mine", roster=cluster.roster, problems=counted, report_ttl_s=TTL_S)
    for _ in range(100):
        identities.answered(A, said_to_be("c", "one"))
        identities.answered(B, said_to_be("b", "two"))
    assert counted.times == 1


@pytest.mark.parametrize("listener", ["hostport", "nodeport", "admin"])
def test_listener_that_is_not_for_peers_is_told_with_its_node_and_stays_listed(
    cluster: Cluster, listener: str
) -> None:
    cluster.identities.answered(A, said_to_be("c", "one", listener))
    (problem,) = cluster.problems.all
    assert problem.problem == (
        f"10.0.0.1:30020 is listed as a, but that is no peer listener: it is c's listen.{listener}"
    )
    assert "port of listen.peer on a" in problem.hint
    assert list(cluster.roster.peers) == ["a", "b"]


def test_own_listener_that_is_not_for_peers_is_told_and_left_out(cluster: Cluster) -> None:
    cluster.identities.answered(A, said_to_be("own", "mine", "nodeport"))
    assert "it is this node's own (own) listen.nodeport" in cluster.said[0]
    assert list(cluster.roster.peers) == ["b"]


def test_what_answers_but_is_no_agent_is_told_until_it_answers_no_more(cluster: Cluster) -> None:
    cluster.identities.answered(A, Answer(who=None, how="HTTP 404 by nginx/1.27"))
    assert cluster.said == [
        "a: 10.0.0.1:30020 is listed as a, but what answers there is no shorthaul agent "
        "(it answers HTTP 404 by nginx/1.27)"
    ]
    cluster.identities.answered(A, None)
    assert cluster.said == []


def test_agent_that_is_not_who_the_list_says_is_listed_once_although_it_reports_too(cluster: Cluster) -> None:
    cluster.identities.answered(B, said_to_be("c", "one"))
    cluster.identities.reported(node("c"), "10.0.0.2")
    cluster.identities.answered(A, said_to_be("own", "two"))
    cluster.identities.reported(node("own"), "10.0.0.1")
    assert [each.partition(":")[0] for each in cluster.said] == ["b", "a"]
    cluster.identities.answered(B, None)  # it does not accept connections any more, but still reports
    assert len(cluster.said) == 2
