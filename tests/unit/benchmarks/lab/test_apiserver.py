"""The double of the API server, held against what a real Kubernetes 1.36 answered."""

import json
from typing import Any

import aiohttp

from benchmarks.lab.apiserver import NODES, SLICES, FakeApiServer, Pod, node_object, slice_object
from tests.unit.twins import REPOSITORY_ROOT

RECORDED = REPOSITORY_ROOT / "tests" / "recorded" / "kubernetes"
LIST = "/apis/discovery.k8s.io/v1/namespaces/shorthaul/endpointslices"
SELECTOR = "labelSelector=kubernetes.io/service-name=shorthaul-peers"
THREE = [
    Pod(node="k8-n3", address="192.168.70.3", zone="b"),
    Pod(node="k8-n1", address="192.168.70.1", zone="a"),
    Pod(node="k8-n2", address="192.168.70.2", zone="a"),
]


def shape(document: Any) -> Any:
    """What a document consists of: keys and types, without the values."""
    if isinstance(document, dict):
        return {key: shape(value) for key, value in document.items()}
    if isinstance(document, list):
        return [shape(value) for value in document]
    return type(document).__name__


def read(name: str) -> Any:
    return json.loads((RECORDED / name).read_text())


def recorded_events() -> list[Any]:
    lines = (RECORDED / "endpointslices-watch-rolling-update.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


async def get(server: FakeApiServer, path: str, *, metadata_only: bool = False) -> tuple[int, list[Any]]:
    """The status and the documents of an answer, one a line."""
    partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
    headers = {"Accept": partial if metadata_only else "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}{path}", headers=headers) as answer,
    ):
        text = await answer.text()
        return answer.status, [json.loads(line) for line in text.splitlines() if line]


async def test_list_is_like_the_recorded_one() -> None:
    async with FakeApiServer() as server:
        server.put(SLICES, slice_object("shorthaul-peers-s8wmg", THREE))
        server.put(SLICES, slice_object("other", THREE, service="other"))
        status, (document,) = await get(server, f"{LIST}?{SELECTOR}&resourceVersion=0")
    recorded = read("endpointslices-list.json")
    assert (status, shape(document)) == (200, shape(recorded))
    assert (
        document["items"][0]["endpoints"][0]["conditions"]
        == recorded["items"][0]["endpoints"][0]["conditions"]
    )


async def test_events_and_bookmarks_are_like_the_recorded_ones() -> None:
    async with FakeApiServer(watch_s=0.2) as server:
        server.put(SLICES, slice_object("shorthaul-peers-s8wmg", THREE))
        server.put(SLICES, slice_object("shorthaul-peers-s8wmg", THREE))
        query = f"{SELECTOR}&watch=true&resourceVersion=101&allowWatchBookmarks=true"
        _, (modified, bookmark) = await get(server, f"{LIST}?{query}")
    of_three = [event for event in recorded_events() if len(event["object"]["endpoints"] or ()) == 3]
    assert shape(modified) == shape(of_three[0])
    assert modified["type"] == "MODIFIED"
    assert shape(bookmark) == shape(next(event for event in recorded_events() if event["type"] == "BOOKMARK"))
    assert bookmark["object"]["metadata"]["resourceVersion"] == "102"


async def test_version_that_was_forgotten_ends_a_watch_with_410() -> None:
    async with FakeApiServer() as server:
        server.put(SLICES, slice_object("one", THREE))
        server.forget()
        status, (event,) = await get(server, f"{LIST}?{SELECTOR}&watch=true&resourceVersion=1")
    assert status == 200
    assert shape(event) == shape(json.loads((RECORDED / "node-watch-error.jsonl").read_text()))
    assert event["object"] == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "too old resource version: 1 (101)",
        "reason": "Expired",
        "code": 410,
    }


async def test_node_has_labels_where_the_recorded_one_has_them_and_metadata_alone_is_short() -> None:
    async with FakeApiServer() as server:
        server.put(NODES, node_object("k8-n1", {"topology.kubernetes.io/zone": "b"}))
        _, (document,) = await get(server, "/api/v1/nodes/k8-n1")
        _, (partial,) = await get(server, "/api/v1/nodes/k8-n1", metadata_only=True)
        status, _ = await get(server, "/api/v1/nodes/nobody")
    recorded = read("node.json")
    assert document["kind"] == recorded["kind"]
    assert set(document["metadata"]) <= set(recorded["metadata"])
    assert partial["kind"] == "PartialObjectMetadata"
    assert partial["metadata"] == document["metadata"]
    assert "status" not in partial
    assert status == 404
