#!/usr/bin/env python3
"""Builds the images of the Dockerfile into OCI archives, without a Docker daemon, and writes their SBOMs.

    tools/image.py [--base IMAGE] [--target shorthaul] [--target agent] [--out dist]

It needs root, and Debian's buildah and mmdebstrap. Without ``--base``, the base is a Debian 13 that
mmdebstrap makes from this machine's Debian mirror; so nothing but that mirror and the Python package index is
asked. How this machine reaches them (apt's configuration, pip.conf, certificates) is lent to the build by
mounts, and nothing of it stays in the image. All times in the image are that of the last commit.
"""

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from agent.cli.progress import Course, shown

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("shorthaul", "agent")
_SUITE = "trixie"
_ABOUT_S = 180.0  # the base is made once; two cores then build both images in this time
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
_KEPT = ("/usr/share/locale/locale.alias", "/usr/share/doc/*/copyright")


class BuildFailed(Exception):
    """The image can't be built. ``hint``: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image in an archive. ``digest``: its manifest's. ``layers``: their compressed sizes in bytes."""

    archive: Path
    sbom: Path
    digest: str
    layers: tuple[int, ...]


def run(*command: str | Path, **environment: str) -> str:
    """The output of a command. Raises `BuildFailed` with the end of its errors."""
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, env={**os.environ, **environment}
    )
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise BuildFailed(
            f"{Path(command[0]).name} failed ({done.returncode}):\n{said}", "see its errors above"
        )
    return done.stdout


class Builder:
    """One buildah with a store of its own below ``folder``."""

    def __init__(self, folder: Path, epoch: int) -> None:
        self._folder = folder
        self._epoch = epoch
        self._storage = (f"--root={folder / 'store'}", f"--runroot={folder / 'run'}")
        self._driver = "overlay"
        try:
            self.buildah("info")
        except BuildFailed:  # this machine's own root is an overlay, as in most containers
            self._driver = "vfs"

    def buildah(self, *arguments: str | Path) -> str:
        """What one call of buildah prints."""
        return run(
            "buildah",
            f"--storage-driver={self._driver}",
            *self._storage,
            *arguments,
            TMPDIR=str(self._folder),
        )

    def from_tar(self, tar: Path, name: str) -> str:
        """Make an image of a file system."""
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "--quiet", container, tar, "/")
        self.buildah("commit", "--quiet", "--rm", f"--timestamp={self._epoch}", container, name)
        return name

    def build(self, target: str, base: str, lent: Sequence[str]) -> str:
        """Build a target of the Dockerfile. Returns the image's name."""
        name = f"localhost/shorthaul-{target}"
        self.buildah(
            "bud", "--quiet", "--isolation=chroot", "--layers", "--format=oci", f"--timestamp={self._epoch}",
            *(["--pull-never"] if base.startswith("localhost/") else []),
            *lent, f"--build-arg=BASE={base}",
            f"--build-arg=VERSION={version()}", f"--build-arg=REVISION={revision()}",
            f"--target={target}", f"--tag={name}", ROOT,
        )  # fmt: skip
        return name

    def save(self, name: str, archive: Path) -> None:
        """Write an image into an OCI archive."""
        archive.unlink(missing_ok=True)
        self.buildah("push", "--quiet", name, f"oci-archive:{archive}:{version()}")

    @contextmanager
    def mounted(self, name: str) -> Iterator[Path]:
        """The file system of an image."""
        container = self.buildah("from", "--pull-never", name).strip()
        try:
            yield Path(self.buildah("mount", container).strip())
        finally:
            self.buildah("umount", container)
            self.buildah("rm", container)


@contextmanager
def scratch(cache: Path) -> Iterator[Path]:
    """A folder for one build. What a build left behind that was killed is removed; two builds take turns."""
    with (cache / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in cache.glob("image-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix="image-", dir=cache) as name:
            yield Path(name)


def make_base(tar: Path, epoch: int) -> None:
    """Make a small Debian 13, as the slim images are: without manuals, translations and documentation."""
    left_out = [f"--dpkgopt=path-exclude={each}" for each in _LEFT_OUT]
    kept = [f"--dpkgopt=path-include={each}" for each in _KEPT]
    partial = tar.with_suffix(".partial")
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--include=ca-certificates",
        *left_out, *kept,
        # Debian's mirror and what this machine needs to reach it are this machine's.
        '--customize-hook=rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/apt.conf.d/99mmdebstrap',
        '--customize-hook=rm -rf "$1"/var/log/* "$1"/var/cache/ldconfig/aux-cache',
        *(f"--aptopt={path}" for path in _apt_options()),
        "--format=tar", _SUITE, partial, apt_source(),
        SOURCE_DATE_EPOCH=str(epoch),
    )  # fmt: skip
    partial.rename(tar)


def apt_source() -> str:
    """The line of sources.list for this machine's Debian mirror."""
    sites = run("apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)", "Created-By: Packages")
    for site, codename in (line.split() for line in sites.splitlines()):
        if re.fullmatch(r"bookworm|trixie|forky|sid", codename):
            return f"deb [signed-by={_KEYRING}] {site} {_SUITE} main"
    raise BuildFailed(
        "no Debian mirror in apt's sources", "add one (man 5 sources.list), or give --base IMAGE"
    )


def _apt_options() -> list[Path]:
    """apt's settings of this machine: proxies and the like."""
    found = sorted(Path("/etc/apt/apt.conf.d").glob("*"))
    return [path for path in found if re.search(r"^\s*Acquire", path.read_text(), re.MULTILINE)]


def lend(folder: Path) -> list[str]:
    """What this machine needs to reach its mirrors, as mounts of the build."""
    apt, mnt = folder / "apt", folder / "mnt"
    (apt / "apt.conf.d").mkdir(parents=True)
    mnt.mkdir()
    (apt / "sources.list").write_text(f"{apt_source()}\n")
    for path in _apt_options():
        shutil.copy(path, apt / "apt.conf.d")
    config = Path(os.environ.get("PIP_CONFIG_FILE", "/etc/pip.conf"))
    if config.is_file():
        shutil.copy(config, mnt / "pip.conf")
    lent = [f"--volume={apt}:/etc/apt:ro", f"--volume={mnt}:/mnt:ro"]
    return [*lent, f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro"] if _CERTIFICATES.exists() else lent


def write_sbom(root: Path, sbom: Path, target: str, epoch: int) -> None:
    """Write what is in an image, Debian's and Python's packages, as CycloneDX."""
    tools = Path(sys.executable).parent
    when = datetime.fromtimestamp(epoch, UTC).isoformat()
    said = (
        "--sbom-type=cdx",
        "--cdx-schema-version=1.6",
        f"--distro-version={version()}",
        f"--timestamp={when}",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        debian, python = folder / "debian", folder / "python.cdx.json"
        run(
            tools / "debsbom",
            "generate",
            *said,
            "--distro-name=shorthaul-debian",
            f"--root={root}",
            f"--out={debian}",
        )
        run(
            tools / "cyclonedx-py", "requirements", f"--pyproject={ROOT / 'pyproject.toml'}",
            "--spec-version=1.6", "--output-reproducible", f"--output-file={python}",
            ROOT / "requirements-image.lock",
        )  # fmt: skip
        merged = folder / "merged"
        run(
            tools / "debsbom", "merge", *said, "--distro-name=shorthaul-image",
            f"--cdx-serialnumber={uuid5(NAMESPACE_URL, f'shorthaul:{target}:{revision()}')}",
            f"--out={merged}", f"{debian}.cdx.json", python,
        )  # fmt: skip
        shutil.copy(f"{merged}.cdx.json", sbom)


def describe(archive: Path, sbom: Path) -> Built:
    """The digest and the layers of an archive's image."""
    with tarfile.open(archive) as tar:
        index = json.loads(_member(tar, "index.json"))
        digest = index["manifests"][0]["digest"]
        manifest = json.loads(_member(tar, f"blobs/{digest.replace(':', '/')}"))
    sizes = tuple(layer["size"] for layer in manifest["layers"])
    return Built(archive=archive, sbom=sbom, digest=digest, layers=sizes)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise BuildFailed(f"the archive has no {name}", "remove it and build again")
    return file.read()


def version() -> str:
    """This checkout's version."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        raise BuildFailed("pyproject.toml has no version", "it is the first key of [project]")
    return found[1]


def revision() -> str:
    """The commit, with ``-dirty`` if the checkout differs from it."""
    return run("git", "-C", ROOT, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*").strip()


def commit_time() -> int:
    """The time of the last commit, in seconds since 1970, or what SOURCE_DATE_EPOCH says."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "-C", ROOT, "log", "-1", "--format=%ct"))


def build(
    targets: Sequence[str],
    out: Path,
    base: str | None = None,
    *,
    step: Callable[[str, float], None] = lambda _doing, _share: None,
) -> list[Built]:
    """Build the targets into ``out``. Raises `BuildFailed`. ``step``: told what begins, and what is done."""
    for tool in ("buildah", *(() if base else ("mmdebstrap",))):
        if shutil.which(tool) is None:
            raise BuildFailed(f"{tool} is missing", f"apt-get install {tool}, or: tools/setup image")
    out.mkdir(parents=True, exist_ok=True)
    cache, epoch = ROOT / ".cache", commit_time()
    cache.mkdir(exist_ok=True)
    built = []
    with scratch(cache) as folder:
        builder = Builder(folder, epoch)
        if base is None:
            tar = cache / f"base-{_SUITE}.tar"
            if not tar.exists():
                step("Debian's base", 0.0)
                make_base(tar, epoch)
            base = builder.from_tar(tar, "localhost/base")
        lent = lend(folder)
        for at, target in enumerate(targets):
            step(target, (2 * at + 1) / (2 * len(targets) + 1))
            image = builder.build(target, base, lent)
            stem = "shorthaul" if target == "shorthaul" else f"shorthaul-{target}"
            archive, sbom = out / f"{stem}-{version()}.oci.tar", out / f"{stem}-{version()}.cdx.json"
            step(f"{target}: its bill of materials, and the archive", (2 * at + 2) / (2 * len(targets) + 1))
            with builder.mounted(image) as root:
                write_sbom(root, sbom, target, epoch)
            builder.save(image, archive)
            built.append(describe(archive, sbom))
    return built


def main() -> int:
    """Build, and say what was built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", help="an image with Debian 13, instead of one made from the Debian mirror")
    parser.add_argument("--target", action="append", choices=TARGETS, help="may be repeated (all)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="directory for the archives (dist)")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("building changes users inside the image: run it as root")
    try:
        with shown(Course("image", about_s=_ABOUT_S)) as course:
            built = build(arguments.target or TARGETS, arguments.out, arguments.base, step=course.step)
        for one in built:
            layers = ", ".join(f"{layer / 1e6:.1f} MB" for layer in one.layers)
            print(f"{one.archive}: {sum(one.layers) / 1e6:.0f} MB compressed, {one.digest}")
            print(f"  layers: {layers}; SBOM: {one.sbom.name}")
    except BuildFailed as error:
        print(f"image: {error}\nhint: {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
