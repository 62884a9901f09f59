"""The nodes' pulls of one image: who pulls, how far it is, and where each blob came from."""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.oci.manifest import parse_manifest
from benchmarks.demo.view import Arriving, Row, Source
from benchmarks.lab.cluster import ADMIN_PORT, Cluster, Node
from benchmarks.lab.image import Image
from benchmarks.lab.process import LabError


@dataclass(slots=True)
class NodePull:
    """One node's pull, and what is known about it so far."""

    node: Node
    row: Row
    error: str = ""


class Pulls:
    """What is known of the pulls of one image. ``columns``: the heading of each of its digests."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._reference = self._tag = self._manifest = ""
        self._sizes: Mapping[str, int] = {}
        self._seen = 0
        self.columns: dict[str, str] = {}
        self.by_node = {
            name: NodePull(node, Row(name, f"{node.place.region}/{node.place.zone}"))
            for name, node in cluster.nodes.items()
        }

    def push(self, image: Image, repository: str) -> str:
        """Give the registry the image that is to be pulled. Returns its reference."""
        manifest = parse_manifest((image.layout / _blob_path(image.manifest)).read_bytes())
        assert manifest is not None
        names = ["config", *(f"layer {number}" for number in range(1, len(manifest.children)))]
        self.columns = {image.manifest: "manifest"}
        self.columns |= {c.digest: name for c, name in zip(manifest.children, names, strict=True)}
        self._tag, self._manifest, self._sizes = image.tag, image.manifest, image.blobs
        self._reference = self._cluster.registry.push(image, repository, image.tag)
        return self._reference

    def begin(self, *names: str) -> list[threading.Thread]:
        """Let these nodes pull, each in a thread. What the registry served before does not count."""
        self._seen = len(self._cluster.registry.served())
        threads = []
        for name in names:
            pull = self.by_node[name]
            pull.row.state = "pulling"
            threads.append(threading.Thread(target=self._pull, args=(pull,), daemon=True))
        for thread in threads:
            thread.start()
        return threads

    def read(self, *names: str) -> None:
        """Read what these nodes' agents and the registry logged about their pulls since they began."""
        served = self._cluster.registry.served()[self._seen :]
        for name in names:
            pull = self.by_node[name]
            for entry in pull.node.requests():
                digest = entry["digest"]
                asked = entry["path"] == "hostport" and entry["result"] == "ok"
                if asked and entry["bytes"] and digest in self.columns:
                    pull.row.sources[digest] = Source(entry["node"], entry["tier"], entry["bytes"])
            for client, method, uri, written in served:
                digest = uri.partition("?")[0].rpartition("/")[2]
                digest = self._manifest if digest == self._tag else digest
                its_own = client == pull.node.address or not self._cluster.real
                if its_own and method == "GET" and digest in self.columns:
                    pull.row.sources[digest] = Source("registry", "registry", written)

    def look(self) -> None:
        """Look how much of each layer each node has, and from whom it comes. Needs a real cluster."""
        for pull in self.by_node.values():
            containerd, givers = pull.node.containerd, _givers(pull.node)
            assert containerd is not None
            pull.row.arriving = {
                digest: Arriving(
                    name=giver, tier=self._tier(pull.node, giver), percent=100 * written // size_bytes
                )
                for digest, size_bytes in self._sizes.items()
                if (written := containerd.written_bytes(digest))
                for giver in (givers.get(digest, "registry"),)
            }

    def sources(self) -> Iterator[Source]:
        """Where all blobs of all nodes came from."""
        for pull in self.by_node.values():
            yield from pull.row.sources.values()

    def bytes_by_tier(self) -> dict[str, int]:
        """How many bytes came from the registry, from the own zone, and so on."""
        by_tier: dict[str, int] = {}
        for source in self.sources():
            by_tier[source.tier] = by_tier.get(source.tier, 0) + source.size_bytes
        return by_tier

    def check(self, *names: str) -> None:
        """Raise `LabError` if one of these nodes' pulls failed."""
        for name in names:
            if self.by_node[name].error:
                raise LabError(f"{name}: {self.by_node[name].error}")

    def _pull(self, pull: NodePull) -> None:
        started_s = time.monotonic()
        try:
            pull.node.pull(self._reference)
            pull.row.state = "done"
        except LabError as error:
            pull.row.state, pull.error = "failed", str(error)
        pull.row.seconds = time.monotonic() - started_s

    def _tier(self, node: Node, giver: str) -> str:
        if giver not in self._cluster.nodes:
            return "registry"
        place, other = node.place, self._cluster.node(giver).place
        if place.region != other.region:
            return "remote"
        return "zone" if place.zone == other.zone else "region"


def _givers(node: Node) -> dict[str, str]:
    """From which node each blob that the agent fetches comes now."""
    try:
        downloads = node.get("/api/transfers", port=ADMIN_PORT).json()["downloads"]
    except OSError:
        return {}
    return {entry["digest"]: entry["node"] for entry in downloads if entry["node"]}


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
