"""What it means that peers answer or not."""

import dataclasses
from typing import Any

from agent.documents.reach import ReachDocument, ReachEntry
from agent.preflight.check import Check, Status
from agent.preflight.gather import Unknown
from agent.preflight.reach import BACK, NAMES, OUT, peers_reached

WELL = ReachEntry(node="p", address="10.0.0.2:30020", reached=True, returns=True)


def entry(name: str, **changes: Any) -> ReachEntry:
    return dataclasses.replace(WELL, node=name, **{"called": name, **changes})


def judged(*asked: ReachEntry) -> dict[str, Check]:
    document = ReachDocument(time="t", node="own", peers=40, asked=asked)
    return {check.name: check for check in peers_reached(document, 30020)}


def test_peers_that_answer_both_ways_are_two_good_lines() -> None:
    checks = judged(entry("a"), entry("b"))
    assert {name: check.status for name, check in checks.items()} == {OUT: Status.GOOD, BACK: Status.GOOD}
    assert checks[OUT].detail == "this node reaches 2 of 2 asked, 40 in all"


def test_a_syn_without_an_answer_is_a_policy_or_a_firewall_and_a_refusal_a_missing_agent() -> None:
    silent = entry("a", reached=False, returns=None, called=None, kind="silent", how="no answer within 2 s")
    checks = judged(silent, entry("b"))
    assert checks[OUT].status is Status.WARN
    assert "a at 10.0.0.2:30020 (no answer within 2 s)" in checks[OUT].detail
    assert "a NetworkPolicy, a firewall or a security group" in checks[OUT].hint
    refused = dataclasses.replace(silent, kind="refused", how="connection refused")
    assert "does the agent run there" in judged(refused, entry("b"))[OUT].hint
    own = dataclasses.replace(silent, kind="own", how="too many open files")
    assert "this node itself" in judged(own, entry("b"))[OUT].hint
    no_tls = dataclasses.replace(silent, kind="no_tls", how="its certificate has expired")
    assert "peering.tls" in judged(no_tls, entry("b"))[OUT].hint


def test_no_peer_at_all_is_bad() -> None:
    checks = judged(entry("a", reached=False, returns=None, called=None, kind="other", how="no route"))
    assert checks[OUT].status is Status.BAD
    assert checks[BACK].status is Status.UNKNOWN


def test_peers_that_do_not_reach_this_node_are_told_with_its_port() -> None:
    deaf = {"returns": False, "returned_kind": "silent", "returned": "no answer within 2 s"}
    assert judged(entry("a", **deaf), entry("b"))[BACK].status is Status.WARN
    check = judged(entry("a", **deaf), entry("b", **deaf))[BACK]
    assert check.status is Status.BAD
    assert "Allow TCP to port 30020 of this node from all nodes" in check.hint


def test_peers_that_can_not_say_it_are_no_success() -> None:
    check = judged(entry("a", returns=None, returned="it does not know the question"))[BACK]
    assert check.status is Status.UNKNOWN
    assert "it does not know the question" in check.detail


def test_two_agents_with_one_name_are_named() -> None:
    check = judged(entry("a", called="own"), entry("b"))[NAMES]
    assert check.status is Status.BAD
    assert "own is the name of the agent at 10.0.0.2:30020 (listed as a), and so is this node" in check.detail
    check = judged(entry("a", called="c"), entry("b", called="c"))[NAMES]
    assert "(listed as a)" in check.detail
    assert "(listed as b)" in check.detail


def test_a_node_without_peers_is_well_and_its_own_entry_is_none() -> None:
    assert judged()[OUT].status is Status.GOOD
    assert judged(entry("a", own=True, called="own"))[OUT].detail.startswith("there are no peers")


def test_an_agent_that_could_not_be_asked_is_no_success() -> None:
    assert [check.status for check in peers_reached(Unknown(why="x"), 1)] == [Status.UNKNOWN] * 2
