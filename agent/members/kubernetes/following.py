"""Follows objects of the API server: list or read them, then watch from there, for ever.

A watch goes on from the last version that was heard of, which bookmarks keep young. So a connection that ends
costs one small request, also after hours. If the server has forgotten that version (410), or if watching
fails again and again, the objects are listed anew, from the server's cache, and not older than what is known
already. What is known stays known while nothing works. Sources: Kubernetes "API concepts"; client-go,
tools/cache/reflector.go.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agent.members.kubernetes.client import ApiServer, Expired, Failed, Malformed
from agent.members.kubernetes.pacing import Chance, Pacing

_WATCH_LEAST_S, _WATCH_MOST_S = 300, 600  # for how long one watch is asked for; as client-go does
_VERSION_MAX = 64  # characters
_DOUBTS_MAX = 3  # failures in a row that speak against the last version, before the objects are listed anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What is followed. ``path``: the collection. ``selector``: what is asked for of it, as query parameters.

    ``single``: the name of the one object that is read instead of listing. ``kinds``: of the answer to that.
    ``metadata_only``: labels and the like are enough.
    """

    path: str
    kinds: frozenset[str]
    selector: Mapping[str, str]
    single: str | None = None
    metadata_only: bool = False

    @property
    def first_path(self) -> str:
        """Where the objects are listed, or the one object is read."""
        return self.path if self.single is None else f"{self.path}/{self.single}"


class Follows(Protocol):
    """Is told what a `Resource` consists of. None of these may raise because of what it is given."""

    def replaced(self, objects: list[Any]) -> None:
        """These are all objects."""
        ...

    def changed(self, document: Any, *, deleted: bool) -> None:
        """This object is new or was changed, or it was deleted."""
        ...

    def heard(self) -> None:
        """The server said something."""
        ...

    def failed(self, error: Failed) -> float:
        """A request failed. Returns after how many seconds it is repeated at the earliest."""
        ...


class Following:
    """One resource of one server. ``agents``: see `Pacing`."""

    def __init__(
        self,
        server: ApiServer,
        resource: Resource,
        told: Follows,
        *,
        agents: Callable[[], int],
        chance: Chance = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._resource = resource
        self._told = told
        self._pacing = Pacing(agents=agents, chance=chance)
        self._chance = chance
        self._clock = clock
        self._version: str | None = None  # from which to watch; None: list first
        self._doubts = 0
        self._oldest = "0"  # a list may not be older than this version; 0: any that the server has at hand

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            wait_s = await self._once()
            await asyncio.sleep(wait_s)

    async def _once(self) -> float:
        """List if needed, and watch until that ends. Returns how long to wait before the next time."""
        try:
            if self._version is None:
                await self._list()
            started_s = self._clock()
            await self._watch()
        except Expired:
            self._version = None
            return self._pacing.expired()
        except Failed as error:
            least_s = self._told.failed(error)
            wait_s = max(least_s, self._pacing.failed(error.retry_after_s))
            self._doubts += error.doubts_version
            if self._doubts >= _DOUBTS_MAX:
                self._version, self._oldest, self._doubts = None, "0", 0
            return wait_s
        return self._pacing.ended(self._clock() - started_s)

    async def _list(self) -> None:
        resource = self._resource
        query = dict(resource.selector) if resource.single is None else {}
        query["resourceVersion"] = self._oldest
        if resource.single is None and self._oldest != "0":
            query["resourceVersionMatch"] = "NotOlderThan"
        document = await self._server.read(
            resource.first_path, query, metadata_only=resource.metadata_only, kinds=resource.kinds
        )
        version = _version_of(document)
        if version is None:
            raise Malformed("an answer without a resourceVersion")
        objects = [document] if resource.single is not None else document.get("items")
        if objects is None:
            objects = []  # Go writes an empty list as null
        if not isinstance(objects, list):
            raise Malformed("a list whose items are none")
        self._told.heard()
        self._told.replaced(objects)
        self._version = self._oldest = version

    async def _watch(self) -> None:
        resource = self._resource
        query = {
            **resource.selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version or "",
            "timeoutSeconds": str(int(self._chance(_WATCH_LEAST_S, _WATCH_MOST_S))),
        }
        async with self._server.watch(resource.path, query, metadata_only=resource.metadata_only) as events:
            self._told.heard()
            async for event in events:
                self._use(event)

    def _use(self, event: Any) -> None:
        """One event. Raises `Expired` and `Failed`."""
        kind, document = (event.get("type"), event.get("object")) if isinstance(event, dict) else (None, None)
        if kind == "ERROR":
            raise Failed.of_status(document)
        version = _version_of(document)
        if version is None:
            raise Malformed("an event without a resourceVersion")
        self._told.heard()
        self._pacing.worked()
        self._doubts = 0
        self._version = self._oldest = version
        if kind in ("ADDED", "MODIFIED", "DELETED"):
            self._told.changed(document, deleted=kind == "DELETED")


def _version_of(document: Any) -> str | None:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) and 0 < len(version) <= _VERSION_MAX else None
