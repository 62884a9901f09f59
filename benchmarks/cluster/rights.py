"""The rights that a person needs for the benchmark, and what to say when one is missing. Pure.

All are in the release's namespace but the one to list nodes. Whoever may make Jobs in that namespace may do
what root may on every node: that is what its privileged pods mean, with or without this benchmark.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """``namespace``: whether it is one in the release's namespace, not in the cluster."""

    verb: str
    resource: str
    group: str = ""
    namespaced: bool = True

    @property
    def words(self) -> str:
        """As a person says it."""
        return f"{self.verb} {self.resource}" + ("" if self.namespaced else " (in the whole cluster)")


RIGHTS = (
    Right(verb="list", resource="daemonsets", group="apps"),
    Right(verb="list", resource="nodes", namespaced=False),
    Right(verb="list", resource="pods"),
    Right(verb="get", resource="pods/log"),
    Right(verb="list", resource="jobs", group="batch"),
    Right(verb="create", resource="jobs", group="batch"),
    Right(verb="delete", resource="jobs", group="batch"),
    Right(verb="list", resource="events"),
)


def review(right: Right, namespace: str) -> dict[str, Any]:
    """The question whether one has a right, which everybody may ask."""
    resource, _, part = right.resource.partition("/")
    attributes = {"verb": right.verb, "group": right.group, "resource": resource}
    if part:
        attributes["subresource"] = part
    if right.namespaced:
        attributes["namespace"] = namespace
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }


def allowed(answer: dict[str, Any]) -> bool:
    """The answer to `review`."""
    return (answer.get("status") or {}).get("allowed") is True


def missing_words(missing: Sequence[Right], namespace: str) -> str:
    """Which rights are missing."""
    return f"you may not, in namespace {namespace}: " + "; ".join(right.words for right in missing)


HINT = "docs/benchmarks.md, “On your own cluster”, has a Role and a ClusterRole that grant them"
