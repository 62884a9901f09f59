"""The packed chart: what it installs, and that a registry and Helm take it."""

import hashlib
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import helm_python
import pytest
import yaml

from benchmarks.lab.process import run
from benchmarks.lab.registry import Registry
from tests.chart.rendering import WITH_KEY
from tools.package import CHART, Packed, PackingFailed, image_digest, pack, pinned

_DIGEST = f"sha256:{'5' * 64}"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack(tmp_path_factory.mktemp("dist"), _DIGEST, "registry.example/shorthaul")


def images(chart: helm_python.Chart) -> set[str]:
    """The images of the agents' pods."""
    [text] = [text for path, text in chart.render(WITH_KEY).items() if path.endswith("/daemonset.yaml")]
    spec = yaml.safe_load(text)["spec"]["template"]["spec"]
    return {each["image"] for each in (*spec["initContainers"], *spec["containers"])}


def test_packed_chart_installs_the_image_by_its_digest(packed: Packed) -> None:
    chart = helm_python.Chart.load_archive(packed.archive.read_bytes())
    assert images(chart) == {f"registry.example/shorthaul@{_DIGEST}"}


def test_pinning_changes_two_lines_and_no_comment() -> None:
    before = (CHART / "values.yaml").read_text()
    after = pinned(before, _DIGEST, "registry.example/shorthaul")
    changed = [line for line, old in zip(after.splitlines(), before.splitlines(), strict=True) if line != old]
    assert changed == ["  repository: registry.example/shorthaul", f"  digest: {_DIGEST}"]


def test_values_without_the_key_are_refused() -> None:
    with pytest.raises(PackingFailed, match=r"no image\.digest"):
        pinned("image:\n  tag: x\n", _DIGEST)


def test_chart_without_an_image_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(PackingFailed, match="is missing") as caught:
        image_digest(tmp_path)
    assert "make image" in caught.value.hint


def test_packing_twice_gives_the_same_bytes(packed: Packed, tmp_path: Path) -> None:
    again = pack(tmp_path, _DIGEST, "registry.example/shorthaul")
    assert again.digest == packed.digest
    assert again.artefact.read_bytes() == packed.artefact.read_bytes()


def test_artefact_is_what_its_digests_say(packed: Packed) -> None:
    with tarfile.open(packed.artefact) as tar:
        blobs = {each.name: tar.extractfile(each) for each in tar if each.name.startswith("blobs/sha256/")}
        for name, file in blobs.items():
            assert file is not None
            assert hashlib.sha256(file.read()).hexdigest() == Path(name).name
    assert f"blobs/{packed.digest.replace(':', '/')}" in blobs


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on loopback, at a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("lab") / "registry"
    running = Registry(folder, name="registry.example", address="127.0.0.1", port=port, netns=None)
    try:
        yield running.endpoint
    finally:
        running.stop()


def test_registry_takes_the_artefact_and_helm_pulls_it(packed: Packed, registry: str, tmp_path: Path) -> None:
    target = f"docker://{registry}/charts/shorthaul:0.1.0"
    source = f"oci-archive:{packed.artefact}:0.1.0"
    run(
        [
            "skopeo",
            "--insecure-policy",
            "copy",
            "--preserve-digests",
            "--dest-tls-verify=false",
            source,
            target,
        ]
    )
    helm_python.pull(
        f"oci://{registry}/charts/shorthaul", version="0.1.0", destination=tmp_path, plain_http=True
    )
    assert (tmp_path / "shorthaul-0.1.0.tgz").read_bytes() == packed.archive.read_bytes()
