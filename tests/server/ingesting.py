"""A node whose containerd is a folder: the test writes ingests into it as a containerd does."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from .agents import ADMIN, REPLY_S, Node, Site, digest_of, wait_for
from .proofs import signed

NAMESPACE = "k8s.io"
_CONTENT = "io.containerd.content.v1.content"
_SOMEBODY = 65534
CONTAINERD = {"User-Agent": "containerd/2.1.9"}


class Ingest:
    """One content that is being fetched."""

    def __init__(self, root: Path, content: bytes, *, kind: str, total: int | None) -> None:
        self.content = content
        digest = digest_of(content)
        key = f"{NAMESPACE}/1/{kind}-{digest}".encode()
        self._folder = root / "ingest" / hashlib.sha256(key).hexdigest()
        self._blob = root / "blobs/sha256" / digest.removeprefix("sha256:")
        self._folder.mkdir()
        (self._folder / "ref").write_bytes(key)
        (self._folder / "total").write_text(str(len(content) if total is None else total))
        self._data = (self._folder / "data").open("wb", buffering=0)
        self.written_bytes = 0

    def write(self, until: int | None = None) -> None:
        """Write on until so many bytes are there."""
        until = len(self.content) if until is None else until
        self.append(self.content[self.written_bytes : until])

    def append(self, part: bytes) -> None:
        """Write these bytes."""
        self._data.write(part)
        self.written_bytes += len(part)

    def read(self) -> bytes:
        """What is written."""
        return (self._folder / "data").read_bytes()

    def commit(self) -> None:
        """The content is verified: it becomes a blob."""
        self._data.close()
        (self._folder / "data").rename(self._blob)
        shutil.rmtree(self._folder)

    def close_to_others(self, name: str) -> None:
        """Give its folder, or a file in it, to somebody else, closed to all others."""
        os.chown(self._folder / name, _SOMEBODY, _SOMEBODY)
        (self._folder / name).chmod(0o700)

    def abandon(self) -> None:
        """containerd died: what it wrote stays as it is."""
        self._data.close()

    def give_up(self) -> None:
        """containerd fails the pull, or collects the ingest as garbage."""
        self._data.close()
        shutil.rmtree(self._folder)


class Fetcher:
    """An agent, and the folder of its containerd. ``Site.start`` does not wait for it: use `start`."""

    def __init__(self, site: Site, name: str, **settings: Any) -> None:
        root = site.folder / f"{name}-containerd"
        self._root = root / _CONTENT
        (self._root / "blobs/sha256").mkdir(parents=True)
        (self._root / "ingest").mkdir()
        store = f"containerd://{root}/none.sock?namespace={NAMESPACE}&root={root}"
        self.node: Node = site.add(name, store=store, **settings)

    def start(self) -> None:
        """Start the agent. It is not ready, because nobody answers at containerd's socket, and serves."""
        self.node.launch()
        self.wait()

    def wait(self) -> None:
        """Wait until the agent, which was launched, answers."""
        wait_for(self._answers, "the agent answers", at_most_s=REPLY_S)

    def fetch(
        self,
        content: bytes,
        *,
        kind: str = "layer",
        repository: str = "library/app",
        ns: str = "registry.test",
        total: int | None = None,
    ) -> Ingest:
        """The node's containerd asks its agent, which has it not, and begins to fetch it elsewhere."""
        reply = self.node.ask(path_of(content, kind, repository, ns), headers=CONTAINERD)
        assert reply.status == 404, reply.body
        return self.open(content, kind=kind, total=total)

    def open(self, content: bytes, *, kind: str = "layer", total: int | None = None) -> Ingest:
        """The node's containerd opens an ingest, which it does before it asks anybody."""
        return Ingest(self._root, content, kind=kind, total=total)

    def begin(self, content: bytes, *, kind: str = "layer") -> Ingest:
        """The node's containerd opens the ingest, as it does before it asks anybody."""
        return Ingest(self._root, content, kind=kind, total=None)

    def follow(self, follower: str, content: bytes, start: int = 0, *, kind: str = "layer") -> dict[str, str]:
        """The headers with which another agent follows."""
        byte_range = f"bytes={start}-" if start else ""
        path = path_of(content, kind)
        headers = signed(path, sender=follower, receiver=self.node.name, byte_range=byte_range)
        return headers | {"Shorthaul-Follow": "1"} | ({"Range": byte_range} if byte_range else {})

    def _answers(self) -> bool:
        try:
            return self.node.ask("/livez", port=ADMIN).status == 200
        except OSError:
            return False


def path_of(
    content: bytes, kind: str = "layer", repository: str = "library/app", ns: str = "registry.test"
) -> str:
    """The path at which a content is asked for."""
    room = "manifests" if kind in ("manifest", "index") else "blobs"
    return f"/v2/{repository}/{room}/{digest_of(content)}?ns={ns}"
