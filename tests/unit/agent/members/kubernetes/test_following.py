"""Following a resource: where it goes on, how often it asks, and what it does when a server ends, forgets or
lies.

"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from agent.members.kubernetes.client import Access, ApiServer, Failed
from agent.members.kubernetes.following import Following, Resource
from agent.tasks import end_all
from benchmarks.lab.apiserver import SLICES, FakeApiServer, Pod, slice_object
from tests.unit.agent.members.kubernetes.test_slices import RECORDED
from tests.unit.agent.transfer.scripted import until

RESOURCE = Resource(
    path="/apis/discovery.k8s.io/v1/namespaces/shorthaul/endpointslices",
    kinds=frozenset({"EndpointSliceList"}),
    selector={"labelSelector": "kubernetes.io/service-name=shorthaul-peers"},
)


@dataclass
class Told:
    """What a following told."""

    objects: dict[str, Any] = field(default_factory=dict)
    lists: int = 0
    heards: int = 0
    failures: list[str] = field(default_factory=list)

    def replaced(self, objects: list[Any]) -> None:
        self.lists += 1
        self.objects = {document["metadata"]["name"]: document for document in objects}

    def changed(self, document: Any, *, deleted: bool) -> None:
        name = document["metadata"]["name"]
        if deleted:
            self.objects.pop(name, None)
        else:
            self.objects[name] = document

    def heard(self) -> None:
        self.heards += 1

    def failed(self, error: Failed) -> float:
        self.failures.append(str(error))
        return 0.0


class Clock:
    """How long the server's watches seem to live."""

    def __init__(self, step_s: float) -> None:
        self._now_s, self._step_s = 0.0, step_s

    def __call__(self) -> float:
        self._now_s += self._step_s
        return self._now_s


@asynccontextmanager
async def follow(server: FakeApiServer, *, lives_s: float = 1000.0) -> AsyncIterator[Told]:
    """``lives_s``: how long each watch seems to live. No wait is random: each is the shortest possible."""
    told = Told()
    async with ApiServer(Access(url=server.url, ca_file=None, token_file=None), agent="test") as client:
        following = Following(
            client, RESOURCE, told, agents=lambda: 1, chance=lambda least, _: least, clock=Clock(lives_s)
        )
        task = asyncio.create_task(following.run())
        try:
            yield told
            assert not task.done(), task.exception()
        finally:
            await end_all([task])


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        put(running, "one")
        yield running


def put(server: FakeApiServer, name: str) -> None:
    server.put(SLICES, slice_object(name, [Pod(node=name, address="10.0.0.1")]))


def watched_from(server: FakeApiServer) -> list[int]:
    return [int(query["resourceVersion"]) for _, query in server.asked.queries if "watch" in query]


async def test_lists_once_from_the_servers_cache_and_watches_from_there(server: FakeApiServer) -> None:
    async with follow(server) as told:
        await until(lambda: server.asked.watches[SLICES] == 1, "it watches")
        put(server, "two")
        await until(lambda: set(told.objects) == {"one", "two"}, "an object that is new")
        server.delete(SLICES, "one")
        await until(lambda: set(told.objects) == {"two"}, "an object that was deleted")
    assert server.asked.lists[SLICES] == 1
    (_, first), *_ = server.asked.queries
    assert first["resourceVersion"] == "0"
    assert first["labelSelector"] == "kubernetes.io/service-name=shorthaul-peers"


async def test_watch_that_ends_is_resumed_from_the_last_version_without_a_list(server: FakeApiServer) -> None:
    async with follow(server) as told:
        for number in range(5):
            await until(lambda count=number: server.asked.watches[SLICES] == count + 1, "it watches")  # type: ignore[misc]
            put(server, f"more-{number}")
            await until(lambda count=number: len(told.objects) == count + 2, "the object came")  # type: ignore[misc]
            server.end_watches()
        await until(lambda: server.asked.watches[SLICES] == 6, "it watches")
    assert server.asked.lists[SLICES] == 1
    assert watched_from(server) == sorted(watched_from(server))
    assert len(set(watched_from(server))) == 6


async def test_changes_while_no_watch_was_open_are_not_missed(server: FakeApiServer) -> None:
    async with follow(server) as told:
        await until(lambda: server.asked.watches[SLICES] == 1, "it watches")
        await server.stop()
        put(server, "two")
        await server.start()
        await until(lambda: set(told.objects) == {"one", "two"}, "what changed meanwhile")
    assert told.lists == 1


async def test_bookmarks_keep_a_quiet_watch_from_expiring(server: FakeApiServer) -> None:
    server.bookmark_s = 0.02
    async with follow(server) as told:
        await until(lambda: server.asked.watches[SLICES] == 1, "it watches")
        heards = told.heards
        server.put("nodes", {"metadata": {"name": "busy"}})  # other objects: versions pass by
        await until(lambda: told.heards > heards + 1, "a bookmark")
        server.forget()
        server.end_watches()
        await until(lambda: server.asked.watches[SLICES] == 2, "it watches again")
        put(server, "two")
        await until(lambda: "two" in told.objects, "an object that is new")
    assert server.asked.lists[SLICES] == 1


async def test_version_that_the_server_has_forgotten_is_listed_anew_and_not_older(
    server: FakeApiServer,
) -> None:
    async with follow(server) as told:
        await until(lambda: server.asked.watches[SLICES] == 1, "it watches")
        await server.stop()
        server.delete(SLICES, "one")
        put(server, "two")
        server.forget()
        await server.start()
        await until(lambda: set(told.objects) == {"two"}, "the list of now")
    assert told.lists == 2
    relist = [query for _, query in server.asked.queries if "watch" not in query][-1]
    assert relist["resourceVersionMatch"] == "NotOlderThan"
    assert int(relist["resourceVersion"]) > 100


async def test_server_that_was_away_for_long_is_asked_to_go_on_and_not_for_a_list(
    server: FakeApiServer,
) -> None:
    async with follow(server) as told:
        await until(lambda: server.asked.watches[SLICES] == 1, "it watches")
        server.refuse = 503
        server.end_watches()
        await until(lambda: len(told.failures) >= 2, "it is refused")
        await server.stop()
        await until(lambda: len(told.failures) >= 4, "it is not reached")
        server.refuse = None
        put(server, "two")
        await server.start()
        await until(lambda: "two" in told.objects, "what changed meanwhile")
    assert told.lists == 1


async def test_server_that_was_restored_and_counts_anew_is_listed_again(server: FakeApiServer) -> None:
    async with follow(server) as told:
        await until(lambda: server.asked.watches[SLICES] == 1, "it watches")
        server.restore()
        put(server, "restored")
        await until(lambda: set(told.objects) == {"restored"}, "what the server has now")
    assert told.failures  # it did not know versions that are to come


async def test_server_that_ends_each_watch_at_once_is_not_asked_in_a_loop(server: FakeApiServer) -> None:
    server.watch_s = 0.0
    async with follow(server, lives_s=0.0) as told:
        await until(lambda: server.asked.watches[SLICES] >= 2, "it watches again")
        put(server, "two")
        await until(lambda: "two" in told.objects, "an object that is new")
        await asyncio.sleep(1.0)  # for what should not happen
    assert server.asked.watches[SLICES] <= 20
    assert server.asked.lists[SLICES] == 1


@pytest.mark.parametrize("status", [500, 503, 429, 403, 401])
async def test_refusal_is_told_and_repeated_at_growing_intervals(server: FakeApiServer, status: int) -> None:
    server.refuse = status
    async with follow(server) as told:
        await until(lambda: len(told.failures) == 2, "two refusals")
        server.refuse = None
        await until(lambda: set(told.objects) == {"one"}, "the list")
    assert server.asked.refused <= 6


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[]\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": {"metadata": {"name": "x"}}}\n',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": 7}}}\n',
        b'{"type": "ERROR", "object": null}\n',
        (RECORDED / "node-watch-error.jsonl").read_bytes(),
    ],
)
async def test_watch_that_lies_or_fails_is_a_failure_and_what_was_known_stays(
    server: FakeApiServer, line: bytes
) -> None:
    server.watch_lines = [line]
    async with follow(server) as told:
        await until(lambda: len(told.failures) >= 2, "two failures")
        assert set(told.objects) == {"one"}
        server.watch_lines = None
        put(server, "two")
        await until(lambda: "two" in told.objects, "an object that is new")


async def test_event_of_a_kind_that_is_not_known_yet_is_passed_over(server: FakeApiServer) -> None:
    server.watch_lines = [b'{"type": "SHRUGGED", "object": {"metadata": {"resourceVersion": "101"}}}\n']
    async with follow(server) as told:
        await until(lambda: server.asked.watches[SLICES] >= 2, "it goes on")
        assert not told.failures


@pytest.mark.parametrize("items", [b"null", b"[]"])
async def test_empty_list_may_be_written_as_null(server: FakeApiServer, items: bytes) -> None:
    body = b'{"kind": "EndpointSliceList", "metadata": {"resourceVersion": "101"}, "items": ' + items + b"}"
    server.answer = lambda request: None if "watch" in request.query else web.Response(body=body)
    async with follow(server) as told:
        await until(lambda: told.lists == 1, "the list")
        assert not told.objects
