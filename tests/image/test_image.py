"""The images: what is in them, what is not, and that they don't tell where they were built."""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools import image
from tools.image import Built

pytestmark = pytest.mark.timeout(3000)  # the first test waits until the images are built

_LOCK = image.ROOT / "requirements-image.lock"


def blob(archive: Path, digest: str) -> bytes:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
        assert file is not None
        return file.read()


def manifest(one: Built) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(blob(one.archive, one.digest))
    return found


def configuration(one: Built) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(blob(one.archive, manifest(one)["config"]["digest"]))
    return found


def files(one: Built) -> Iterator[tuple[str, bytes]]:
    """All regular files of all layers: path and content."""
    with tarfile.open(one.archive) as outer:
        for layer in manifest(one)["layers"]:
            inner = outer.extractfile(f"blobs/{layer['digest'].replace(':', '/')}")
            with tarfile.open(fileobj=inner) as tar:
                for member in tar:
                    if member.isfile():
                        file = tar.extractfile(member)
                        assert file is not None
                        yield member.name.removeprefix("./"), file.read()


def locked() -> dict[str, str]:
    """The versions in the lock file, by the names that packages have among files."""
    pinned = re.findall(r"^([\w.-]+)==([\w.+!-]+)", _LOCK.read_text(), re.MULTILINE)
    return {name.lower().replace("-", "_"): version for name, version in pinned}


_ONLY_TO_BUILD = {"setuptools"}  # pbr asks for it, and hdrhistogram needs of pbr only how to read its version


@pytest.fixture(scope="module")
def contents(built: dict[str, Built]) -> dict[str, dict[str, int]]:
    """The size of each file, by target and path. Whoever holds all the bytes needs a GB."""
    return {target: {path: len(data) for path, data in files(one)} for target, one in built.items()}


@pytest.mark.parametrize("target", image.TARGETS)
def test_image_has_exactly_the_locked_packages(contents: dict[str, dict[str, int]], target: str) -> None:
    found = {
        match[1].lower(): match[2]
        for path in contents[target]
        if (match := re.match(r"opt/shorthaul/.*/site-packages/([\w.]+)-([^/-]+)\.dist-info/METADATA$", path))
    }
    wanted = {name: version for name, version in locked().items() if name not in _ONLY_TO_BUILD}
    assert found == {**wanted, "shorthaul": image.version()}


@pytest.mark.parametrize(("target", "most_mb"), [("shorthaul", 160), ("agent", 75)])
def test_image_is_not_larger_than_it_has_to_be(built: dict[str, Built], target: str, most_mb: int) -> None:
    assert sum(built[target].layers) <= most_mb * 1_000_000


def test_bcc_is_debians_and_only_in_the_image_with_the_probe(contents: dict[str, dict[str, int]]) -> None:
    bcc = "usr/lib/python3/dist-packages/bcc/__init__.py"
    llvm = re.compile(r"usr/lib/.*/libLLVM")
    assert bcc in contents["shorthaul"]
    assert any(map(llvm.match, contents["shorthaul"]))
    assert bcc not in contents["agent"]
    assert not any(map(llvm.match, contents["agent"]))


def test_programs_of_the_probe_are_in_the_image(contents: dict[str, dict[str, int]]) -> None:
    for path in ("programs/flows.c", "headers/include/linux/kconfig.h"):
        if (image.ROOT / "bpf" / path).exists():
            assert any(each.endswith(f"site-packages/bpf/{path}") for each in contents["shorthaul"])
    packed = {each.partition("site-packages/bpf/")[2] for each in contents["shorthaul"] if "/bpf/" in each}
    wanted = {
        str(path.relative_to(image.ROOT / "bpf"))
        for kind in ("programs/*", "headers/include/**/*.h")
        for path in (image.ROOT / "bpf").glob(kind)
        if path.is_file()
    }
    assert wanted <= packed


@pytest.mark.parametrize("target", image.TARGETS)
def test_benchmark_of_a_cluster_is_in_the_image_and_the_lab_is_not(
    contents: dict[str, dict[str, int]], target: str
) -> None:
    packed = {
        path.partition("site-packages/benchmarks/")[2] for path in contents[target] if "/benchmarks/" in path
    }
    sources = {path for path in packed if path.endswith(".py") and "/" in path}
    wanted = {
        str(path.relative_to(image.ROOT / "benchmarks"))
        for part in ("cluster", "latency", "reporting")
        for path in (image.ROOT / "benchmarks" / part).rglob("*.py")
    }
    assert sources == wanted


@pytest.mark.parametrize("target", image.TARGETS)
def test_the_files_of_the_dashboard_are_in_the_image(
    contents: dict[str, dict[str, int]], target: str
) -> None:
    page = "agent/admin/dashboard/static/"
    packed = {each.partition(page)[2] for each in contents[target] if f"site-packages/{page}" in each}
    here = image.ROOT / page
    assert {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()} <= packed


@pytest.mark.parametrize("target", image.TARGETS)
def test_nothing_to_build_with_and_no_tests_are_in_the_image(
    contents: dict[str, dict[str, int]], target: str
) -> None:
    left = [
        path for path in contents[target] if re.search(r"/(pip|setuptools|wheel)/__init__\.py$|/tests/", path)
    ]
    assert left == []
    assert not [path for path in contents[target] if re.search(r"bin/(gcc|cc|clang|git|curl|wget)$", path)]


@pytest.mark.parametrize("target", image.TARGETS)
def test_image_does_not_tell_where_it_was_built(built: dict[str, Built], target: str) -> None:
    """Mirrors, proxies, and certificates of the machine that builds are lent to the build only."""
    lent = {"etc/apt/sources.list", "etc/pip.conf", "root/.config/pip/pip.conf", "mnt/pip.conf"}
    for path, data in files(built[target]):
        assert path not in lent
        assert not (path.startswith("etc/apt/") and re.search(rb"^\s*(Acquire|deb )", data, re.MULTILINE)), (
            path
        )
        assert str(image.ROOT).encode() not in data, path
    history = json.dumps(configuration(built[target])["history"])
    assert not re.search(r"https?://|--volume|PIP_INDEX", history)


@pytest.mark.parametrize("target", image.TARGETS)
def test_image_starts_the_command_as_root_without_a_shell(built: dict[str, Built], target: str) -> None:
    config = configuration(built[target])["config"]
    assert config["Entrypoint"] == ["shorthaul"]
    assert config["User"] == "0:0"
    assert config.get("Cmd") is None
    assert config["Env"][0].startswith("PATH=/opt/shorthaul/bin:")


@pytest.mark.parametrize("target", image.TARGETS)
def test_labels_tell_version_and_commit(built: dict[str, Built], target: str) -> None:
    labels = configuration(built[target])["config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == image.version()
    assert labels["org.opencontainers.image.revision"] == image.revision()
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


@pytest.mark.parametrize("target", image.TARGETS)
def test_times_are_those_of_the_commit(built: dict[str, Built], target: str) -> None:
    with tarfile.open(built[target].archive) as outer:
        for layer in manifest(built[target])["layers"]:
            inner = outer.extractfile(f"blobs/{layer['digest'].replace(':', '/')}")
            with tarfile.open(fileobj=inner) as tar:
                assert {member.mtime for member in tar} == {image.commit_time()}


@pytest.mark.parametrize("target", image.TARGETS)
def test_sbom_lists_debians_and_pythons_packages(built: dict[str, Built], target: str) -> None:
    document = json.loads(built[target].sbom.read_bytes())
    assert document["bomFormat"] == "CycloneDX"
    packages = {each.get("purl", "").partition("?")[0] for each in document["components"]}
    for name, version in locked().items():
        assert any(
            re.fullmatch(rf"pkg:pypi/{name.replace('_', '[-_.]')}@{version}", each) for each in packages
        )
    bcc = any(each.startswith("pkg:deb/debian/python3-bpfcc@0.31") for each in packages)
    assert bcc == (target == "shorthaul")
    assert any(each.startswith("pkg:deb/debian/libc6@") for each in packages)
