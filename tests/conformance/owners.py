"""Whoever writes a content store: adds and removes blobs and names in the way its real owner does."""

import asyncio
import hashlib
import json
import os
import subprocess
import tarfile
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError
from grpclib.client import Channel, UnaryUnaryMethod

from agent.content.containerd import Client, api_pb2
from agent.content.containerd import Containerd as ContainerdContent
from agent.content.ocilayout import OciLayout
from agent.content.store import ContentStore
from agent.oci.digest import Digest
from agent.oci.origin import MARK
from benchmarks.lab.containerd import NAMESPACE, VERSIONS, Containerd
from benchmarks.lab.image import Image, build_image
from benchmarks.lab.process import LabError

_NAME = "io.containerd.image.name"
_NO_GARBAGE_COLLECTION = """\
[plugins."io.containerd.gc.v1.scheduler"]
  deletion_threshold = 1000000
  mutation_threshold = 0
  startup_delay = "24h"
"""


def digest_of(content: bytes) -> Digest:
    """The sha256 digest, by the standard library alone."""
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


class Writing(Protocol):
    """A blob that an owner is writing. What is written at once is a multiple of 1 MiB, or the rest."""

    def write(self, content: bytes) -> None:
        """Write so much more."""

    def commit(self) -> None:
        """All is written: the blob is there."""

    def give_up(self) -> None:
        """End it, and remove what is there."""


class Owner(ABC):
    """The owner of one store. ``shows_growth``: whether others can see what it is writing."""

    shows_growth: ClassVar[bool]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = 0

    @abstractmethod
    def store(self) -> ContentStore:
        """Our view of the store, not running yet."""

    @abstractmethod
    def add(self, content: bytes) -> None:
        """Put a blob into the store."""

    @abstractmethod
    def begin(self, content: bytes) -> Writing:
        """Begin to write a blob, and write nothing of it yet."""

    @abstractmethod
    def is_writing(self, content: bytes) -> bool:
        """Whether some of a blob is written, and the rest is not."""

    @abstractmethod
    def resume(self, content: bytes) -> None:
        """Go on with a blob that it was writing before it vanished, and commit it."""

    @abstractmethod
    def remove(self, content: bytes) -> None:
        """Take a blob out of the store."""

    @abstractmethod
    def add_image(self, image: Image) -> None:
        """Put an image into the store, its name being its tag."""

    @abstractmethod
    def mark(self, image: Image, registry: str, repository: str) -> None:
        """Note that an image of the store came from there, as a pull does."""

    @abstractmethod
    def remove_name(self, name: str) -> None:
        """Take a name out of the store."""

    @abstractmethod
    def vanish(self) -> None:
        """Make the store unreachable."""

    @abstractmethod
    def come_back(self) -> None:
        """Make it reachable again, with what it had."""

    def new_image(self, name: str, *, seed: int) -> Image:
        """An image that is not in the store yet."""
        self._made += 1
        layout = self.folder / f"image-{self._made}"
        image = build_image(layout, layer_bytes=[3000], seed=seed, compression=("none",), tag=name)
        index = json.loads((layout / "index.json").read_text())
        index["manifests"][0]["annotations"] = {_NAME: name}
        (layout / "index.json").write_text(json.dumps(index))
        return image

    @abstractmethod
    def close(self) -> None:
        """End what it started."""


class _LayoutWriting:
    """A file beside the blobs of a layout."""

    def __init__(self, path: Path, blob: Path) -> None:
        self._path, self._blob = path, blob
        self._path.write_bytes(b"")

    def write(self, content: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(content)

    def commit(self) -> None:
        self._path.rename(self._blob)

    def give_up(self) -> None:
        self._path.unlink()


class LayoutOwner(Owner):
    """Writes an OCI image layout as skopeo, buildah and containerd do: by rename."""

    shows_growth = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._layout = folder / "layout"
        self._away = folder / "layout.away"
        (self._layout / "blobs/sha256").mkdir(parents=True)
        (self._layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._entries: dict[str, Any] = {}
        self._write_index()

    def store(self) -> ContentStore:
        return OciLayout(self._layout)

    def add(self, content: bytes) -> None:
        new = self._layout / "blob.new"
        new.write_bytes(content)
        new.rename(self._path(content))

    def begin(self, content: bytes) -> Writing:
        return _LayoutWriting(self._layout / "blob.growing", self._path(content))

    def is_writing(self, content: bytes) -> bool:
        return (self._layout / "blob.growing").exists()

    def resume(self, content: bytes) -> None:
        self.add(content)

    def remove(self, content: bytes) -> None:
        self._path(content).unlink()

    def add_image(self, image: Image) -> None:
        for path in (image.layout / "blobs/sha256").iterdir():
            self.add(path.read_bytes())
        (entry,) = json.loads((image.layout / "index.json").read_text())["manifests"]
        self._entries[image.tag] = entry
        self._write_index()

    def mark(self, image: Image, registry: str, repository: str) -> None:
        self._entries[image.tag]["annotations"][f"{MARK}{registry}"] = repository
        self._write_index()

    def remove_name(self, name: str) -> None:
        del self._entries[name]
        self._write_index()

    def vanish(self) -> None:
        self._layout.rename(self._away)

    def come_back(self) -> None:
        self._away.rename(self._layout)

    def close(self) -> None:
        pass  # nothing was started

    def _path(self, content: bytes) -> Path:
        return self._layout / "blobs/sha256" / hashlib.sha256(content).hexdigest()

    def _write_index(self) -> None:
        new = self._layout / "index.json.new"
        new.write_text(json.dumps({"schemaVersion": 2, "manifests": list(self._entries.values())}))
        new.rename(self._layout / "index.json")


class _Ingesting:
    """A ``ctr content ingest`` that gets its input bit by bit, under the name that a pull gives a layer."""

    def __init__(self, owner: "ContainerdOwner", content: bytes) -> None:
        self._owner = owner
        self._digest = digest_of(content)
        self._ref = f"layer-{self._digest}"
        command = owner.ingest(self._digest, len(content), self._ref)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def write(self, content: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(content)
        self._process.stdin.flush()

    def commit(self) -> None:
        self._end()
        assert self._process.returncode == 0

    def give_up(self) -> None:
        self.stop()
        asyncio.run(self._owner.abort(self._ref))

    def stop(self) -> None:
        """End the writer, and leave what it wrote."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(60)


class ContainerdOwner(Owner):
    """A real containerd, driven by its own ``ctr``."""

    shows_growth = True

    def __init__(self, folder: Path, version: str) -> None:
        super().__init__(folder)
        assert os.geteuid() == 0, "a real containerd needs root: run these tests as root"
        self._ctr = VERSIONS[version].parent / "ctr"
        self._daemon = Containerd(
            folder / "containerd", netns=None, version=version, config=_NO_GARBAGE_COLLECTION
        )
        self._leases = 0
        self._writing: list[_Ingesting] = []

    def store(self) -> ContentStore:
        return self.view(self._daemon.root)

    def view(self, root: Path) -> ContentStore:
        """Our view of the store, with another idea of where its files are."""
        return ContainerdContent(client=Client(self._daemon.socket, NAMESPACE), root=root)

    @property
    def command(self) -> list[str]:
        """``ctr`` for this daemon."""
        return [str(self._ctr), "--address", str(self._daemon.socket), "-n", NAMESPACE]

    def ingest(self, digest: str, size_bytes: int, ref: str) -> list[str]:
        """``ctr content ingest``: begins an ingest, or goes on with it."""
        expected = ["--expected-digest", digest, "--expected-size", str(size_bytes)]
        return [*self.command, "content", "ingest", *expected, ref]

    def begin(self, content: bytes) -> Writing:
        writing = _Ingesting(self, content)
        self._writing.append(writing)
        return writing

    def is_writing(self, content: bytes) -> bool:
        ref = f"{NAMESPACE}/1/layer-{digest_of(content)}"
        data = self._daemon.ingests / hashlib.sha256(ref.encode()).hexdigest() / "data"
        return data.exists() and 0 < data.stat().st_size < len(content)

    def resume(self, content: bytes) -> None:
        digest, source = digest_of(content), self.folder / "resumed"
        source.write_bytes(content)
        with source.open("rb") as file:
            subprocess.run(
                self.ingest(digest, len(content), f"layer-{digest}"), stdin=file, check=True, timeout=60
            )

    async def abort(self, ref: str) -> None:
        """Remove an ingest, as a pull does that fails."""
        channel = Channel(path=str(self._daemon.socket))
        # An AbortRequest has one field, a string with the number 1, as an InfoRequest has.
        method = UnaryUnaryMethod[Any, Any](
            channel, "/containerd.services.content.v1.Content/Abort", api_pb2.InfoRequest, Empty
        )
        try:
            for attempt in range(50):
                try:
                    request = api_pb2.InfoRequest(digest=ref)
                    await method(request, metadata={"containerd-namespace": NAMESPACE}, timeout=60.0)
                except GRPCError:  # the writer that has just ended may still be writing its time
                    if attempt == 49:
                        raise
                    await asyncio.sleep(0.1)
                else:
                    return
        finally:
            channel.close()

    def add(self, content: bytes) -> None:
        digest = digest_of(content)
        command = [*self.command, "content", "ingest", "--expected-digest", digest, f"test-{digest[7:]}"]
        for attempt in range(5):
            subprocess.run(command, input=content, capture_output=True, check=True, timeout=60)
            try:
                # Garbage collection leaves it alone from here on; one that was due may come in between.
                self._daemon.ctr("content", "label", digest, "containerd.io/gc.root=now")
            except LabError:
                if attempt == 4:
                    raise
            else:
                return

    def remove(self, content: bytes) -> None:
        self._daemon.ctr("content", "rm", digest_of(content))
        self._collect_garbage()

    def add_image(self, image: Image) -> None:
        archive = image.layout.with_suffix(".tar")
        with tarfile.open(archive, "w") as tar:
            for name in ("oci-layout", "index.json", "blobs"):
                tar.add(image.layout / name, arcname=name)
        self._daemon.ctr("images", "import", "--no-unpack", str(archive))

    def mark(self, image: Image, registry: str, repository: str) -> None:
        self._daemon.ctr("content", "label", image.manifest, f"{MARK}{registry}={repository}")
        self._daemon.ctr("images", "label", image.tag, "pulled=yes")

    def remove_name(self, name: str) -> None:
        self._daemon.ctr("images", "rm", name)

    def vanish(self) -> None:
        self._daemon.stop()
        for writing in self._writing:
            writing.stop()

    def come_back(self) -> None:
        self._daemon.start()

    def close(self) -> None:
        self.vanish()

    def _collect_garbage(self) -> None:
        self._leases += 1
        self._daemon.ctr("leases", "create", "--id", f"gc-{self._leases}")
        self._daemon.ctr("leases", "delete", "--sync", f"gc-{self._leases}")
