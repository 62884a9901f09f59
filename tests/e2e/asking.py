"""A node whose containerd asks: whom its agent knows, how far a pull is, and what came from where.

The nodes that ask know the holders and themselves, but not each other: else the second that asks would
find the first to be the nearest holder.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from benchmarks.lab.cluster import ADMIN_PORT, REGISTRY, Cluster, Node
from benchmarks.lab.containerd import PullFailed
from benchmarks.lab.image import Image
from tests.server.agents import wait_for


class Stranger(Protocol):
    """A member of the cluster that is no node of the lab."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def address(self) -> str:
        """The address of its peer listener."""

    @property
    def port(self) -> int:
        """The port of its peer listener."""


def introduce(node: Node, others: Iterable[Node], strangers: Iterable[Stranger] = ()) -> None:
    """Give the node a members file of its own: itself, these others, and strangers in its own zone."""
    entries = [
        {"name": other.name, "address": other.address, "port": other.peer_port, **other.place.labels}
        for other in (node, *others)
    ]
    for stranger in strangers:
        place = {level: label for level, label in node.place.labels.items() if level != "rack"}
        entries.append({"name": stranger.name, "address": stranger.address, "port": stranger.port, **place})
    path = node.folder / "members.yaml"
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(entries))
    new.rename(path)
    node.settings["membership"] = {"static": str(path)}
    # Each node has another list, so nodes are asked by some that they do not list, and ask strangers.
    node.settings["peering"] = {**node.settings["peering"], "open": True}


def await_introduction(node: Node, names: Iterable[str]) -> None:
    """Wait until the node's agent knows exactly these peers."""
    expected = {node.name, *names}

    def known() -> set[str]:
        return {entry["name"] for entry in node.get("/api/topology", port=ADMIN_PORT).json()["nodes"]}

    wait_for(lambda: known() == expected, f"{node.name} knows {sorted(expected)}")


def layer_of(image: Image) -> tuple[str, int]:
    """The digest and the size of an image's largest blob."""
    return max(image.blobs.items(), key=lambda blob: blob[1])


def blob_path(node: Node, digest: str) -> Path:
    """Where the node's containerd keeps a blob."""
    assert node.containerd is not None
    return node.containerd.blobs / digest.partition(":")[2]


def holds(node: Node, digest: str) -> bool:
    """Whether the node's agent offers a blob of its own."""
    return bool(node.get(f"/api/explain?digest={digest}", port=ADMIN_PORT).json()["local"])


def fill(node: Node, reference: str, image: Image) -> None:
    """Make the node a holder of an image."""
    node.pull(reference)
    wait_for(lambda: all(holds(node, digest) for digest in image.blobs), f"{node.name} holds {reference}")


def is_whole(node: Node, digest: str) -> bool:
    """Whether the committed blob hashes to its digest."""
    with blob_path(node, digest).open("rb") as blob:
        return f"sha256:{hashlib.file_digest(blob, 'sha256').hexdigest()}" == digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What came of a pull by containerd. ``error``: what it said, empty after a success."""

    seconds: float
    error: str


def try_pull(node: Node, reference: str, *, at_most_s: float = 120.0) -> Pulled:
    """Pull, and tell how it went."""
    started_s = time.monotonic()
    try:
        node.pull(reference, at_most_s=at_most_s)
    except PullFailed as error:
        return Pulled(seconds=time.monotonic() - started_s, error=str(error))
    return Pulled(seconds=time.monotonic() - started_s, error="")


def ingested_bytes(node: Node) -> int:
    """The size of the largest blob that the node's containerd is writing now."""
    assert node.containerd is not None
    sizes = [0]
    for data in node.containerd.ingests.glob("*/data"):
        try:
            sizes.append(data.stat().st_size)
        except FileNotFoundError:
            continue  # committed, or given up
    return max(sizes)


def fetched_from_registry(cluster: Cluster, node: Node, reference: str) -> list[tuple[str, int]]:
    """The blobs that the registry sent to the node's containerd: path and bytes."""
    repository = reference.removeprefix(f"{REGISTRY}/").rpartition(":")[0]
    return [
        (uri, sent)
        for client, method, uri, sent in cluster.registry.served()
        if client == node.address and method == "GET" and f"/{repository}/blobs/" in uri
    ]


def records(node: Node, digest: str) -> list[dict[str, Any]]:
    """What the node's agent remembers of its own containerd's GETs of a blob, newest first."""
    remembered: list[dict[str, Any]] = node.get("/api/requests", port=ADMIN_PORT).json()
    return [
        record
        for record in remembered
        if record["path"] == "hostport" and record["method"] == "GET" and record["digest"] == digest
    ]


def waits_of(node: Node) -> int:
    """How many attempts of the node's agent ended because no byte, or too few, had come for a stall."""
    results = ("silent", "slow")
    return int(sum(node.metric("shorthaul_peer_attempts_total", result=result) for result in results))


def complaints(node: Node, since: int = 0) -> list[dict[str, Any]]:
    """What the node's agent logged as an error since that many characters of its log."""
    found = []
    for line in node.log.read_text(errors="replace")[since:].splitlines():
        if not line.startswith("{"):
            found.append({"level": "none", "message": line})  # a traceback, or a library's own words
            continue
        entry = json.loads(line)
        if entry["level"].lower() in ("error", "critical"):
            found.append(entry)
    return found
