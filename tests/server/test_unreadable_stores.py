"""Stores that this agent may not read, and machines that give it nothing: it serves on, and says so."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from agent import __version__

from .agents import ADMIN, Node, Site, digest_of, make_image, wait_for

# Root without the right to pass over permissions: as an ordinary user, files of others are closed to it.
_ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
_WITHOUT_INOTIFY = (
    *("unshare", "--user", "--map-root-user"),
    *("sh", "-c", 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh"),
)
_SOMEBODY = 65534


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as made:
        yield made


def _close(node: Node, what: str) -> None:
    """Give a part of the layout to somebody else, closed to all others."""
    os.chown(node.layout / what, _SOMEBODY, _SOMEBODY)
    (node.layout / what).chmod(0o700)


def _open_again(node: Node, what: str) -> None:
    os.chown(node.layout / what, 0, 0)
    (node.layout / what).chmod(0o755)


def _answers(node: Node) -> bool:
    try:
        return node.ask("/livez", port=ADMIN).status == 200
    except OSError:
        return False


def _lines(node: Node, words: str) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in node.log.read_text().splitlines()]
    return [event for event in events if words in event["message"]]


def test_a_store_that_is_closed_to_the_agent_costs_no_crash_and_no_500(site: Site) -> None:
    closed, other = site.add("closed"), site.add("other")
    closed.before = _ORDINARY
    image, blob = make_image(b"layer" * 1000), b"of the other" * 1000
    closed.put_image(image, "registry.test/library/app:v1")
    other.put(blob)
    _close(closed, "blobs")
    closed.launch()
    other.launch()
    other.wait()
    wait_for(lambda: _answers(closed), "the agent runs")
    for path in (
        "/v2/library/app/manifests/v1?ns=registry.test",
        f"/v2/library/app/manifests/{image.digest}",
        f"/v2/library/app/blobs/{digest_of(image.layers[0])}",
    ):
        assert closed.ask(path).status == 404, path
        assert other.ask(path).status == 404, path
    assert "Permission denied" in closed.ask("/readyz", port=ADMIN).body.decode()
    # What it does not have itself it still gets from its peer: only its own store is closed.
    assert closed.blob(blob).body == blob
    assert closed.ask(f"/api/explain?digest={image.digest}", port=ADMIN).json()["local"] is False
    wait_for(lambda: bool(_lines(closed, "the store does not work")), "the log says so")
    _open_again(closed, "blobs")
    wait_for(closed.is_ready, "the store can be read again")
    tag = "/v2/library/app/manifests/v1?ns=registry.test"
    for node in (closed, other):
        wait_for(lambda node=node: node.ask(tag).status == 200, "the tag's age is known")  # type: ignore[misc]
        assert node.ask(tag).body == image.manifest
        assert node.blob(image.layers[0]).body == image.layers[0]
        assert node.logged_errors() == []
    wait_for(lambda: bool(_lines(closed, "the store works again")), "the log says that it is back")
    (failed,) = _lines(closed, "the store does not work")
    assert "Permission denied" in failed["message"]
    assert failed["hint"]


def test_the_first_line_says_where_the_agent_listens_whom_it_knows_and_what_it_serves(site: Site) -> None:
    node, _ = site.add("node"), site.add("other")
    site.start()
    wait_for(lambda: bool(_lines(node, "serving")), "the line")
    (line,) = _lines(node, "serving")
    assert line["version"] == __version__
    assert {line[name].rpartition(":")[0] for name in ("hostport", "peer", "nodeport", "admin")} == {
        node.address
    }
    assert (line["peers"], line["membership"]) == (1, str(site.members))
    assert str(node.layout) in line["store"]


def test_a_containerd_that_is_not_there_is_said_and_the_agent_waits_for_it(site: Site) -> None:
    missing = site.folder / "no-such.sock"
    node = site.add("node", store=f"containerd://{missing}")
    node.launch()
    wait_for(lambda: bool(_lines(node, "the store does not work")), "the log says so")
    (line,) = _lines(node, "the store does not work")
    assert str(missing) in line["message"]
    assert "does containerd run" in line["hint"]
    assert node.ask("/v2/library/app/manifests/v1").status == 404
    assert node.logged_errors() == []


def test_pipes_in_the_place_of_files_stop_nothing_and_are_said(site: Site) -> None:
    labels = site.folder / "labels"
    state = site.folder / "state"
    state.mkdir()
    for path in (labels, state / "tag-ages.json"):
        os.mkfifo(path)
    node = site.add("node", state_dir=str(state), placement={"zone": "a", "labels_file": str(labels)})
    image = make_image(b"layer" * 1000)
    node.put_image(image, "registry.test/library/app:v1")
    site.start()
    index = node.layout / "index.json"
    good = index.read_bytes()
    index.unlink()
    os.mkfifo(index)
    wait_for(lambda: not node.is_ready(), "the store has a problem")
    assert "not a regular file" in node.ask("/readyz", port=ADMIN).body.decode()
    assert node.blob(image.layers[0]).status == 200
    index.unlink()
    index.write_bytes(good)
    wait_for(node.is_ready, "the store works again")
    assert sum("not a regular file" in line for line in node.log.read_text().splitlines()) >= 2
    assert node.logged_errors() == []


def test_a_burst_of_connections_is_not_refused(site: Site) -> None:
    node = site.add("node")
    site.start()
    listening = subprocess.run(
        ["ss", "-ltnH", "src", node.address], capture_output=True, text=True, check=True
    )
    assert {line.split()[2] for line in listening.stdout.splitlines()} == {"1024"}


def test_a_single_blob_that_is_closed_to_the_agent_comes_from_a_peer(site: Site) -> None:
    closed, other = site.add("closed"), site.add("other")
    closed.before = _ORDINARY
    blob = b"both have it" * 1000
    for node in (closed, other):
        node.put(blob)
    os.chown(closed.path_of(blob), _SOMEBODY, _SOMEBODY)
    closed.path_of(blob).chmod(0o600)
    site.start()
    reply = closed.blob(blob)
    assert (reply.status, reply.body) == (200, blob)
    assert reply.headers["Shorthaul-Source"].startswith("node=other; ")
    assert closed.logged_errors() == []


def test_without_inotify_blobs_are_noticed_all_the_same_and_the_log_says_what_is_missing(site: Site) -> None:
    node = site.add("node")
    node.before = _WITHOUT_INOTIFY
    node.put(b"there before")
    site.start()
    assert node.blob(b"there before").status == 200
    node.put(b"came later")  # waits until it is noticed
    assert node.blob(b"came later").body == b"came later"
    node.path_of(b"came later").unlink()
    wait_for(lambda: node.blob(b"came later").status == 404, "its going is noticed")
    (line,) = _lines(node, "no inotify watches left")
    assert "max_user_instances" in line["hint"]
    assert node.logged_errors() == []
