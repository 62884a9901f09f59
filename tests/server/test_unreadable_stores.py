"""Stores that this agent may not read, and machines that give it nothing: it serves on, and says so."""

import json
import os
from collections.abc import Iterator

import pytest

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


def _lines(node: Node, words: str) -> list[dict[str, str]]:
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
    _open_again(closed, "blobs")
    wait_for(closed.is_ready, "the store can be read again")
    tag = "/v2/library/app/manifests/v1?ns=registry.test"
    for node in (closed, other):
        wait_for(lambda node=node: node.ask(tag).status == 200, "the tag's age is known")  # type: ignore[misc]
        assert node.ask(tag).body == image.manifest
        assert node.blob(image.layers[0]).body == image.layers[0]
        assert node.logged_errors() == []


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
