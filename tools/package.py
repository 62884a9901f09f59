#!/usr/bin/env python3
"""Packs the chart, with the image that `make image` built pinned by its digest.

    tools/package.py [--repository REGISTRY/shorthaul] [--out dist]

It writes the archive that Helm installs from, and the same as an OCI artefact, in the layout that registries
take (helm.sh, "OCI image layout for charts"). Times in both are those of the last commit.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import yaml

from tools.image import ROOT, BuildFailed, commit_time, describe, version

CHART = ROOT / "helm" / "shorthaul"
_CONFIG = "application/vnd.cncf.helm.config.v1+json"
_CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class PackingFailed(BuildFailed):
    """The chart can't be packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """The chart's archive, its OCI artefact, and the digest of that one's manifest."""

    archive: Path
    artefact: Path
    digest: str


def pinned(values: str, digest: str, repository: str | None = None) -> str:
    """The text of values.yaml with the image's digest, and its repository. Raises `PackingFailed`."""
    wanted = {"digest": digest} | ({} if repository is None else {"repository": repository})
    for key, value in wanted.items():
        # The first of that name is the image's; comments and order stay.
        values, count = re.subn(rf"^(  {key}:) .*$", rf"\1 {value}", values, count=1, flags=re.MULTILINE)
        if count != 1 or yaml.safe_load(values)["image"][key] != value:
            raise PackingFailed(f"values.yaml has no image.{key} to set", "is it still its first block?")
    return values


def pack(out: Path, digest: str, repository: str | None = None) -> Packed:
    """Pack the chart into ``out``. Raises `PackingFailed`."""
    epoch = commit_time()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "shorthaul"
        shutil.copytree(CHART, copy)
        values = copy / "values.yaml"
        values.write_text(pinned(values.read_text(), digest, repository))
        for path in [copy, *copy.rglob("*")]:
            os.utime(path, (epoch, epoch))
        archive = Path(helm_python.package(copy, destination=out))
    artefact = out / f"shorthaul-chart-{version()}.oci.tar"
    return Packed(archive=archive, artefact=artefact, digest=write_artefact(archive, artefact, epoch))


def write_artefact(archive: Path, artefact: Path, epoch: int) -> str:
    """Write a chart's archive as an OCI artefact. Returns the digest of its manifest."""
    metadata = helm_python.Chart.load_archive(archive.read_bytes()).metadata
    blobs: dict[str, bytes] = {}

    def put(media_type: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": put(_CONFIG, json.dumps(metadata).encode()),
        "layers": [put(_CONTENT, archive.read_bytes())],
        "annotations": {
            "org.opencontainers.image.title": metadata["name"],
            "org.opencontainers.image.description": metadata["description"],
            "org.opencontainers.image.version": metadata["version"],
        },
    }
    described = put(_MANIFEST, json.dumps(manifest).encode())
    tagged = {**described, "annotations": {"org.opencontainers.image.ref.name": metadata["version"]}}
    files = {
        "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [tagged]}).encode(),
        **blobs,
    }
    _write_tar(artefact, files, epoch)
    digest: str = described["digest"]
    return digest


def _write_tar(path: Path, files: Mapping[str, bytes], epoch: int) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), epoch, 0o644
            tar.addfile(member, io.BytesIO(content))


def image_digest(out: Path) -> str:
    """The digest of the image that was built into ``out``. Raises `PackingFailed`."""
    archive = out / f"shorthaul-{version()}.oci.tar"
    if not archive.exists():
        raise PackingFailed(f"{archive} is missing", "make image first, or give --digest sha256:…")
    return describe(archive, archive).digest


def main() -> int:
    """Pack, and say what was packed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", help="where the image is, for example registry.example/shorthaul")
    parser.add_argument("--digest", help="the image's digest (that of the archive which make image wrote)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="directory of the archives (dist)")
    arguments = parser.parse_args()
    try:
        digest = arguments.digest or image_digest(arguments.out)
        packed = pack(arguments.out, digest, arguments.repository)
    except BuildFailed as error:
        print(f"chart: {error}\nhint: {error.hint}", file=sys.stderr)
        return 1
    print(f"{packed.archive}: installs the image {digest}")
    print(f"{packed.artefact}: the same as an OCI artefact, {packed.digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
