"""What becomes of a Job's pod, as the API server tells it, in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from benchmarks.cluster.wire import printable


class Phase(Enum):
    """How far a pod is."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """A pod. ``why``: what it waits for, or why it ended, in words; empty: nothing is known to be wrong.

    ``hopeless``: it will not run, whatever one waits.
    """

    name: str
    phase: Phase
    why: str = ""
    hopeless: bool = False


_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_HOPELESS = (*_PULL, "CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_ENDED = ("Succeeded", "Failed")


def by_job(listed: Mapping[str, Any]) -> dict[str, PodState]:
    """The pods of a list by their Jobs. Of two pods of a Job the one that was made first counts."""
    found: dict[str, PodState] = {}
    pods = sorted(listed.get("items") or (), key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        job = labels.get("job-name") or labels.get("batch.kubernetes.io/job-name")
        if job:
            found.setdefault(job, state(pod))
    return found


def state(pod: Mapping[str, Any]) -> PodState:
    """How far a pod is, and why."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    containers = status.get("containerStatuses") or ()
    current = (containers[0].get("state") or {}) if containers else {}
    if status.get("phase") in _ENDED:
        return PodState(name=name, phase=Phase.ENDED, why=_end(status, current.get("terminated") or {}))
    if "running" in current or "terminated" in current:
        return PodState(name=name, phase=Phase.RUNNING)
    waiting = current.get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _HOPELESS:
        return PodState(
            name=name,
            phase=Phase.WAITING,
            why=_said(reason, waiting.get("message")),
            hopeless=reason != "ErrImagePull",
        )
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return PodState(
                name=name, phase=Phase.WAITING, why=_said("not scheduled", condition.get("message"))
            )
    return PodState(name=name, phase=Phase.WAITING, why=_said(reason, waiting.get("message")))


def _end(status: Mapping[str, Any], terminated: Mapping[str, Any]) -> str:
    if status.get("reason"):  # Evicted, DeadlineExceeded, NodeLost
        return _said(status["reason"], status.get("message"))
    if not terminated or terminated.get("exitCode") == 0:
        return ""
    if terminated.get("reason") == "OOMKilled":
        return "it ran out of memory (OOMKilled)"
    return _said(f"exit status {terminated.get('exitCode')}", terminated.get("message"))


def _said(reason: str, message: object) -> str:
    words = printable(message)[:400].strip() if isinstance(message, str) else ""
    return ": ".join(part for part in (reason, words) if part)


def refusals(events: Mapping[str, Any]) -> dict[str, str]:
    """Why Jobs have no pod, from the events about them: a quota, a policy, a webhook. By the Job's name."""
    found: dict[str, str] = {}
    for event in events.get("items") or ():
        about = event.get("involvedObject") or {}
        if about.get("kind") == "Job" and event.get("reason") == "FailedCreate":
            found[str(about.get("name"))] = printable(str(event.get("message", "")))[:600]
    return found


def hint_for(why: str) -> str:
    """What a person can do about a pod that does not run."""
    lowered = why.lower()
    if "podsecurity" in lowered or "pod security" in lowered:
        return "the namespace must let pods be privileged, as for the agents: is it the release's namespace?"
    if "quota" in lowered:
        return "the namespace's ResourceQuota is used up: raise it, or name fewer --nodes"
    if any(word.lower() in lowered for word in _PULL):
        return "the node can't pull the agents' image: is its imagePullSecret good, and the registry up?"
    if "not scheduled" in lowered:
        return "the node has no room for 100m of processor and 64 MiB, or a taint that is not tolerated"
    if "no module named" in lowered:
        return "the agents' image is older than this command: upgrade the release, or use its own version"
    return "`kubectl describe` of the pod may say more"
