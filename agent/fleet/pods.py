"""The agents' pods, as the API server lists them, and what a command said in each. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPod:
    """A pod, and the node that it is on. ``ready``: whether Kubernetes takes it for ready."""

    name: str
    node: str
    ready: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command said in a pod. ``status``: its exit status. ``failure``: why it did not run, or end."""

    pod: AgentPod
    status: int = 0
    output: str = ""
    failure: str = ""

    @property
    def good(self) -> bool:
        """Whether it ran, and found nothing wrong, in a pod that is ready."""
        return self.status == 0 and not self.failure and self.pod.ready


def agent_pods(listed: Mapping[str, Any]) -> tuple[AgentPod, ...]:
    """The pods of a list that have a node and are not about to end, by node."""
    found = []
    for item in _mappings(listed.get("items")):
        metadata, spec = _mapping(item.get("metadata")), _mapping(item.get("spec"))
        name, node = metadata.get("name"), spec.get("nodeName")
        if isinstance(name, str) and isinstance(node, str) and "deletionTimestamp" not in metadata:
            found.append(AgentPod(name=name, node=node, ready=_is_ready(_mapping(item.get("status")))))
    return in_order(found)


def in_order(pods: Iterable[AgentPod]) -> tuple[AgentPod, ...]:
    """These pods by node."""
    return tuple(sorted(pods, key=lambda pod: (pod.node, pod.name)))


def next_page(listed: Mapping[str, Any]) -> str:
    """What has to be asked for to get the rest of a list. Empty: this is its end."""
    more = _mapping(listed.get("metadata")).get("continue")
    return more if isinstance(more, str) else ""


def nodes_without(daemonset: Mapping[str, Any], pods: Iterable[AgentPod]) -> int:
    """How many nodes should have a pod by the DaemonSet's own count, and have none."""
    desired = _mapping(daemonset.get("status")).get("desiredNumberScheduled")
    return max(0, desired - len({pod.node for pod in pods})) if isinstance(desired, int) else 0


def exit_status(document: object) -> tuple[int, str]:
    """The exit status in the ``Status`` with which a command ends, and why there is none, if so."""
    status = _mapping(document)
    if status.get("status") == "Success":
        return 0, ""
    for cause in _mappings(_mapping(status.get("details")).get("causes")):
        number = cause.get("message")
        if cause.get("reason") == "ExitCode" and isinstance(number, str) and number.isdecimal():
            return int(number), ""
    return 0, str(status.get("message") or "the API server does not say how the command ended")


def report(command: Sequence[str], every: Sequence[Said], *, missing: int = 0, shown_max: int = 20) -> str:
    """What a person reads: the nodes where something is wrong, with all that was said there.

    ``missing``: how many nodes have no pod.
    """
    bad = [said for said in every if not said.good]
    parts = [_section(said) for said in bad[:shown_max]]
    if len(bad) > shown_max:
        parts.append(f"and {len(bad) - shown_max} nodes more: " + ", ".join(_nodes(bad[shown_max:])))
    if missing:
        parts.append(f"Nodes without a pod, which should have one: {missing}.")
    if not every:
        parts.append("There is no pod of an agent.")
    else:
        parts.append(
            f"{' '.join(('shorthaul', *command))}: good on {len(every) - len(bad)} of {len(every)} nodes."
        )
    return "\n\n".join(parts)


def _section(said: Said) -> str:
    ended = said.failure or (f"exit status {said.status}" if said.status else "")
    why = ", ".join(part for part in ("" if said.pod.ready else "the pod is not ready", ended) if part)
    lines = "".join(f"\n    {line}" for line in said.output.rstrip().splitlines())
    return f"{said.pod.node} ({said.pod.name}): {why}{lines}"


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = _mappings(status.get("conditions"))
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _nodes(every: Iterable[Said]) -> list[str]:
    return [said.pod.node for said in every]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
