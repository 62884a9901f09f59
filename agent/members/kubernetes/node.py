"""This node's labels: its own Node is read once, and then watched by its name.

Only its metadata is asked for: a Node's status is fifty times as long and changes every five minutes. Where
the agent may not read its Node, that is said once, and its labels come from elsewhere or are missing.
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from agent.members.kubernetes.client import Failed
from agent.members.kubernetes.following import Resource
from agent.members.problems import Problem, Problems
from topology.placement import NodeName

_SOURCE = "this node's Node"
_REFUSED_S = 300.0  # thousands of agents that may not read their Nodes must not ask every minute


def node_resource(own: NodeName) -> Resource:
    """This node's own Node."""
    return Resource(
        path="/api/v1/nodes",
        kinds=frozenset({"Node"}),
        selector={"fieldSelector": f"metadata.name={own}"},
        single=quote(own, safe=""),
        metadata_only=True,
    )


class OwnNode:
    """Is told about this node's Node. ``labelled``: is called with its labels whenever they change."""

    def __init__(
        self, own: NodeName, *, labelled: Callable[[Mapping[str, str]], None], problems: Problems
    ) -> None:
        self._own = own
        self._labelled = labelled
        self._problems = problems
        self._labels: Mapping[str, str] | None = None

    def replaced(self, objects: list[Any]) -> None:
        """See `Follows.replaced`."""
        for document in objects:
            self.changed(document, deleted=False)

    def changed(self, document: Any, *, deleted: bool) -> None:
        """See `Follows.changed`.

        A Node that was deleted keeps its labels: the agent still runs where it ran.
        """
        metadata = document.get("metadata") if isinstance(document, dict) else None
        if deleted or not isinstance(metadata, dict) or metadata.get("name") != self._own:
            return
        given = metadata.get("labels")
        items = given.items() if isinstance(given, dict) else ()
        labels = {key: value for key, value in items if isinstance(key, str) and isinstance(value, str)}
        if labels != self._labels:
            self._labels = labels
            self._labelled(labels)

    def heard(self) -> None:
        """See `Follows.heard`."""
        self._problems.found(_SOURCE, ())

    def failed(self, error: Failed) -> float:
        """See `Follows.failed`. What makes every request fail is said once, by the slices."""
        if error.status == 403:
            why = f"this node's Node can't be read, so its labels are not known from there: {error}"
            hint = "grant get and watch on nodes; or set membership.kubernetes.node_labels: false"
        elif error.status == 404:
            why = f"there is no Node {self._own}: {error}"
            hint = "node.name has to be the Node's name (spec.nodeName)"
        else:
            return 0.0
        self._problems.found(_SOURCE, (Problem(node=self._own, problem=why, hint=hint),))
        return _REFUSED_S
