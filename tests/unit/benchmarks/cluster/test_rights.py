"""The rights: docs/benchmarks.md grants just those that the command asks for."""

import re
from typing import Any

import kubernetes_validate
import yaml

from benchmarks.cluster.rights import HINT, RIGHTS, Right, allowed, missing_words, review
from tests.unit.twins import REPOSITORY_ROOT


def documented() -> list[dict[str, Any]]:
    """The manifests of docs/benchmarks.md."""
    text = (REPOSITORY_ROOT / "docs" / "benchmarks.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    return [*yaml.safe_load_all(block)]


def test_role_and_cluster_role_of_the_documentation_grant_exactly_what_is_needed() -> None:
    granted = {
        Right(verb=verb, resource=resource, group=group, namespaced=manifest["kind"] == "Role")
        for manifest in documented()
        for rule in manifest["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == set(RIGHTS)


def test_manifests_of_the_documentation_are_what_kubernetes_takes() -> None:
    for manifest in documented():
        kubernetes_validate.validate(manifest, "1.36", strict=True)


def test_question_for_a_right_is_what_kubernetes_takes_and_names_a_part_of_a_resource_apart() -> None:
    for right in RIGHTS:
        kubernetes_validate.validate(review(right, "images"), "1.36", strict=True)
    log = review(Right(verb="get", resource="pods/log"), "images")["spec"]["resourceAttributes"]
    assert (log["resource"], log["subresource"], log["namespace"]) == ("pods", "log", "images")


def test_only_a_plain_yes_is_one() -> None:
    assert allowed({"status": {"allowed": True}})
    for answer in ({}, {"status": None}, {"status": {"allowed": "true"}}, {"status": {"denied": True}}):
        assert not allowed(answer)


def test_missing_rights_are_named_and_where_to_get_them() -> None:
    words = missing_words([RIGHTS[0], RIGHTS[1]], "images")
    assert words == "you may not, in namespace images: list daemonsets; list nodes (in the whole cluster)"
    assert "On your own cluster" in HINT
