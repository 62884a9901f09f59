"""Content that is out of the ordinary, from its holder and through a node that asks the holder."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from agent.oci.manifest import OCI_INDEX, OCI_MANIFEST

from .agents import Node, Site, digest_of

_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
_CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A node that has everything, and a neighbour that has nothing."""

    holder: Node
    asking: Node


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Site() as site:
        made = Pair(holder=site.add("holder"), asking=site.add("asking"))
        site.start()
        yield made


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        ({"schemaVersion": 2, "mediaType": "", "config": _CONFIG, "layers": []}, OCI_MANIFEST),
        ({"schemaVersion": 2, "config": _CONFIG, "layers": None}, OCI_MANIFEST),
        ({"mediaType": f"{OCI_MANIFEST}; charset=utf-8", "config": _CONFIG}, OCI_MANIFEST),
        ({"mediaType": _ARTIFACT, "artifactType": "a/b", "blobs": []}, _ARTIFACT),
        ({"schemaVersion": 2, "manifests": None}, OCI_INDEX),
    ],
)
def test_an_unusual_manifest_is_served_by_its_holder_and_through_another_node(
    pair: Pair, document: dict[str, object], media_type: str
) -> None:
    content = json.dumps(document).encode()
    pair.holder.put(content)
    for node in (pair.holder, pair.asking):
        reply = node.ask(f"/v2/library/app/manifests/{digest_of(content)}")
        assert (reply.status, reply.body) == (200, content)
        assert reply.headers["Content-Type"] == media_type


@pytest.mark.parametrize("wanted", ["bytes=0-", "bytes=0-9", "bytes=5-", "bytes=-5"])
def test_a_range_of_an_empty_blob_is_the_whole_of_it_from_holder_and_from_another_node(
    pair: Pair, wanted: str
) -> None:
    pair.holder.put(b"")
    for node in (pair.holder, pair.asking):
        reply = node.blob(b"", headers={"Range": wanted})
        assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")
