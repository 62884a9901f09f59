"""Content that is wrong on this node's own disk: found by reading it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.cli.adminclient import request_json
from agent.cli.errors import CommandError

from .agents import (
    ADMIN,
    LOCAL,
    PEER,
    Node,
    Site,
    digest_of,
    make_image,
    wait_for,
)
from .proofs import OPEN
from .websocket import questioning

PEERING = OPEN  # some of these tests ask the peer listener, and are no peers

_SIZE_BYTES = 400_000  # of layers: more than what is verified before a byte is sent
_SMALL_BYTES = 50_000
_SCRUB = {"bytes_per_s": 1 << 30, "round_s": 1}
_NO_SCRUB = {"bytes_per_s": 0}


def _bytes_of(seed: str, size_bytes: int = _SIZE_BYTES) -> bytes:
    return Random(seed).randbytes(size_bytes)


def _flip(node: Node, content: bytes, at: int = 1000) -> None:
    """Change one byte in the file, as a bad disk does."""
    with node.path_of(content).open("r+b") as file:
        os.pwrite(file.fileno(), bytes((content[at] ^ 1,)), at)


def _corrupt(node: Node, found_by: str) -> float:
    return node.metric("shorthaul_corrupt_blobs_total", found_by=found_by)


def _scrub(node: Node, what: str = "") -> dict[str, Any]:
    """Tell the scrub something, or nothing; what it says."""
    if not what:
        reply = node.ask("/api/scrub", port=ADMIN)
        assert reply.status == 200
        state: dict[str, Any] = reply.json()
        return state
    told: dict[str, Any] = request_json(f"unix:{_socket(node)}", f"/api/scrub{what}", method="POST")
    return told


def _socket(node: Node) -> Path:
    """Where the agent is told something."""
    return node.config.with_suffix(".sock")


def _add(site: Site, name: str, **settings: Any) -> Node:
    """A node with such a socket."""
    return site.add(name, health={"socket": str(site.folder / f"{name}.sock")}, **settings)


def _is_withdrawn(node: Node, content: bytes) -> None:
    """Peers neither get it nor hear of it."""
    assert node.blob(content, port=PEER).status == 404
    assert node.blob(content, port=PEER, method="HEAD").status == 404
    assert not node.explain(digest_of(content))["local"]
    with questioning(node.address) as questioner:
        assert questioner.ask(digests=[digest_of(content)], tags=[])["held"] == []


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A node whose disk goes bad, and another that has the same content."""

    spoiled: Node
    other: Node


def _pair(site: Site, scrub: dict[str, Any], *contents: bytes) -> Pair:
    pair = Pair(spoiled=site.add("spoiled", scrub=scrub), other=site.add("other", scrub=_NO_SCRUB, zone="b"))
    for node in (pair.spoiled, pair.other):
        node.put(*contents)
    site.start()
    return pair


def _is_replaced(pair: Pair, content: bytes, *, kind: str = "blobs") -> None:
    reply = pair.spoiled.ask(f"/v2/library/app/{kind}/{digest_of(content)}")
    assert (reply.status, reply.body) == (200, content)
    assert reply.headers["Shorthaul-Source"].startswith("node=other;")


@pytest.mark.parametrize("at", [0, 1000, _SIZE_BYTES - 1])
def test_a_corrupt_blob_is_found_withdrawn_counted_and_taken_from_a_peer(site: Site, at: int) -> None:
    bad, good = _bytes_of("bad"), _bytes_of("good")
    pair = _pair(site, _SCRUB, bad, good)
    _flip(pair.spoiled, bad, at)
    wait_for(lambda: _corrupt(pair.spoiled, "scrub") == 1, "it is found")
    _is_withdrawn(pair.spoiled, bad)
    _is_replaced(pair, bad)
    assert pair.spoiled.blob(good, port=PEER).body == good
    assert len(pair.spoiled.logged_errors()) == 1
    assert digest_of(bad) in pair.spoiled.logged_errors()[0]


def test_a_corrupt_blob_that_nobody_else_has_is_a_404(site: Site) -> None:
    node = _add(site, "alone", scrub=_SCRUB)
    content = _bytes_of("alone")
    node.put(content)
    site.start()
    _flip(node, content)
    wait_for(lambda: _corrupt(node, "scrub") == 1, "it is found")
    _is_withdrawn(node, content)
    assert node.blob(content).status == 404


def test_a_corrupt_blob_is_counted_once_however_often_it_is_passed(site: Site) -> None:
    bad, good = _bytes_of("bad"), _bytes_of("good", 1 << 20)
    pair = _pair(site, _SCRUB, bad, good)
    _flip(pair.spoiled, bad)
    wait_for(lambda: _corrupt(pair.spoiled, "scrub") == 1, "it is found")
    before = pair.spoiled.metric("shorthaul_scrubbed_bytes_total")
    wait_for(
        lambda: pair.spoiled.metric("shorthaul_scrubbed_bytes_total") >= before + 2 * len(good),
        "two more rounds",
        at_most_s=60.0,
    )
    assert _corrupt(pair.spoiled, "scrub") == 1
    assert len(pair.spoiled.logged_errors()) == 1


def test_a_blob_that_is_replaced_is_offered_again_and_counts_again(site: Site) -> None:
    content = _bytes_of("again")
    node = _add(site, "alone", scrub=_SCRUB)
    node.put(content)
    site.start()
    for times in (1, 2):
        _flip(node, content)
        wait_for(lambda times=times: _corrupt(node, "scrub") == times, "it is found")  # type: ignore[misc]
        _is_withdrawn(node, content)
        node.put(content)
        assert node.blob(content, port=PEER).body == content
        assert node.blob(content).headers["Shorthaul-Source"].startswith("node=alone;")


def test_a_corrupt_blob_that_is_removed_and_comes_back_is_offered_again(site: Site) -> None:
    content = _bytes_of("comes back")
    node = _add(site, "alone", scrub=_SCRUB)
    node.put(content)
    site.start()
    _flip(node, content)
    wait_for(lambda: _corrupt(node, "scrub") == 1, "it is found")
    node.path_of(content).unlink()
    node.put(content)
    assert node.blob(content, port=PEER).body == content


def test_a_peer_goes_elsewhere_once_the_near_copy_is_withdrawn(site: Site) -> None:
    content = _bytes_of("elsewhere")
    asking = site.add("asking", lookup={"positive_ttl_s": 60})
    pair = _pair(site, _SCRUB, content)
    assert asking.blob(content).headers["Shorthaul-Source"].startswith("node=spoiled;")
    _flip(pair.spoiled, content)
    wait_for(lambda: _corrupt(pair.spoiled, "scrub") == 1, "it is found")
    reply = asking.blob(content)  # although it still believes that the near one has it
    assert (reply.status, reply.body) == (200, content)
    assert reply.headers["Shorthaul-Source"].startswith("node=other;")


def test_scrubbing_pauses_and_resumes(site: Site) -> None:
    content = _bytes_of("paused")
    node = _add(site, "alone", scrub=_SCRUB)
    node.put(content)
    site.start()
    wait_for(lambda: node.metric("shorthaul_scrubbed_bytes_total") >= len(content), "a round is over")
    _scrub(node, "/pause")
    assert _scrub(node)["paused"] is True
    _flip(node, content)
    before = node.metric("shorthaul_scrubbed_bytes_total")
    beside = site.add("beside", scrub=_SCRUB)  # a clock: it scrubs for several rounds meanwhile
    beside.put(content)
    site.start([beside])
    wait_for(
        lambda: beside.metric("shorthaul_scrubbed_bytes_total") >= 3 * len(content),
        "three rounds elsewhere",
        at_most_s=60.0,
    )
    assert node.metric("shorthaul_scrubbed_bytes_total") == before
    assert _corrupt(node, "scrub") == 0
    assert node.blob(content, port=PEER).status == 200
    _scrub(node, "/resume")
    assert _scrub(node)["paused"] is False
    wait_for(lambda: _corrupt(node, "scrub") == 1, "it is found")


def test_the_scrub_is_told_by_a_post_that_is_meant_so(site: Site) -> None:
    node = _add(site, "alone", scrub=_SCRUB)
    site.start()
    for what in ("start", "pause", "resume"):
        assert node.ask(f"/api/scrub/{what}", port=ADMIN).status == 405
        # As a page in a browser could send it, unasked, and as no page can.
        assert node.ask(f"/api/scrub/{what}", port=ADMIN, method="POST").status == 403
        meant = node.ask(f"/api/scrub/{what}", port=ADMIN, method="POST", headers={"Shorthaul-Action": "1"})
        assert (meant.status, meant.json()["code"]) == (403, "ACTION_ELSEWHERE")
        assert node.ask(f"/api/scrub/{what}", port=LOCAL, method="POST").status in (404, 405)
    assert node.ask("/api/scrub/stop", port=ADMIN, method="POST").status in (404, 405)
    assert _scrub(node)["paused"] is False


def test_a_round_of_the_scrub_begins_when_it_is_started_even_if_it_was_paused(site: Site) -> None:
    content = _bytes_of("started")
    node = _add(site, "alone", scrub={"bytes_per_s": 1 << 30, "round_s": 86_400})
    node.put(content)
    site.start()
    wait_for(lambda: _scrub(node)["round"]["finished"] == 1, "the first round is over")
    _flip(node, content)
    _scrub(node, "/pause")
    begun = _scrub(node, "/start")
    assert (begun["paused"], begun["state"] in ("queued", "reading")) == (False, True)
    wait_for(lambda: _corrupt(node, "scrub") == 1, "it is found long before the next round is due")
    wait_for(lambda: _scrub(node)["round"]["finished"] == 2, "the second round is over")


def test_a_scrub_that_is_off_can_not_be_started_and_says_why(site: Site) -> None:
    node = _add(site, "off", scrub=_NO_SCRUB)
    site.start()
    with pytest.raises(CommandError) as caught:
        _scrub(node, "/start")
    assert "scrub.bytes_per_s is 0" in str(caught.value)
    assert "scrub.bytes_per_s" in caught.value.hint


def test_a_scrub_that_is_off_reads_nothing(site: Site) -> None:
    content = _bytes_of("off")
    node, beside = site.add("off", scrub=_NO_SCRUB), site.add("beside", scrub=_SCRUB)
    for each in (node, beside):
        each.put(content)
    site.start()
    wait_for(
        lambda: beside.metric("shorthaul_scrubbed_bytes_total") >= 2 * len(content), "two rounds elsewhere"
    )
    assert node.metric("shorthaul_scrubbed_bytes_total") == 0
    assert _scrub(node)


def test_the_scrub_keeps_to_its_rate(site: Site) -> None:
    slow = site.add("slow", scrub={"bytes_per_s": 1 << 20, "round_s": 1})
    beside = site.add("beside", scrub={"bytes_per_s": 1 << 26, "round_s": 1})
    contents = [_bytes_of(f"rate {number}", 4 << 20) for number in range(4)]
    for each in (slow, beside):
        each.put(*contents)
    site.start()
    wait_for(
        lambda: beside.metric("shorthaul_scrubbed_bytes_total") >= 16 << 20,
        "a round elsewhere",
        at_most_s=60.0,
    )
    # Sixteen seconds at its rate; the other one, at 64 times that rate, had hardly begun.
    assert slow.metric("shorthaul_scrubbed_bytes_total") < 16 << 20


def test_a_blob_that_goes_while_it_is_read_is_no_error(site: Site) -> None:
    node = site.add("alone", scrub={"bytes_per_s": 4 << 20, "round_s": 1})
    contents = [_bytes_of(f"goes {number}", 2 << 20) for number in range(3)]
    node.put(*contents)
    site.start()
    wait_for(lambda: node.metric("shorthaul_scrubbed_bytes_total") > 0, "it reads")
    for content in contents:
        node.path_of(content).unlink()
    kept = _bytes_of("kept")
    node.put(kept)
    before = node.metric("shorthaul_scrubbed_bytes_total")
    wait_for(
        lambda: node.metric("shorthaul_scrubbed_bytes_total") >= before + 2 * len(kept),
        "it goes on",
        at_most_s=60.0,
    )
    assert _corrupt(node, "scrub") == 0
    assert node.logged_errors() == []


# What is read on the way to a client.


def test_a_small_local_blob_is_verified_before_a_byte_is_sent(site: Site) -> None:
    small = _bytes_of("small", _SMALL_BYTES)
    pair = _pair(site, _NO_SCRUB, small)
    _flip(pair.spoiled, small)
    _is_replaced(pair, small)
    assert _corrupt(pair.spoiled, "read") == 1
    _is_withdrawn(pair.spoiled, small)


def test_a_small_local_blob_is_verified_before_a_peer_gets_it(site: Site) -> None:
    small = _bytes_of("small, for peers", _SMALL_BYTES)
    pair = _pair(site, _NO_SCRUB, small)
    _flip(pair.spoiled, small)
    assert pair.spoiled.blob(small, port=PEER).status == 404
    assert _corrupt(pair.spoiled, "read") == 1
    _is_withdrawn(pair.spoiled, small)


def test_a_local_manifest_and_its_config_are_verified_before_a_byte_is_sent(site: Site) -> None:
    image = make_image(_bytes_of("layer"), note="x" * 300_000)
    pair = _pair(site, _NO_SCRUB, image.manifest, image.config)
    assert pair.spoiled.ask(f"/v2/library/app/manifests/{image.digest}").status == 200
    _flip(pair.spoiled, image.config)
    _is_replaced(pair, image.config)
    _flip(pair.spoiled, image.manifest, 30)
    _is_replaced(pair, image.manifest, kind="manifests")
    assert _corrupt(pair.spoiled, "read") == 2


def test_wrong_local_content_that_nobody_else_has_is_a_404(site: Site) -> None:
    small, image = _bytes_of("small", _SMALL_BYTES), make_image(b"layer")
    node = site.add("alone", scrub=_NO_SCRUB)
    node.put(small, image.manifest)
    site.start()
    _flip(node, small)
    _flip(node, image.manifest, 30)
    assert node.blob(small).status == 404
    assert node.ask(f"/v2/library/app/manifests/{image.digest}").status == 404


@pytest.mark.parametrize("change", [-1, 1, -_SIZE_BYTES])
def test_a_local_layer_of_another_size_than_the_manifest_says_is_looked_at_soon_and_withdrawn(
    site: Site, change: int
) -> None:
    content = _bytes_of("resized")
    image = make_image(content)
    pair = _pair(site, {**_SCRUB, "round_s": 86400}, content, image.manifest)
    size_bytes = len(content) + len(image.manifest)
    wait_for(
        lambda: pair.spoiled.metric("shorthaul_scrubbed_bytes_total") >= size_bytes, "the day's round is over"
    )
    assert pair.spoiled.ask(f"/v2/library/app/manifests/{image.digest}").status == 200
    os.truncate(pair.spoiled.path_of(content), _SIZE_BYTES + change)
    pair.spoiled.blob(content)
    wait_for(
        lambda: pair.spoiled.metric("shorthaul_corrupt_blobs_total") == 1, "it is found before the next round"
    )
    _is_replaced(pair, content)
    _is_withdrawn(pair.spoiled, content)


def test_a_manifest_that_lies_about_a_size_costs_nobody_the_blob(site: Site) -> None:
    content = _bytes_of("lied about")
    true = make_image(content)
    lie = true.manifest.replace(b'"size": 400000', b'"size": 400001')
    assert lie != true.manifest
    pair = _pair(site, {**_SCRUB, "round_s": 86400}, content, lie)
    empty = site.add("empty")
    site.start([empty])
    size_bytes = len(content) + len(lie)
    wait_for(
        lambda: pair.spoiled.metric("shorthaul_scrubbed_bytes_total") >= size_bytes, "the day's round is over"
    )
    for node in (pair.spoiled, empty):
        assert node.ask(f"/v2/library/app/manifests/{digest_of(lie)}").status == 200
    for _ in range(5):
        assert pair.spoiled.blob(content).body == content
    # It was found sound since it was written: whoever lies does not keep the disk busy.
    assert pair.spoiled.metric("shorthaul_scrubbed_bytes_total") == size_bytes
    assert pair.spoiled.metric("shorthaul_corrupt_blobs_total") == 0
    assert pair.spoiled.blob(content, port=PEER).body == content
    empty.blob(content)  # whoever asks: that nobody has what the manifest says is nobody's fault
    assert empty.metric("shorthaul_peers_cooling") == 0
    assert empty.transfers()["not_asked"] == []


def test_only_root_and_the_agents_user_can_open_the_socket_that_takes_orders(site: Site) -> None:
    node = _add(site, "alone", scrub=_SCRUB)
    site.start()
    assert _socket(node).stat().st_mode & 0o777 == 0o600
    command = [str(Path(sys.executable).parent / "shorthaul"), "scrub", "pause"]
    by_settings = {**os.environ, "SHORTHAUL_CONFIG": str(node.config)}
    assert subprocess.run(command, env=by_settings, check=False).returncode == 0
    assert _scrub(node)["paused"] is True
    nobody = subprocess.run(
        [*command, "--socket", str(_socket(node))], user=65534, capture_output=True, text=True, check=False
    )
    assert nobody.returncode == 1
    assert "do you ask as root or as its user?" in nobody.stderr
    unnamed = {name: value for name, value in os.environ.items() if name != "SHORTHAUL_CONFIG"}
    lost = subprocess.run(command, env=unnamed, capture_output=True, text=True, check=False)
    assert lost.returncode == 2
    assert "health.socket" in lost.stderr
