"""What every section needs: blobs, clients in namespaces, and what the registry was asked for."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lab.cgroups import make_cgroup
from benchmarks.lab.cluster import LOCAL_PORT, REGISTRY, Cluster, Node
from benchmarks.lab.process import LabError, enter, run
from benchmarks.probe.testbed import Load

_HERE = Path(__file__).parent
MIB = 1 << 20
GIB = 1 << 30
QUIET: dict[str, Any] = {"scrub": {"bytes_per_s": 0}}
"""Reading the whole store in the background is nothing that a transfer costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The times and bytes of one round of streams."""

    wall_s: float
    head_s: float
    size_bytes: int


class Streams:
    """The client written in C, in a namespace. It discards the bodies."""

    def __init__(self, cluster: Cluster, netns: str | None, address: str, port: int) -> None:
        self.cgroup = new_cgroup(cluster, f"client-{netns}-{port}")
        self._load = Load([*enter(netns), str(_client(cluster.folder)), address, str(port)], self.cgroup)

    def get(self, paths: Sequence[str]) -> Taken:
        """Get all paths at the same time. Raises `LabError` if one body is incomplete."""
        answer = self._load.ask(" ".join(paths))
        if answer.startswith("failed"):
            raise LabError(f"{len(paths)} streams: {answer}")
        wall_ns, head_ns, size_bytes = map(int, answer.split())
        return Taken(wall_s=wall_ns / 1e9, head_s=head_ns / 1e9, size_bytes=size_bytes)

    def close(self) -> None:
        """Stop the client."""
        self._load.close()


@contextmanager
def client_of(cluster: Cluster, node: Node, *, port: int = LOCAL_PORT) -> Iterator[Streams]:
    """A client on a node, for a server on the node's loopback."""
    streams = Streams(cluster, node.netns, node.loopback, port)
    try:
        yield streams
    finally:
        streams.close()


def new_cgroup(cluster: Cluster, name: str) -> Path:
    """Make a cgroup that is removed with the cluster."""
    cgroup = make_cgroup(f"{cluster.folder.name}-{name}")
    cluster.cgroups.append(cgroup)
    return cgroup


def blob_path(digest: str) -> str:
    """The URL path of a blob."""
    return f"/v2/bench/blobs/{digest}?ns={REGISTRY}"


def put_blob(folders: Sequence[Path], size_bytes: int) -> str:
    """Put a blob of random bytes in place by rename, as containerd does. Returns its digest."""
    content = os.urandom(min(size_bytes, 64 * MIB))
    whole = content * (size_bytes // len(content))
    name = hashlib.sha256(whole).hexdigest()
    for folder in folders:
        (folder / f".{name}").write_bytes(whole)
        (folder / f".{name}").rename(folder / name)
    return f"sha256:{name}"


def layout_blobs(node: Node) -> Path:
    """The directory of blobs in a node's layout."""
    return node.layout / "blobs/sha256"


def asked_of_registry(cluster: Cluster, repository: str) -> int:
    """How many bytes of a repository's blobs the registry sent so far."""
    return sum(size for *_, uri, size in cluster.registry.served() if f"/{repository}/blobs/" in uri)


def _client(folder: Path) -> Path:
    binary = folder / "streams"
    if not binary.exists():
        run(["gcc", "-O2", "-pthread", "-o", str(binary), str(_HERE / "streams.c")])
    return binary
