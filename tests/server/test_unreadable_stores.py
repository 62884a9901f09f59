"""Stores that this agent may not read, and machines that give it nothing: it serves on, and says so."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import __version__

from .agents import ADMIN, PEER, Node, Site, digest_of, log_lines, make_image, wait_for
from .proofs import OPEN
from .websocket import questioning

PEERING = OPEN  # some of these tests ask the peer listener, and are no peers

# Root without the right to pass over permissions: as an ordinary user, files of others are closed to it.
_ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
_WITHOUT_INOTIFY = (
    *("unshare", "--user", "--map-root-user"),
    *("sh", "-c", 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh"),
)
_SOMEBODY = 65534


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(PEERING) as made:
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
    events = [json.loads(line) for line in log_lines(node.log)]
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


def _held(node: Node, blob: bytes) -> bool:
    """Whether the agent tells its peers that it has the blob."""
    with questioning(node.address) as questioner:
        return bool(questioner.ask(digests=[digest_of(blob)], tags=[])["held"])


def _shut(path: Path) -> None:
    os.chown(path, _SOMEBODY, _SOMEBODY)
    path.chmod(0o600)


@pytest.mark.parametrize("before", [_ORDINARY, _WITHOUT_INOTIFY], ids=["inotify", "no inotify"])
def test_a_blob_that_can_not_be_read_is_not_announced_and_everybody_says_why_until_it_can(
    site: Site, before: tuple[str, ...]
) -> None:
    closed, other = site.add("closed"), site.add("other")
    closed.before = before
    blob, beside = b"both have it" * 1000, b"nobody closed this" * 1000
    for node in (closed, other):
        node.put(blob, beside)
    _shut(closed.path_of(blob))
    site.start()
    assert (_held(closed, beside), _held(closed, blob)) == (True, False)
    assert closed.blob(blob, port=PEER).status == 404
    explained = closed.explain(digest_of(blob))
    assert (explained["local"], explained["choice"]) == (False, "other")
    assert explained["flaw"] == "held, but unreadable: permission denied"
    scrub = closed.ask("/api/scrub", port=ADMIN).json()
    assert scrub["unreadable"] == [{"digest": digest_of(blob), "reason": "permission denied"}]
    assert closed.metric("shorthaul_store_unreadable_blobs") == 1
    assert closed.metric("shorthaul_store_blobs") == 1
    wait_for(lambda: bool(_lines(closed, "part of this node's content does not work")), "the log says so")
    reply = closed.blob(blob)
    assert (reply.status, reply.body) == (200, blob)
    assert reply.headers["Shorthaul-Source"].startswith("node=other; ")
    os.chown(closed.path_of(blob), 0, 0)
    closed.path_of(blob).chmod(0o644)
    wait_for(lambda: _held(closed, blob), "it is announced again")
    assert closed.explain(digest_of(blob))["flaw"] is None
    assert closed.blob(blob, port=PEER).body == blob
    wait_for(lambda: bool(_lines(closed, "part of this node's content works again")), "the log says so")
    assert closed.logged_errors() == []


@pytest.mark.parametrize("before", [_ORDINARY, _WITHOUT_INOTIFY], ids=["inotify", "no inotify"])
def test_a_blob_that_is_closed_while_the_agent_runs_is_withdrawn_at_the_latest_when_it_is_asked_for(
    site: Site, before: tuple[str, ...]
) -> None:
    closed = site.add("closed")
    closed.before = before
    blob = b"open at first" * 1000
    closed.put(blob)
    site.start()
    assert _held(closed, blob)
    _shut(closed.path_of(blob))
    assert closed.blob(blob, port=PEER).status == 404
    assert not _held(closed, blob)
    assert closed.explain(digest_of(blob))["flaw"] == "held, but unreadable: permission denied"


def test_a_directory_whose_files_can_not_be_reached_is_told_blob_by_blob(site: Site) -> None:
    closed = site.add("closed")
    closed.before = _ORDINARY
    blobs = [b"one" * 1000, b"two" * 1000]
    closed.put(*blobs)
    site.start()
    folder = closed.path_of(blobs[0]).parent
    os.chown(folder, _SOMEBODY, _SOMEBODY)
    folder.chmod(0o744)  # its list can be read, and nothing else
    wait_for(lambda: closed.metric("shorthaul_store_unreadable_blobs") == 2, "both are named")
    assert not any(_held(closed, blob) for blob in blobs)
    folder.chmod(0o755)
    wait_for(lambda: all(_held(closed, blob) for blob in blobs), "both are announced again")
    assert closed.metric("shorthaul_store_unreadable_blobs") == 0


def test_a_link_in_a_blobs_place_is_not_announced_and_everybody_says_why(site: Site) -> None:
    node = site.add("node")
    blob = b"linked" * 1000
    node.put(blob)
    site.start()
    path = node.path_of(blob)
    aside = path.rename(site.folder / "aside")
    link = site.folder / "link"
    link.symlink_to(aside)
    link.rename(path)
    wait_for(lambda: not _held(node, blob), "it is withdrawn")
    wait_for(lambda: node.explain(digest_of(blob))["flaw"] is not None, "the reason is known")
    explained = node.explain(digest_of(blob))
    assert explained["local"] is False
    assert explained["flaw"].startswith("held, but unreadable: it is a symbolic link")
    assert node.blob(blob, port=PEER).status == 404


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
