"""Whoever writes a content store: adds and removes blobs and names in the way its real owner does."""

import hashlib
import json
import os
import subprocess
import tarfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from agent.content.containerd import Client
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


class Owner(ABC):
    """The owner of one store."""

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


class LayoutOwner(Owner):
    """Writes an OCI image layout as skopeo, buildah and containerd do: by rename."""

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


class ContainerdOwner(Owner):
    """A real containerd, driven by its own ``ctr``."""

    def __init__(self, folder: Path, version: str) -> None:
        super().__init__(folder)
        assert os.geteuid() == 0, "a real containerd needs root: run these tests as root"
        self._ctr = VERSIONS[version].parent / "ctr"
        self._daemon = Containerd(
            folder / "containerd", netns=None, version=version, config=_NO_GARBAGE_COLLECTION
        )
        self._leases = 0

    def store(self) -> ContentStore:
        return self.view(self._daemon.root)

    def view(self, root: Path) -> ContentStore:
        """Our view of the store, with another idea of where its files are."""
        return ContainerdContent(client=Client(self._daemon.socket, NAMESPACE), root=root)

    def add(self, content: bytes) -> None:
        digest = digest_of(content)
        command = [str(self._ctr), "--address", str(self._daemon.socket), "-n", NAMESPACE]
        command += ["content", "ingest", "--expected-digest", digest, f"test-{digest[7:]}"]
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

    def come_back(self) -> None:
        self._daemon.start()

    def close(self) -> None:
        self._daemon.stop()

    def _collect_garbage(self) -> None:
        self._leases += 1
        self._daemon.ctr("leases", "create", "--id", f"gc-{self._leases}")
        self._daemon.ctr("leases", "delete", "--sync", f"gc-{self._leases}")
