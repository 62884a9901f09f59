"""``shorthaul bench`` against real agents: within its bounds, and a report whatever happens."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from benchmarks.reporting.format import Report, from_json
from tests.server.agents import ADMIN, LOCAL, Image, Node, Site, make_image

_NAME = "registry.test/library/app:v1"
_LAYER_BYTES = 300_000


def _command(node: Node, *arguments: str) -> list[str]:
    shorthaul = str(Path(sys.executable).parent / "shorthaul")
    where = ["--url", f"http://{node.address}:{ADMIN}", "--hostport", f"{node.address}:{LOCAL}"]
    return [shorthaul, "bench", *where, *arguments]


def _bench(node: Node, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        _command(node, *arguments), capture_output=True, text=True, check=False, timeout=250
    )
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended


def _image() -> Image:
    randomness = Random(3)
    return make_image(randomness.randbytes(_LAYER_BYTES), randomness.randbytes(_LAYER_BYTES), note="bench")


@pytest.fixture
def nodes(site: Site) -> tuple[Node, Node]:
    """a1, which has the first layer, and a2 of its zone, which has the whole image."""
    a1, a2, image = site.add("a1"), site.add("a2"), _image()
    site.start()
    a2.put_image(image, _NAME)
    a1.put(image.layers[0])
    a1.wait_for_holders(image.layers[1], {"a2"})
    a1.wait_for_holders(image.manifest, {"a2"})
    return a1, a2


def _report(path: Path) -> Report:
    return from_json(path.read_bytes(), str(path))


def _ways(report: Report, section: str) -> set[str]:
    found = report.section(section)
    return set() if found is None else {one.way for figure in found.figures for one in figure.series} - {""}


def test_first_bytes_and_whole_blobs_are_measured_by_where_they_are_within_the_bounds(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    ended = _bench(
        nodes[0], "--image", _NAME, "--seconds", "14", "--bytes", "20MB", "--rate", "20", "--json", str(path)
    )
    report = _report(path)
    assert _ways(report, "latency: first byte") == {"this node", "same zone"}
    assert _ways(report, "latency: whole blob") == {"this node", "same zone"}
    figures = report.section("latency: whole blob")
    assert figures is not None
    moved = figures.figure("bytes that were moved")
    assert moved is not None
    assert 1 < (moved.series[0].values[0] or 0) <= 21
    assert report.seconds < 120
    assert "The bound of bytes allows" in ended.stdout


def test_image_that_nobody_has_is_named_with_what_to_do(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    ended = _bench(nodes[0], "--image", "registry.test/none:v9", "--json", str(path), status=1)
    assert "registry.test/none:v9" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not _report(path).complete


def test_without_an_image_those_that_were_pulled_last_are_used_or_it_says_what_to_do(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    a1, _ = nodes
    ended = _bench(a1, status=1)
    assert "this node has pulled no image by tag through its agent yet; pull one, or name one" in ended.stderr
    assert a1.ask("/v2/library/app/manifests/v1?ns=registry.test").status == 200
    path = tmp_path / "report.json"
    _bench(a1, "--seconds", "14", "--bytes", "6MB", "--rate", "5", "--json", str(path))
    assert _ways(_report(path), "latency: first byte") == {"this node", "same zone"}


def _run_until(node: Node, path: Path, shown: str, arguments: Sequence[str] = ()) -> "subprocess.Popen[str]":
    """A run that has printed this."""
    child = subprocess.Popen(
        _command(node, "--image", _NAME, "--seconds", "60", "--json", str(path), *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if shown in line:
            return child
    raise AssertionError(child.communicate())


def test_agent_that_dies_is_said_and_what_was_measured_is_kept(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    with _run_until(nodes[0], path, "first byte, open connection") as child:
        nodes[0].process.kill()
        _, errors = child.communicate(timeout=200)
    assert child.returncode == 1, errors
    assert "nothing answered 20 times in a row" in errors
    assert "refused: nobody listens there" in errors
    report = _report(path)
    assert not report.complete
    assert _ways(report, "latency: first byte")


def test_ctrl_c_keeps_what_was_measured_and_says_that_it_is_not_all(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    with _run_until(nodes[0], path, "first byte, open connection") as child:
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=200)
    assert child.returncode == 130, errors
    assert "before it was done" in errors
    assert "Traceback" not in errors
    assert _ways(_report(path), "latency: first byte")


def test_no_agent_is_said_with_what_to_do(tmp_path: Path) -> None:
    shorthaul = str(Path(sys.executable).parent / "shorthaul")
    ended = subprocess.run(
        [shorthaul, "bench", "--url", "http://127.0.0.1:9", "--seconds", "3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 1
    assert "no agent answers at http://127.0.0.1:9" in ended.stderr
    assert "name its admin port with --url" in ended.stderr
