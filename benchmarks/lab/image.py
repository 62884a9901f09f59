"""Makes images: valid layer tars of random bytes, as an OCI layout."""

import gzip
import hashlib
import io
import json
import random
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.oci.manifest import OCI_INDEX, OCI_MANIFEST

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_PIECE_BYTES = 128 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image in a layout directory. Sizes are in bytes, as transferred (compressed)."""

    layout: Path
    tag: str
    manifest: str
    blobs: dict[str, int]

    @property
    def size_bytes(self) -> int:
        """How many bytes a node has to fetch: manifests, configs and layers."""
        return sum(self.blobs.values())


def build_image(
    layout: Path,
    *,
    layer_bytes: Sequence[int],
    seed: int,
    compression: Sequence[str] = ("gzip",),
    platforms: Sequence[str] = (),
    tag: str = "v1",
) -> Image:
    """Write an image with layers of about these sizes into ``layout``, which is made if it does not exist.

    ``compression`` cycles over the layers: none, gzip, zstd. With ``platforms`` the image is an index with
    one manifest per platform, and each manifest has its own layers.
    """
    builder = _Builder(layout)
    randomness = random.Random(seed)
    if platforms:
        children = [
            builder.manifest(randomness, layer_bytes, compression, architecture) for architecture in platforms
        ]
        for child, architecture in zip(children, platforms, strict=True):
            child["platform"] = {"architecture": architecture, "os": "linux"}
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
        top = builder.put(json.dumps(index).encode(), OCI_INDEX)
    else:
        top = builder.manifest(randomness, layer_bytes, compression, "amd64")
    builder.finish(top, tag)
    return Image(layout=layout, tag=tag, manifest=top["digest"], blobs=builder.blobs)


class _Builder:
    def __init__(self, layout: Path) -> None:
        self._layout = layout
        self.blobs: dict[str, int] = {}
        (layout / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def put(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        path = self._layout / "blobs/sha256" / digest
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").rename(path)
        self.blobs[f"sha256:{digest}"] = len(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def manifest(
        self,
        randomness: random.Random,
        layer_bytes: Sequence[int],
        compression: Sequence[str],
        architecture: str,
    ) -> dict[str, Any]:
        layers, diff_ids = [], []
        for number, size in enumerate(layer_bytes):
            tar = _layer_tar(f"layer-{architecture}-{number}", _random_bytes(randomness, size))
            diff_ids.append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
            content, media_type = _compressed(tar, compression[number % len(compression)])
            layers.append(self.put(content, media_type))
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.put(json.dumps(config).encode(), _CONFIG),
            "layers": layers,
        }
        return self.put(json.dumps(document).encode(), OCI_MANIFEST)

    def finish(self, top: dict[str, Any], tag: str) -> None:
        entry = {**top, "annotations": {"org.opencontainers.image.ref.name": tag}}
        index = {"schemaVersion": 2, "manifests": [entry]}
        (self._layout / "index.json").write_text(json.dumps(index))


def _random_bytes(randomness: random.Random, size: int) -> bytes:
    """Random bytes, made in pieces, because `randbytes` makes less than 256 MiB at a time."""
    pieces, rest = divmod(size, _PIECE_BYTES)
    return b"".join(randomness.randbytes(piece) for piece in [_PIECE_BYTES] * pieces + [rest])


def _layer_tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _compressed(tar: bytes, compression: str) -> tuple[bytes, str]:
    if compression == "none":
        return tar, _LAYER
    if compression == "gzip":
        return gzip.compress(tar, compresslevel=1, mtime=0), f"{_LAYER}+gzip"
    done = subprocess.run(["zstd", "-1", "-q", "-c"], input=tar, capture_output=True, check=True)
    return done.stdout, f"{_LAYER}+zstd"
