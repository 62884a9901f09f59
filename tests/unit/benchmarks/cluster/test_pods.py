"""What becomes of a pod, in the words of Kubernetes, and what to do about it."""

from typing import Any

import pytest

from benchmarks.cluster.pods import Phase, by_job, hint_for, refusals, state


def pod(phase: str = "Pending", container: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    containers = [{"name": "bench", "state": container}] if container else []
    return {
        "metadata": {"name": "p", "labels": {"job-name": "j"}},
        "status": {"phase": phase, "containerStatuses": containers, **status},
    }


@pytest.mark.parametrize(
    ("found", "phase", "why", "hopeless"),
    [
        (pod(), Phase.WAITING, "", False),
        (
            pod(container={"waiting": {"reason": "ContainerCreating"}}),
            Phase.WAITING,
            "ContainerCreating",
            False,
        ),
        (
            pod(container={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
            Phase.WAITING,
            "ImagePullBackOff: no such image",
            True,
        ),
        (
            pod(container={"waiting": {"reason": "ErrImagePull", "message": "try again"}}),
            Phase.WAITING,
            "ErrImagePull: try again",
            False,
        ),
        (
            pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]),
            Phase.WAITING,
            "not scheduled: 0/3 nodes",
            False,
        ),
        (pod("Running", {"running": {}}), Phase.RUNNING, "", False),
        (pod("Succeeded", {"terminated": {"exitCode": 0}}), Phase.ENDED, "", False),
        (pod("Failed", {"terminated": {"exitCode": 3}}), Phase.ENDED, "exit status 3", False),
        (
            pod("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            Phase.ENDED,
            "it ran out of memory (OOMKilled)",
            False,
        ),
        (
            pod("Failed", reason="Evicted", message="The node was low on resource: memory"),
            Phase.ENDED,
            "Evicted: The node was low on resource: memory",
            False,
        ),
        (pod("Failed", reason="DeadlineExceeded"), Phase.ENDED, "DeadlineExceeded", False),
    ],
)
def test_state_of_a_pod_is_told_in_kubernetes_words(
    found: dict[str, Any], phase: Phase, why: str, hopeless: bool
) -> None:
    told = state(found)
    assert (told.phase, told.why, told.hopeless) == (phase, why, hopeless)


def test_first_pod_of_a_job_counts_whatever_name_the_label_has() -> None:
    first, second = pod("Running", {"running": {}}), pod()
    first["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z"}
    second["metadata"] = {
        "name": "later",
        "labels": {"batch.kubernetes.io/job-name": "j"},
        "creationTimestamp": "2026-01-02T00:00:00Z",
    }
    stranger = {"metadata": {"name": "s"}, "status": {}}
    assert {job: each.name for job, each in by_job({"items": [second, first, stranger]}).items()} == {
        "j": "p"
    }


def test_refusals_are_those_of_jobs_and_of_pods_that_could_not_be_made() -> None:
    about = {"kind": "Job", "name": "j"}
    events = [
        {"involvedObject": about, "reason": "FailedCreate", "message": "exceeded\nquota"},
        {"involvedObject": about, "reason": "SuccessfulCreate", "message": "made"},
        {"involvedObject": {"kind": "Pod", "name": "p"}, "reason": "FailedCreate", "message": "no"},
    ]
    assert refusals({"items": events}) == {"j": "exceeded quota"}


@pytest.mark.parametrize(
    ("why", "what"),
    [
        ('violates PodSecurity "baseline:latest"', "privileged"),
        ("exceeded quota: q", "ResourceQuota"),
        ("ImagePullBackOff: x", "imagePullSecret"),
        ("not scheduled: 0/3 nodes", "no room"),
        ("exit status 1: No module named benchmarks", "upgrade the release"),
        ("Evicted", "kubectl describe"),
    ],
)
def test_each_reason_has_something_to_do(why: str, what: str) -> None:
    assert what in hint_for(why)
