"""What the agent says of itself becomes findings."""

import pytest

from agent.documents.topology import NodeEntry, ProblemEntry, TopologyDocument
from agent.preflight.agentword import agent_parts, around, zone_label
from agent.preflight.check import Status
from agent.preflight.gather import Unknown

WELL = "[+] phase: serving\n[+] the store: 3 blobs, 0.1 GB\n[+] listen.peer: 2 connections\nready\n"


def test_a_well_agent_is_one_good_line() -> None:
    (check,) = agent_parts((200, WELL))
    assert check.status is Status.GOOD
    assert check.detail == "it serves; these parts work: the store, listen.peer"


def test_a_required_part_that_fails_is_bad_and_another_one_a_warning_with_their_advice() -> None:
    text = (
        "[+] phase: serving\n[-] the store: not there (twice (or more)) (does containerd run?)\n"
        "[!] the membership: the API server is away (see the log)\nnot ready: not there\n"
    )
    store, members = agent_parts((503, text))
    assert (store.status, store.name, store.detail, store.hint) == (
        Status.BAD, "the store", "not there (twice (or more))", "does containerd run?",
    )  # fmt: skip
    assert (members.status, members.detail, members.hint) == (
        Status.WARN, "the API server is away", "see the log",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "status"),
    [("stopping", Status.BAD), ("standing by: a newer agent of this node serves", Status.WARN)],
)
def test_an_agent_that_does_not_serve_says_its_phase(phase: str, status: Status) -> None:
    (check,) = agent_parts((503, f"[-] phase: {phase}\nnot ready: {phase}\n"))
    assert check.status is status
    assert phase in check.detail
    assert check.hint


def test_an_agent_that_does_not_answer_is_bad() -> None:
    (check,) = agent_parts(Unknown(why="no agent answers at X: connection refused"))
    assert check.status is Status.BAD
    (check,) = agent_parts((200, "hello\x1b"))
    assert (check.status, check.detail) == (Status.BAD, "what answers is no agent: 'hello?'")
    (check,) = agent_parts((503, "[+] phase: serving\nnot ready: ?\n"))
    assert check.status is Status.BAD


def entry(name: str, *placement: tuple[str, str], own: bool = False, inferred: bool = False) -> NodeEntry:
    return NodeEntry(
        name=name, own=own, placement=placement, tier="zone", cost_us=1.0, source="prior", rtt=None,
        inferred=inferred, suspect=None, cooling=False,
    )  # fmt: skip


def topology(*nodes: NodeEntry, problems: tuple[ProblemEntry, ...] = ()) -> TopologyDocument:
    return TopologyDocument(
        time="t", node="a1", age_s=0.0, levels=(), nodes=nodes, zones=(), matrix_us=(), matrix_source=(),
        problems=problems,
    )  # fmt: skip


ZONE = ("zone", "a")


@pytest.mark.parametrize(
    ("nodes", "status"),
    [
        ((entry("a1", ZONE, own=True), entry("a2", ZONE)), Status.GOOD),
        ((entry("a1", own=True), entry("a2", ZONE)), Status.WARN),
        ((entry("a1", ZONE, own=True, inferred=True), entry("a2", ZONE)), Status.WARN),
        ((entry("a1", own=True), entry("a2")), Status.GOOD),
    ],
)
def test_a_zone_is_missed_where_others_have_one(nodes: tuple[NodeEntry, ...], status: Status) -> None:
    (check,) = zone_label(topology(*nodes))
    assert check.status is status
    assert (check.hint != "") is (status is Status.WARN)


def test_the_agents_problems_are_warnings_and_bounded() -> None:
    problems = tuple(ProblemEntry(node=f"n{number}", problem="odd", hint="mend") for number in range(9))
    checks = around(topology(problems=problems))
    assert len(checks) == 7
    assert {check.status for check in checks} == {Status.WARN}
    assert checks[-1].detail == "3 more"
    assert around(Unknown(why="x")) == zone_label(Unknown(why="x")) == ()
