"""The agents on loopback addresses: one that is attacked, and a peer that holds what it lacks."""

import contextlib
import hashlib
import json
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from benchmarks.fuzz.proofs import KEY
from benchmarks.lab.folders import make_folder
from benchmarks.lab.process import Process

PORTS = {"hostport": 30020, "nodeport": 30022, "peer": 30023, "admin": 9090}
IDLE_S = 2.0
NODE, OTHER = "attacked", "holder"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE = "library/app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The attacked agent. ``mine``, ``theirs``: paths of content that it has, and that its peer has.

    ``other``: the peer's address, from which honest clients come.
    """

    folder: Path
    address: str
    other: str
    process: Process
    mine: tuple[str, ...]
    theirs: tuple[str, ...]
    content: dict[str, bytes]

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / f"{NODE}.log"

    @property
    def health(self) -> Path:
        """Its health socket."""
        return self.folder / "health.sock"

    @property
    def handover(self) -> Path:
        """Its socket for newer agents."""
        return self.folder / "handover.sock"

    def metrics(self) -> str:
        """Its metrics."""
        with urllib.request.urlopen(f"http://{self.address}:{PORTS['admin']}/metrics", timeout=60) as answer:
            return str(answer.read().decode())


@contextlib.contextmanager
def running(address: str, other: str) -> Iterator[Site]:
    """The two agents. They have the cluster's key."""
    folder = make_folder("shlab", "fuzz-")
    members = folder / "peers.yaml"
    (folder / "keys").write_text(f"{KEY}\n")
    (folder / "keys").chmod(0o600)
    members.write_text(yaml.safe_dump([_member(NODE, address), _member(OTHER, other)]))
    random = Random(8)
    mine, theirs = _image(random, 3000), _image(random, 200_000)
    processes = []
    try:
        for name, at, images in ((NODE, address, [mine]), (OTHER, other, [mine, theirs])):
            _write_layout(folder / name, images)
            config = folder / f"{name}.yaml"
            config.write_text(yaml.safe_dump(_settings(folder, name, at)))
            command = [str(Path(sys.executable).parent / "shorthaul"), "agent", "--config", str(config)]
            processes.append(Process([*command, "--log-format", "json"], log=folder / f"{name}.log"))
        for process, at in zip(processes, (address, other), strict=True):
            process.wait_until(lambda at=at: _is_ready(at), "an agent")  # type: ignore[misc]
        yield Site(
            folder=folder,
            address=address,
            other=other,
            process=processes[0],
            mine=_paths(mine),
            theirs=_paths(theirs),
            content={digest: content for image in (mine, theirs) for digest, content in image.items()},
        )
    finally:
        for process in processes:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _member(name: str, address: str) -> dict[str, Any]:
    return {"name": name, "address": address, "port": PORTS["peer"], "region": "r", "zone": "a"}


def _settings(folder: Path, name: str, address: str) -> dict[str, Any]:
    return {
        "node": {"name": name, "address": address},
        "placement": {"region": "r", "zone": "a"},
        "listen": {listener: f"{address}:{port}" for listener, port in PORTS.items()},
        "store": f"oci-layout://{folder / name}",
        "membership": {"static": str(folder / "peers.yaml")},
        "peering": {"key": str(folder / "keys")},
        "http": {"idle_s": IDLE_S},
        "health": {"socket": str(folder / "health.sock") if name == NODE else None},
        "handover": {"socket": str(folder / "handover.sock") if name == NODE else None},
    }


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _image(random: Random, size_bytes: int) -> dict[str, bytes]:
    """A layer, a config and a manifest, which is the last, by their digests."""
    layer, config = random.randbytes(size_bytes), b'{"architecture":"amd64","os":"linux","n":%d}' % size_bytes
    document = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": _digest(config),
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": _digest(layer),
                "size": len(layer),
            }
        ],
    }
    return {_digest(content): content for content in (layer, config, json.dumps(document).encode())}


def _write_layout(layout: Path, images: list[dict[str, bytes]]) -> None:
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entries = []
    for number, image in enumerate(images):
        for digest, content in image.items():
            (blobs / digest.partition(":")[2]).write_bytes(content)
        manifest = list(image)[-1]
        names = {
            "org.opencontainers.image.ref.name": f"registry.test/{IMAGE}:v{number}",
            "containerd.io/distribution.source.registry.test": IMAGE,
        }
        entries.append(
            {"mediaType": _MANIFEST, "digest": manifest, "size": len(image[manifest]), "annotations": names}
        )
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def _paths(image: dict[str, bytes]) -> tuple[str, ...]:
    layer, config, manifest = image
    ns = "?ns=registry.test"
    return (
        f"/v2/{IMAGE}/blobs/{layer}{ns}",
        f"/v2/{IMAGE}/blobs/{config}{ns}",
        f"/v2/{IMAGE}/manifests/{manifest}{ns}",
    )


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:{PORTS['admin']}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def probe_metrics(address: str, port: int, log: Path) -> Iterator[Process]:
    """A process that serves the probe's metrics as the probe does, without its programs."""
    process = Process([sys.executable, "-m", "benchmarks.fuzz.scraped", address, str(port)], log=log)
    try:
        process.wait_until(lambda: _answers(address, port), "the probe's metrics")
        yield process
    finally:
        process.kill()


def _answers(address: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=10):
            return True
    except OSError:
        return False
