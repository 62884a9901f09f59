"""The few requests to the API server that the benchmark makes. What fails for a moment is asked again."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from agent.members.kubernetes.client import ApiServer, Expired, Failed
from benchmarks.cluster import rights
from benchmarks.cluster.jobs import CONTAINER, RUN_LABEL

PATIENCE_S = 30.0
"""How long a request is tried again while the API server is away or busy."""

_PAGE = 500
_AGAIN_S = 1.0
_LOG_MAX_BYTES = 8 << 20
_SILENCE_S = 20.0  # a pod says something each 5 s
_T = TypeVar("_T")


class Kube:
    """The API server, for one namespace."""

    def __init__(self, api: ApiServer, namespace: str, *, patience_s: float = PATIENCE_S) -> None:
        self._api = api
        self.namespace = namespace
        self._patience_s = patience_s

    async def missing_rights(self) -> list[rights.Right]:
        """The rights that are needed and missing."""
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answers = await asyncio.gather(
            *(
                self._patiently(
                    lambda right=right: self._api.create(  # type: ignore[misc]
                        path, rights.review(right, self.namespace)
                    )
                )
                for right in rights.RIGHTS
            )
        )
        return [
            right for right, answer in zip(rights.RIGHTS, answers, strict=True) if not rights.allowed(answer)
        ]

    async def daemonsets(self) -> dict[str, Any]:
        """All DaemonSets."""
        return await self._list(f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets", "DaemonSetList")

    async def nodes(self) -> list[dict[str, Any]]:
        """All nodes of the cluster."""
        return list((await self._list("/api/v1/nodes", "NodeList"))["items"])

    async def pods(self, selector: str) -> dict[str, Any]:
        """Pods with these labels."""
        return await self._list(self._pods, "PodList", {"labelSelector": selector})

    async def pods_of(self, run: str) -> dict[str, Any]:
        """The pods of a run, as the API server has them now, without trying again."""
        return await self._api.read(self._pods, {"labelSelector": f"{RUN_LABEL}={run}"}, kinds={"PodList"})

    async def jobs(self, selector: str) -> dict[str, Any]:
        """Jobs with these labels."""
        return await self._list(self._jobs, "JobList", {"labelSelector": selector})

    async def events(self) -> dict[str, Any]:
        """What happened to Jobs."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        return await self._list(path, "EventList", {"fieldSelector": "involvedObject.kind=Job"})

    async def create(self, job: Mapping[str, Any]) -> None:
        """Make a Job. Made twice is made once: an answer may get lost."""
        try:
            await self._patiently(lambda: self._api.create(self._jobs, job))
        except Failed as error:
            if error.status != 409:
                raise

    async def delete(self, job: str) -> None:
        """Delete a Job, and with it its pod, which has its time to clean up."""
        path, query = f"{self._jobs}/{job}", {"propagationPolicy": "Background"}
        await self._patiently(lambda: self._api.delete(path, query))

    @asynccontextmanager
    async def log(self, pod: str, *, follow: bool) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a pod's log from its beginning. ``follow``: until the pod ends."""
        query = {"container": CONTAINER, "limitBytes": str(_LOG_MAX_BYTES)}
        if follow:
            query["follow"] = "true"
        async with self._api.lines(f"{self._pods}/{pod}/log", query, silence_s=_SILENCE_S) as lines:
            yield lines

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    @property
    def _jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    async def _list(self, path: str, kind: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A whole list, page by page."""
        asked = {**(query or {}), "limit": str(_PAGE)}
        items: list[Any] = []
        while True:
            page = await self._patiently(lambda: self._api.read(path, dict(asked), kinds={kind}))
            items += page.get("items") or ()
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return {**page, "items": items}
            asked["continue"] = more

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """The answer, asked again for a while if the server is away, busy or broken. Raises `Failed`."""
        end_s = time.monotonic() + self._patience_s
        while True:
            try:
                return await ask()
            except Expired as error:
                raise Failed(str(error), hint="try again") from error
            except Failed as error:
                passing = error.status in (0, 429) or error.status >= 500
                wait_s = min(max(_AGAIN_S, error.retry_after_s), self._patience_s)
                if not passing or time.monotonic() + wait_s > end_s:
                    raise
            await asyncio.sleep(wait_s)
