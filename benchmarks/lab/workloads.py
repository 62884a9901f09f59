"""Jobs, pods and their logs in the double of the API server: a controller, a scheduler and kubelets in one.

As much of Kubernetes as the cluster's benchmark asks for, and as strict where it matters: a Job that is
deleted without a propagation policy leaves its pod behind, a pod that is deleted gets SIGTERM and its grace
period, the log of a pod that does not run yet is refused with 400, a quota refuses pods and not Jobs.
Source: Kubernetes, pkg/registry/batch/job/strategy.go, pkg/controller/job; kubectl against a 1.36.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

Document = dict[str, Any]
Say = Callable[[bytes], None]
Container = Callable[[Document, Say, asyncio.Event], Awaitable[int]]
"""What a container does: it gets its pod and a way to write to its log, and ends with an exit status.

The event is set when it gets SIGTERM; it is cancelled when it is killed.
"""

_PLACES: dict[str, tuple[str, str]] = {
    "daemonsets": ("DaemonSet", "apps/v1"),
    "jobs": ("Job", "batch/v1"),
    "pods": ("Pod", "v1"),
    "nodes": ("Node", "v1"),
    "events": ("Event", "v1"),
}
_REVIEWS = "selfsubjectaccessreviews"
_REASONS = {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists", 422: "Invalid"}


@dataclass(slots=True)
class _Running:
    """A pod's container. ``over``: it ended. ``changed``: the log grew, or it ended."""

    log: bytearray = field(default_factory=bytearray)
    term: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    task: "asyncio.Task[None] | None" = None


class Workloads:
    """All workloads of a cluster. Everything may be changed while it runs.

    ``container``: what pods of Jobs do. ``forbidden``: pairs of a verb and a resource, such as ``pods/log``.
    ``refusal``: why pods can't be made, as admission says it. ``waiting``: the reason and the message with
    which containers do not start. ``grace_s``: at most, of what the manifests say. ``log_cuts``: how many
    logs break while they are read. ``lost``: nodes whose kubelet does not answer.
    """

    def __init__(self, container: Container, *, grace_s: float = 60.0) -> None:
        self.container = container
        self.forbidden: set[tuple[str, str]] = set()
        self.refusal = ""
        self.waiting: tuple[str, str] | None = None
        self.grace_s = grace_s
        self.log_cuts = 0
        self.lost: set[str] = set()
        self.objects: dict[tuple[str, str], Document] = {}
        self.made: list[Document] = []
        self.deleted: list[tuple[str, str]] = []
        self._running: dict[str, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)

    def put(self, resource: str, document: Document) -> None:
        """Have an object."""
        self.objects[resource, document["metadata"]["name"]] = document

    def of(self, resource: str) -> list[Document]:
        """All objects of a kind."""
        return [document for (kind, _), document in self.objects.items() if kind == resource]

    async def close(self) -> None:
        """Kill everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """The answer to a request. None: it is about something else."""
        resource, name, part = _target(request.path)
        if resource == _REVIEWS:
            return self._reviewed(await request.json())
        if resource not in _PLACES:
            return None
        verb = {"GET": "get" if name else "list", "POST": "create", "DELETE": "delete"}[request.method]
        asked = f"{resource}/{part}" if part else resource
        if (verb, asked) in self.forbidden:
            return _refused(403, f'{asked} is forbidden: User "ann" cannot {verb} resource "{asked}"')
        if part == "log":
            return await self._log(request, name)
        match verb:
            case "list":
                return self._listed(resource, dict(request.query))
            case "create":
                return self._created(resource, await request.json())
            case "delete":
                return self._removed(resource, name, dict(request.query))
        found = self.objects.get((resource, name))
        if found is None:
            return _refused(404, f'{resource} "{name}" not found')
        return web.json_response({"kind": _PLACES[resource][0], "apiVersion": _PLACES[resource][1], **found})

    def _reviewed(self, review: Document) -> web.Response:
        asked = review["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        allowed = (asked["verb"], resource) not in self.forbidden
        return web.json_response({**review, "status": {"allowed": allowed}}, status=201)

    def _listed(self, resource: str, query: dict[str, str]) -> web.Response:
        kind, version = _PLACES[resource]
        items = [each for each in self.of(resource) if _selected(each, query)]
        first, most = int(query.get("continue", "0")), int(query.get("limit", "0")) or len(items)
        metadata = {"resourceVersion": "1"}
        if first + most < len(items):
            metadata["continue"] = str(first + most)
        page = items[first : first + most]
        return web.json_response(
            {"kind": f"{kind}List", "apiVersion": version, "metadata": metadata, "items": page}
        )

    def _created(self, resource: str, document: Document) -> web.Response:
        name = document["metadata"]["name"]
        if resource != "jobs":
            return _refused(400, "the double makes Jobs only")
        if (resource, name) in self.objects:
            return _refused(409, f'jobs.batch "{name}" already exists')
        if len(name) > 63:
            return _refused(422, f'Job.batch "{name}" is invalid: metadata.name: must be no more than 63')
        self.made.append(json.loads(json.dumps(document)))
        document["metadata"] |= {"creationTimestamp": _now(), "uid": f"uid-{name}"}
        document["status"] = {"active": 1}
        self.put("jobs", document)
        self._spawn(self._control(document))
        return web.json_response(document, status=201)

    def _removed(self, resource: str, name: str, query: dict[str, str]) -> web.Response:
        if (resource, name) not in self.objects:
            return _refused(404, f'{resource} "{name}" not found')
        self.deleted.append((resource, name))
        del self.objects[resource, name]
        if resource == "jobs" and query.get("propagationPolicy") in ("Background", "Foreground"):
            for pod in self._pods_of(name):
                self._spawn(self._end(pod))
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _pods_of(self, job: str) -> list[Document]:
        return [pod for pod in self.of("pods") if pod["metadata"]["labels"].get("job-name") == job]

    async def _control(self, job: Document) -> None:
        """What the Job controller does: make a pod, and end it when its time is over."""
        name, spec = job["metadata"]["name"], job["spec"]
        if self.refusal:
            self.put("events", _event(name, f"Error creating: {self.refusal}"))
            return
        pod = self._pod(name, spec["template"])
        self.put("pods", pod)
        ending = self._spawn(self._serve(pod))
        done, _ = await asyncio.wait({ending}, timeout=spec["activeDeadlineSeconds"])
        if not done:
            await self._end(pod)
            job["status"] = {"conditions": [_condition("Failed", "DeadlineExceeded")]}
            return
        good = pod["status"]["phase"] == "Succeeded"
        ended = _condition("Complete") if good else _condition("Failed", "BackoffLimitExceeded")
        job["status"] = {"conditions": [ended]}
        await asyncio.sleep(spec["ttlSecondsAfterFinished"])
        self.objects.pop(("jobs", name), None)
        self.objects.pop(("pods", pod["metadata"]["name"]), None)

    def _pod(self, job: str, template: Document) -> Document:
        labels = {**template["metadata"]["labels"], "job-name": job, "batch.kubernetes.io/job-name": job}
        pod = {
            "metadata": {
                "name": f"{job}-{next(self._numbers):05}",
                "labels": labels,
                "creationTimestamp": _now(),
            },
            "spec": json.loads(json.dumps(template["spec"])),
            "status": {"phase": "Pending"},
        }
        affinity = template["spec"]["affinity"]["nodeAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        (node,) = term["matchFields"][0]["values"]
        if ("nodes", node) in self.objects:
            pod["spec"]["nodeName"] = node
        return pod

    async def _serve(self, pod: Document) -> None:
        """What a scheduler and a kubelet do with a pod, until it ends."""
        name, node = pod["metadata"]["name"], pod["spec"].get("nodeName")
        if node is None:
            message = (
                f"0/{len(self.of('nodes'))} nodes are available: node(s) didn't match Pod's node affinity"
            )
            pod["status"]["conditions"] = [{**_condition("PodScheduled", message=message), "status": "False"}]
            await asyncio.Event().wait()
        if self.waiting is not None:
            reason, message = self.waiting
            pod["status"] |= _container_status("waiting", {"reason": reason, "message": message})
            await asyncio.Event().wait()
        running = self._running[name] = _Running()
        pod["status"] |= {"phase": "Running", **_container_status("running", {"startedAt": _now()})}

        def say(line: bytes) -> None:
            running.log += line
            running.changed.set()

        async def contain() -> None:
            try:
                status = await self.container(pod, say, running.term)
            except asyncio.CancelledError:
                status = 137
            phase = "Succeeded" if status == 0 else "Failed"
            reason = "Completed" if status == 0 else "Error"
            ended = _container_status("terminated", {"exitCode": status, "reason": reason})
            pod["status"] |= {"phase": phase, **ended}
            running.over = True
            running.changed.set()

        running.task = self._spawn(contain())
        await asyncio.wait({running.task})

    async def _end(self, pod: Document) -> None:
        """What a kubelet does with a pod that is deleted."""
        name = pod["metadata"]["name"]
        pod["metadata"]["deletionTimestamp"] = _now()
        if pod["spec"].get("nodeName") in self.lost:
            return  # nobody is there who could end it
        running = self._running.get(name)
        if running is not None and running.task is not None:
            running.term.set()
            grace_s = min(self.grace_s, pod["spec"]["terminationGracePeriodSeconds"])
            done, _ = await asyncio.wait({running.task}, timeout=grace_s)
            if not done:
                running.task.cancel()
                await asyncio.wait({running.task})
        self.objects.pop(("pods", name), None)

    async def _log(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        pod = self.objects.get(("pods", name))
        if pod is None:
            return _refused(404, f'pods "{name}" not found')
        if pod["spec"].get("nodeName") in self.lost:
            return _refused(500, "Get https://10.0.0.9:10250/containerLogs/…: dial tcp: i/o timeout")
        running = self._running.get(name)
        if running is None:
            why = f'container "bench" in pod "{name}" is waiting to start: ContainerCreating'
            return _refused(400, why)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        sent, cut = 0, self.log_cuts > 0
        self.log_cuts -= cut
        with contextlib.suppress(ConnectionError):
            while True:
                running.changed.clear()
                new = bytes(running.log[sent:])
                if cut and new:
                    await response.write(new[: len(new) // 2])
                    assert request.transport is not None
                    request.transport.abort()
                    break
                if new:
                    await response.write(new)
                    sent += len(new)
                if running.over or "follow" not in request.query:
                    await response.write_eof()
                    break
                await running.changed.wait()
        return response

    def _spawn(self, coroutine: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.create_task(coroutine)
        self._tasks.add(task)
        return task


def _target(path: str) -> tuple[str, str, str]:
    """The resource, the name and the part of it that a path is about."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    resource, name, part = (*parts, "", "", "")[:3]
    return resource, name, part


def _selected(document: Document, query: dict[str, str]) -> bool:
    labels = document["metadata"].get("labels", {})
    wanted = [pair.partition("=") for pair in query.get("labelSelector", "").split(",") if pair]
    fields = [pair.partition("=") for pair in query.get("fieldSelector", "").split(",") if pair]
    return all(labels.get(key) == value for key, _, value in wanted) and all(
        _at(document, key) == value for key, _, value in fields
    )


def _at(document: Document, path: str) -> Any:
    for key in path.split("."):
        document = document.get(key, {})
    return document


def _container_status(state: str, details: Document) -> Document:
    return {"containerStatuses": [{"name": "bench", "state": {state: details}}]}


def _condition(kind: str, reason: str = "", message: str = "") -> Document:
    return {"type": kind, "status": "True", "reason": reason, "message": message}


def _event(job: str, message: str) -> Document:
    return {
        "metadata": {"name": f"{job}.1"},
        "involvedObject": {"kind": "Job", "name": job},
        "reason": "FailedCreate",
        "message": message,
        "type": "Warning",
    }


def _refused(code: int, message: str) -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS.get(code, "InternalError"),
        "code": code,
    }
    return web.json_response(status, status=code)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
