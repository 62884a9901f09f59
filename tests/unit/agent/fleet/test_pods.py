"""Which pods are asked, how a command ended, and what a person reads of it."""

from typing import Any

import pytest

from agent.fleet.pods import AgentPod, Said, agent_pods, exit_status, next_page, nodes_without, report


def _pod(name: str, node: str | None, **metadata: object) -> dict[str, Any]:
    conditions = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]
    return {
        "metadata": {"name": name, **metadata},
        "spec": {} if node is None else {"nodeName": node},
        "status": {"conditions": conditions},
    }


def _said(node: str, **fields: Any) -> Said:
    return Said(pod=AgentPod(name=f"shorthaul-{node}", node=node), **fields)


def test_pods_come_by_node() -> None:
    listed = {"items": [_pod("p-2", "n2"), _pod("p-1", "n1")]}
    assert agent_pods(listed) == (AgentPod(name="p-1", node="n1"), AgentPod(name="p-2", node="n2"))


def test_pods_that_end_or_have_no_node_yet_are_not_asked() -> None:
    listed = {"items": [_pod("old", "n1", deletionTimestamp="2026-11-26T12:00:00Z"), _pod("new", None)]}
    assert agent_pods(listed) == ()


@pytest.mark.parametrize(
    "listed", [{}, {"items": None}, {"items": [None, 1, {}, {"metadata": [], "spec": ""}]}]
)
def test_list_that_makes_no_sense_has_no_pods(listed: dict[str, Any]) -> None:
    assert agent_pods(listed) == ()


@pytest.mark.parametrize(
    ("listed", "more"),
    [
        ({"metadata": {"continue": "abc"}}, "abc"),
        ({"metadata": {"continue": ""}}, ""),
        ({"metadata": 1}, ""),
        ({}, ""),
    ],
)
def test_rest_of_a_list_is_asked_for_until_there_is_none(listed: dict[str, Any], more: str) -> None:
    assert next_page(listed) == more


def test_pod_that_is_not_ready_is_told_whatever_the_command_says() -> None:
    listed = {
        "items": [{**_pod("p", "n1"), "status": {"conditions": [{"type": "Ready", "status": "False"}]}}]
    }
    (pod,) = agent_pods(listed)
    said = Said(pod=pod)
    assert not said.good
    assert report(["doctor"], [said]).startswith("n1 (p): the pod is not ready\n")


@pytest.mark.parametrize(
    ("status", "missing"), [({"desiredNumberScheduled": 3}, 1), ({"desiredNumberScheduled": 2}, 0), ({}, 0)]
)
def test_nodes_without_a_pod_are_counted(status: dict[str, int], missing: int) -> None:
    pods = [AgentPod(name=name, node=node) for name, node in (("a", "n1"), ("b", "n2"), ("new", "n2"))]
    assert nodes_without({"status": status}, pods) == missing


def test_report_says_how_many_nodes_have_no_pod() -> None:
    text = report(["doctor"], [_said("n1")], missing=2)
    assert text.splitlines()[0] == "Nodes without a pod, which should have one: 2."


def test_success_is_status_0() -> None:
    assert exit_status({"status": "Success"}) == (0, "")


def test_exit_status_is_among_the_causes() -> None:
    causes = [{"reason": "Other", "message": "9"}, {"reason": "ExitCode", "message": "3"}]
    assert exit_status({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}) == (
        3,
        "",
    )


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"status": "Failure"},
        {"status": "Failure", "details": {"causes": [{"reason": "ExitCode"}]}},
    ],
)
def test_end_without_an_exit_status_is_a_failure(document: object) -> None:
    assert exit_status(document)[1]


def test_failure_says_what_the_server_says() -> None:
    assert exit_status({"status": "Failure", "message": "container not found"}) == (0, "container not found")


def test_report_shows_where_something_is_wrong_with_what_was_said() -> None:
    text = report(
        ["doctor"],
        [_said("n1"), _said("n2", status=1, output="store  bad\n  hint\n"), _said("n3", failure="no answer")],
    )
    assert text.splitlines() == [
        "n2 (shorthaul-n2): exit status 1",
        "    store  bad",
        "      hint",
        "",
        "n3 (shorthaul-n3): no answer",
        "",
        "shorthaul doctor: good on 1 of 3 nodes.",
    ]


def test_report_of_thousands_names_the_rest() -> None:
    text = report(["doctor"], [_said(f"n{number}", status=1) for number in range(30)], shown_max=20)
    assert text.count("exit status 1") == 20
    assert "and 10 nodes more: n20, n21" in text


def test_no_pod_is_no_success() -> None:
    assert report(["doctor"], []) == "There is no pod of an agent."
