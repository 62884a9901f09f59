"""This node's labels from its own Node."""

import json
from collections.abc import Mapping
from typing import Any

from agent.members.kubernetes.client import Failed
from agent.members.kubernetes.node import OwnNode, node_resource
from agent.members.problems import Problems
from benchmarks.lab.apiserver import node_object
from tests.unit.agent.members.kubernetes.test_slices import RECORDED
from tests.unit.twins import node


def own_node(name: str = "k8-n1") -> tuple[OwnNode, list[Mapping[str, str]], Problems]:
    labels, problems = list[Mapping[str, str]](), Problems()
    return OwnNode(node(name), labelled=labels.append, problems=problems), labels, problems


def test_recorded_node_has_zone_and_region() -> None:
    made, labels, _ = own_node()
    made.replaced([json.loads((RECORDED / "node.json").read_text())])
    assert labels[0]["topology.kubernetes.io/zone"] == "b"
    assert labels[0]["topology.kubernetes.io/region"] == "region-1"


def test_labels_are_told_when_they_change_and_not_with_each_heartbeat() -> None:
    made, labels, _ = own_node()
    for zone in ("a", "a", "b"):
        made.changed(node_object("k8-n1", {"zone": zone}), deleted=False)
    assert [told["zone"] for told in labels] == ["a", "b"]


def test_other_nodes_deletions_and_what_is_no_node_are_ignored() -> None:
    made, labels, _ = own_node()
    made.changed(node_object("k8-n2", {"zone": "a"}), deleted=False)
    made.changed(node_object("k8-n1", {"zone": "a"}), deleted=True)
    nothing: tuple[Any, ...] = (None, [], {}, {"metadata": 7})
    for document in nothing:
        made.changed(document, deleted=False)
    assert labels == []
    made.changed({"metadata": {"name": "k8-n1", "labels": {"zone": 7, "rack": "1"}}}, deleted=False)
    assert labels == [{"rack": "1"}]


def test_refusal_is_a_problem_with_a_hint_asked_again_rarely_and_over_when_it_is_over() -> None:
    made, _, problems = own_node()
    assert made.failed(Failed("nodes is forbidden", hint="", status=403)) >= 300
    (problem,) = problems.all
    assert "node_labels" in problem.hint
    made.heard()
    assert not problems.all


def test_node_that_does_not_exist_is_a_problem_and_an_unreachable_server_none_of_its_own() -> None:
    made, _, problems = own_node()
    assert made.failed(Failed("connection refused", hint="")) == 0
    assert not problems.all
    made.failed(Failed("not found", hint="", status=404))
    assert "spec.nodeName" in problems.all[0].hint


def test_one_node_is_read_and_watched_by_its_name_and_only_its_metadata() -> None:
    resource = node_resource(node("k8-n1"))
    assert resource.first_path == "/api/v1/nodes/k8-n1"
    assert resource.selector == {"fieldSelector": "metadata.name=k8-n1"}
    assert resource.metadata_only
