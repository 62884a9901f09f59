"""A double of the Kubernetes API server, over HTTP: as much of it as an agent asks for.

It lists and watches EndpointSlices and Nodes, with resourceVersions, bookmarks and 410. Like the real one it
forgets old versions, ends watches, and answers a request for metadata with metadata only. It can also be
away, slow, and lie. `tests/unit/benchmarks/lab/test_apiserver.py` holds its answers against those of a real
1.36. It counts requests and bytes. `ThreadedApiServer` runs it beside tests that are not asynchronous. Jobs,
pods and their logs are in `benchmarks.lab.workloads`.
"""

import asyncio
import contextlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from benchmarks.lab.workloads import Workloads

_T = TypeVar("_T")

SLICES, NODES = "endpointslices", "nodes"
SERVICE_LABEL = "kubernetes.io/service-name"
_KINDS = {SLICES: ("EndpointSlice", "discovery.k8s.io/v1"), NODES: ("Node", "v1")}
_EVENTS_KEPT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """An agent's pod as an endpoint."""

    node: str
    address: str
    zone: str | None = "a"
    ready: bool | None = True
    serving: bool | None = None  # None: as ready
    terminating: bool = False

    def endpoint(self) -> dict[str, Any]:
        """As the endpoint slice controller writes it."""
        serving = self.ready if self.serving is None else self.serving
        conditions = {"ready": self.ready, "serving": serving, "terminating": self.terminating}
        return {
            "addresses": [self.address],
            "conditions": {key: value for key, value in conditions.items() if value is not None},
            "targetRef": {
                "kind": "Pod",
                "namespace": "shorthaul",
                "name": f"shorthaul-{self.node}",
                "uid": "58af7702-7653-4dcf-a1bc-3ba0c369df95",
            },
            "nodeName": self.node,
            **({} if self.zone is None else {"zone": self.zone}),
        }


def slice_object(
    name: str,
    pods: Iterable[Pod],
    *,
    service: str = "shorthaul-peers",
    namespace: str = "shorthaul",
    port: int = 30020,
    address_type: str = "IPv4",
) -> dict[str, Any]:
    """An EndpointSlice, as large as a real one: with what its controller writes besides."""
    return {
        "metadata": {
            "name": name,
            "generateName": f"{service}-",
            "namespace": namespace,
            "uid": "720cb67d-230e-4056-ba25-55bc192b024b",
            "resourceVersion": "0",
            "generation": 1,
            "creationTimestamp": "2026-11-26T12:27:03Z",
            "labels": {
                "app.kubernetes.io/name": "shorthaul",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                SERVICE_LABEL: service,
                "service.kubernetes.io/headless": "",
            },
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-26T12:27:04Z"},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": service,
                    "uid": "295df03a-6016-47d8-a155-a14c77a827a0",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": [_managed_fields()],
        },
        "addressType": address_type,
        "endpoints": [pod.endpoint() for pod in pods],
        "ports": [{"name": "peer", "protocol": "TCP", "port": port}],
    }


def node_object(name: str, labels: dict[str, str]) -> dict[str, Any]:
    """A Node, with a status as long as that of a node with 50 images."""
    images = [{"names": [f"registry.example/app@sha256:{'0' * 64}"], "sizeBytes": 1} for _ in range(50)]
    return {
        "metadata": {
            "name": name,
            "uid": "727018f2-18b5-4f84-8ee0-e6e81ef0b430",
            "resourceVersion": "0",
            "creationTimestamp": "2026-11-26T12:26:52Z",
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **labels},
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
            "managedFields": [],
        },
        "spec": {},
        "status": {"images": images},
    }


@dataclass(slots=True)
class Asked:
    """What was asked of the double, and what that cost."""

    lists: Counter[str] = field(default_factory=Counter)  # by kind; for Nodes: reads of one
    watches: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    sent_bytes: int = 0
    queries: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    version: int
    type: str
    kind: str
    document: dict[str, Any]


class FakeApiServer:
    """The double. Use as an async context manager. Everything may be changed while it runs.

    ``token``: what a request must carry. ``bookmark_s``: how often a watch gets a bookmark. ``watch_s``: a
    watch ends after this time at most. ``workloads``: Jobs, pods, and all nodes; None: there are none.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        bookmark_s: float = 60.0,
        watch_s: float = 3600.0,
        tls: ssl.SSLContext | None = None,
        workloads: Workloads | None = None,
    ) -> None:
        self.asked = Asked()
        self.workloads = workloads
        self.token = token
        self.bookmark_s, self.watch_s = bookmark_s, watch_s
        self.refuse: int | None = None  # answer every request with this status
        self.forbidden: set[str] = set()  # kinds that may not be read
        self.silent = False  # accept requests, and never answer
        self.answer: Callable[[web.BaseRequest], web.StreamResponse | None] = lambda _request: None  # a lie
        self.lie: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = (
            None  # for every request
        )
        self.watch_lines: Sequence[bytes] | None = None  # what every watch says instead
        self.cut = False  # cut the connection after that
        self._tls = tls
        self._version = 100
        self._forgotten = 0  # versions up to this one can't be watched from
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._events: list[_Event] = []
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen, at the same port as before."""
        self._ended = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening, and cut all connections."""
        self._ended.set()
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None

    async def close(self) -> None:
        """Stop, and end what the workloads run."""
        await self.stop()
        if self.workloads is not None:
            await self.workloads.close()

    def put(self, kind: str, document: dict[str, Any]) -> None:
        """Create or replace an object. Watches are told."""
        self._version += 1
        name = document["metadata"]["name"]
        known = self._objects.get((kind, name))
        document["metadata"]["resourceVersion"] = str(self._version)
        self._objects[kind, name] = document
        self._tell("ADDED" if known is None else "MODIFIED", kind, document)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object. Watches are told."""
        self._version += 1
        document = self._objects.pop((kind, name))
        gone = {**document, "metadata": {**document["metadata"], "resourceVersion": str(self._version)}}
        self._tell("DELETED", kind, gone)

    def put_slices(self, pods: Sequence[Pod], *, each: int = 100, **more: Any) -> None:
        """Slices of so many endpoints each, in place of those that there are."""
        wanted = {f"shorthaul-peers-{i // each:03}": pods[i : i + each] for i in range(0, len(pods), each)}
        for kind, name in [key for key in self._objects if key[0] == SLICES and key[1] not in wanted]:
            self.delete(kind, name)
        for name, part in wanted.items():
            self.put(SLICES, slice_object(name, part, **more))

    def forget(self) -> None:
        """Forget all versions before now: etcd was compacted. Watches from before get 410."""
        self._forgotten = self._version
        self._events.clear()

    def restore(self, version: int = 10) -> None:
        """Become an API server whose data was restored from a backup that has nothing in it."""
        self._objects.clear()
        self._events.clear()
        self._version, self._forgotten = version, 0
        self.end_watches()

    def end_watches(self) -> None:
        """End all watches that are open now."""
        ended, self._ended = self._ended, asyncio.Event()
        ended.set()

    def _tell(self, type_: str, kind: str, document: dict[str, Any]) -> None:
        self._events.append(
            _Event(version=self._version, type=type_, kind=kind, document=json.loads(json.dumps(document)))
        )
        del self._events[:-_EVENTS_KEPT]
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        kind, name = _target(request.path)
        query = dict(request.query)
        self.asked.queries.append((request.path, query))
        self.asked.tokens.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        (self.asked.watches if "watch" in query else self.asked.lists)[kind] += 1
        if self.lie is not None:
            return await self.lie(request)
        lie = self.answer(request)
        if lie is not None:
            return lie
        if self.silent:
            await self._ended.wait()
        status = self._refusal(request, kind)
        if status is not None:
            self.asked.refused += 1
            return self._json(_status(*status), status=status[0])
        if self.workloads is not None:
            answer = await self.workloads.answer(request)
            if answer is not None:
                return answer
        metadata_only = "as=PartialObjectMetadata" in request.headers.get("Accept", "")
        if "watch" in query:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.enable_chunked_encoding()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):  # whoever watched has gone
                await self._watch(response, kind, query, metadata_only)
            if self.cut and request.transport is not None:
                request.transport.abort()
            return response
        if name is not None:
            found = self._objects.get((kind, name))
            if found is None:
                return self._json(_status(404, "NotFound", f'{kind} "{name}" not found'), status=404)
            return self._json(_shown(found, kind, metadata_only))
        items = [document for document in self._of(kind) if _selected(document, query)]
        kind_name, version = _KINDS[kind]
        return self._json(
            {
                "kind": f"{kind_name}List",
                "apiVersion": version,
                "metadata": {"resourceVersion": str(self._version)},
                "items": items,
            }
        )

    def _refusal(self, request: web.BaseRequest, kind: str) -> tuple[int, str, str] | None:
        if self.refuse is not None:
            return self.refuse, "ServiceUnavailable", "the double refuses"
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, "Unauthorized", "Unauthorized"
        if kind in self.forbidden:
            user = "system:serviceaccount:shorthaul:shorthaul"
            return 403, "Forbidden", f'{kind} is forbidden: User "{user}" cannot get resource "{kind}"'
        return None

    def _of(self, kind: str) -> list[dict[str, Any]]:
        return [document for (of, _), document in self._objects.items() if of == kind]

    def _json(self, document: Any, status: int = 200) -> web.Response:
        body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        self.asked.sent_bytes += len(body)
        return web.Response(status=status, body=body, content_type="application/json")

    async def _watch(
        self, response: web.StreamResponse, kind: str, query: dict[str, str], metadata_only: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + min(self.watch_s, float(query.get("timeoutSeconds", "1800")))
        ended = self._ended
        if self.watch_lines is not None:
            for line in self.watch_lines:
                await self._say(response, line)
            return
        version, bookmarked_s = int(query.get("resourceVersion") or 0), loop.time()
        while True:
            changed = self._changed
            if version < self._forgotten:
                why = f"too old resource version: {version} ({self._version})"
                error = {"type": "ERROR", "object": _status(410, "Expired", why)}
                await self._say(response, _line(error))
                return
            if version > self._version:
                why = f"Too large resource version: {version}, current: {self._version}"
                await self._say(response, _line({"type": "ERROR", "object": _status(504, "Timeout", why)}))
                return
            for event in [event for event in self._events if event.version > version]:
                version = event.version
                if event.kind == kind and _selected(event.document, query):
                    shown = _shown(event.document, kind, metadata_only)
                    await self._say(response, _line({"type": event.type, "object": shown}))
            now_s = loop.time()
            over = ended.is_set() or now_s >= until_s
            if "allowWatchBookmarks" in query and (over or now_s - bookmarked_s >= self.bookmark_s):
                bookmarked_s = now_s
                await self._say(response, _line({"type": "BOOKMARK", "object": _bookmark(kind, version)}))
            if over:
                return
            due_s = min(until_s, bookmarked_s + self.bookmark_s) - now_s
            waits = [asyncio.ensure_future(event.wait()) for event in (changed, ended)]
            await asyncio.wait(waits, timeout=max(0.0, due_s), return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _say(self, response: web.StreamResponse, line: bytes) -> None:
        self.asked.sent_bytes += len(line)
        await response.write(line)


class ThreadedApiServer:
    """The double in a thread of its own. Use as a context manager; change it by `do` only."""

    def __init__(self, **more: Any) -> None:
        self._more = more
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="API server", daemon=True)
        self._server: FakeApiServer | None = None

    def __enter__(self) -> Self:
        self._thread.start()

        async def start() -> FakeApiServer:
            server = FakeApiServer(**self._more)
            await server.start()
            return server

        self._server = asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._running.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._running.url

    @property
    def asked(self) -> Asked:
        """What was asked so far."""
        return self._running.asked

    @property
    def _running(self) -> FakeApiServer:
        assert self._server is not None, "not started"
        return self._server

    def do(self, change: Callable[[FakeApiServer], _T]) -> _T:
        """Change the double, in its own thread."""

        async def now() -> _T:
            return change(self._running)

        return asyncio.run_coroutine_threadsafe(now(), self._loop).result()

    def stop(self) -> None:
        """Stop listening."""
        asyncio.run_coroutine_threadsafe(self._running.stop(), self._loop).result()

    def start(self) -> None:
        """Listen again, at the same port."""
        asyncio.run_coroutine_threadsafe(self._running.start(), self._loop).result()


def _target(path: str) -> tuple[str, str | None]:
    """The kind and the name of an object in a path; no name: all of them."""
    parts = path.strip("/").split("/")
    for kind in (SLICES, NODES):
        if kind in parts:
            rest = parts[parts.index(kind) + 1 :]
            return kind, rest[0] if rest else None
    return path, None


def _selected(document: dict[str, Any], query: dict[str, str]) -> bool:
    metadata = document["metadata"]
    label, _, value = query.get("labelSelector", "").partition("=")
    field_, _, wanted = query.get("fieldSelector", "").partition("=")
    return (not label or metadata.get("labels", {}).get(label) == value) and (
        not field_ or metadata["name"] == wanted
    )


def _shown(document: dict[str, Any], kind: str, metadata_only: bool) -> dict[str, Any]:
    if metadata_only:
        version = "meta.k8s.io/v1"
        return {"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": document["metadata"]}
    kind_name, version = _KINDS[kind]
    return {"kind": kind_name, "apiVersion": version, **document}


def _bookmark(kind: str, version: int) -> dict[str, Any]:
    kind_name, api_version = _KINDS[kind]
    empty: dict[str, Any] = {"addressType": "", "endpoints": None, "ports": None} if kind == SLICES else {}
    metadata = {"resourceVersion": str(version)}
    return {"kind": kind_name, "apiVersion": api_version, "metadata": metadata, **empty}


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _managed_fields() -> dict[str, Any]:
    return {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "discovery.k8s.io/v1",
        "time": "2026-11-26T12:27:04Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:addressType": {},
            "f:endpoints": {},
            "f:metadata": {
                "f:annotations": {".": {}, "f:endpoints.kubernetes.io/last-change-trigger-time": {}},
                "f:generateName": {},
                "f:labels": {
                    ".": {},
                    "f:app.kubernetes.io/name": {},
                    "f:endpointslice.kubernetes.io/managed-by": {},
                    "f:kubernetes.io/service-name": {},
                    "f:service.kubernetes.io/headless": {},
                },
                "f:ownerReferences": {".": {}, 'k:{"uid":"295df03a-6016-47d8-a155-a14c77a827a0"}': {}},
            },
            "f:ports": {},
        },
    }
