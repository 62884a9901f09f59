"""Content that is wrong: found on this node's own disk by reading it, and at a source by what came of it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from .agents import (
    ADMIN,
    LOCAL,
    PEER,
    SERVICE,
    Node,
    Reply,
    Site,
    digest_of,
    fresh_address,
    make_image,
    wait_for,
)
from .faults import Fault, Holder, Kind, asked_for
from .impostor import Impostor
from .websocket import questioning
from .wire import Ending, raw_get

_SIZE_BYTES = 400_000  # of layers: more than what is verified before a byte is sent
_SMALL_BYTES = 50_000
_SCRUB = {"bytes_per_s": 1 << 30, "round_s": 1}
_NO_SCRUB = {"bytes_per_s": 0}
_CONTAINERD = {"User-Agent": "containerd/2.1.9"}


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
    headers = {"Shorthaul-Action": "1"}
    reply = node.ask(f"/api/scrub{what}", port=ADMIN, method="POST" if what else "GET", headers=headers)
    assert reply.status == 200
    state: dict[str, Any] = reply.json()
    return state


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
    node = site.add("alone", scrub=_SCRUB)
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
    )
    assert _corrupt(pair.spoiled, "scrub") == 1
    assert len(pair.spoiled.logged_errors()) == 1


def test_a_blob_that_is_replaced_is_offered_again_and_counts_again(site: Site) -> None:
    content = _bytes_of("again")
    node = site.add("alone", scrub=_SCRUB)
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
    node = site.add("alone", scrub=_SCRUB)
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
    node = site.add("alone", scrub=_SCRUB)
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
    )
    assert node.metric("shorthaul_scrubbed_bytes_total") == before
    assert _corrupt(node, "scrub") == 0
    assert node.blob(content, port=PEER).status == 200
    _scrub(node, "/resume")
    assert _scrub(node)["paused"] is False
    wait_for(lambda: _corrupt(node, "scrub") == 1, "it is found")


def test_the_scrub_is_told_by_a_post_that_is_meant_so(site: Site) -> None:
    node = site.add("alone", scrub=_SCRUB)
    site.start()
    for what in ("pause", "resume"):
        assert node.ask(f"/api/scrub/{what}", port=ADMIN).status == 405
        # As a page in a browser could send it, unasked.
        assert node.ask(f"/api/scrub/{what}", port=ADMIN, method="POST").status == 403
        assert node.ask(f"/api/scrub/{what}", port=LOCAL, method="POST").status in (404, 405)
    assert node.ask("/api/scrub/stop", port=ADMIN, method="POST").status in (404, 405)
    assert _scrub(node)["paused"] is False


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


# What containerd makes of what it was sent.


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An asking node, a near impostor and an honest holder further away."""

    asking: Node
    honest: Node
    address: str


def _trial(site: Site, **transfer: Any) -> Trial:
    asking, honest = (
        site.add("asking", transfer=transfer, pull={"deadline_s": 2.0}),
        site.add("honest", zone="b"),
    )
    address = fresh_address()
    site.add_member("near", address)
    seen = _bytes_of("seen")
    honest.put(seen)
    site.start()
    nothing = Holder()
    with Impostor(address, nothing.serve, questioned=nothing.claim):  # so that nobody is taken for dead
        # Nothing is concluded from what does not appear before something has.
        assert _as_containerd(asking, seen).body == seen
        asking.put(seen)
    return Trial(asking=asking, honest=honest, address=address)


@contextmanager
def _garbling(trial: Trial, *contents: bytes) -> Iterator[Impostor]:
    """The near one has these contents, each with one wrong byte."""
    holder = Holder()
    holder.put(*contents, afterwards=Fault(kind=Kind.GARBLES, at=1000))
    with Impostor(trial.address, holder.serve, questioned=holder.claim) as impostor:
        yield impostor


def _suspects(node: Node) -> float:
    return node.metric("shorthaul_suspect_sources_total")


def _as_containerd(node: Node, content: bytes, *, port: int = LOCAL, **more: str) -> Reply:
    return node.blob(content, port=port, headers={**_CONTAINERD, **more})


def test_what_containerd_asks_for_again_comes_from_another_source(site: Site) -> None:
    content = _bytes_of("again")
    trial = _trial(site)
    trial.honest.put(content)
    with _garbling(trial, content) as impostor:
        wrong = _as_containerd(trial.asking, content)
        assert wrong.status == 200
        assert len(wrong.body) == len(content)
        assert wrong.body != content, "it is containerd that finds out"
        assert _as_containerd(trial.asking, content).body == content
        assert _as_containerd(trial.asking, content).status in (200, 404)
        assert len(asked_for(impostor, content)) == 1
        assert _suspects(trial.asking) >= 1
        assert "near" in str(trial.asking.transfers()["not_asked"])


def test_the_only_source_is_suspect_and_that_is_a_404(site: Site) -> None:
    content, other = _bytes_of("only"), _bytes_of("other")
    trial = _trial(site)
    with _garbling(trial, content) as impostor:
        assert _as_containerd(trial.asking, content).status == 200
        for _ in range(3):
            assert _as_containerd(trial.asking, content).status == 404
        assert trial.asking.blob(content).status == 404, "suspect is suspect, whoever asks"
        assert len(asked_for(impostor, content)) == 1
        assert _suspects(trial.asking) == 1
        assert trial.asking.blob(other).status == 404
        assert trial.asking.metric("shorthaul_peers_cooling") == 0, "it is suspect for one digest only"


def test_a_source_that_is_suspect_for_one_digest_still_gives_others(site: Site) -> None:
    wrong, right = _bytes_of("wrong"), _bytes_of("right")
    trial = _trial(site)
    holder = Holder(right)
    holder.put(wrong, afterwards=Fault(kind=Kind.GARBLES, at=1000))
    with Impostor(trial.address, holder.serve, questioned=holder.claim):
        assert [_as_containerd(trial.asking, wrong).status for _ in range(2)] == [200, 404]
        assert _as_containerd(trial.asking, right).body == right


def test_a_source_of_what_does_not_appear_in_the_store_becomes_suspect(site: Site) -> None:
    wrong, right = _bytes_of("wrong"), _bytes_of("right")
    trial = _trial(site, commit_s=1.0)
    trial.honest.put(wrong, right)
    with _garbling(trial, wrong):
        # containerd commits the one and refuses the other.
        assert _as_containerd(trial.asking, right).body == right
        trial.asking.put(right)
        assert _as_containerd(trial.asking, wrong).body != wrong
        wait_for(lambda: _suspects(trial.asking) == 1, "its source is suspect")
        assert "near" in str(trial.asking.transfers()["not_asked"])
        assert "honest" not in str(trial.asking.transfers()["not_asked"])
        assert trial.asking.blob(wrong).body == wrong


def test_a_suspect_is_asked_again_after_suspect_s(site: Site) -> None:
    content = _bytes_of("later")
    trial = _trial(site, suspect_s=1.0)
    holder = Holder()
    holder.put(content, faults=(Fault(kind=Kind.GARBLES, at=1000),))
    with Impostor(trial.address, holder.serve, questioned=holder.claim):
        assert [_as_containerd(trial.asking, content).status for _ in range(2)] == [200, 404]
        wait_for(lambda: _as_containerd(trial.asking, content).body == content, "it is asked again")


def test_clients_that_commit_nothing_make_nobody_suspect(site: Site) -> None:
    content = _bytes_of("curl")
    trial = _trial(site, commit_s=0.5)
    clock = _bytes_of("clock")
    with _garbling(trial, content, clock) as impostor:
        for _ in range(2):
            assert trial.asking.blob(content).status == 200
            assert trial.asking.blob(content, headers={"User-Agent": "curl/8"}).status == 200
            # Another node's containerd, whose store is not this one's.
            assert _as_containerd(trial.asking, content, port=SERVICE).status == 200
        assert _as_containerd(trial.asking, clock).status == 200
        wait_for(lambda: _suspects(trial.asking) == 1, "commit_s is over")
        assert trial.asking.blob(content).status == 200
        assert len(asked_for(impostor, content)) == 7


def test_a_blob_in_parts_counts_when_all_parts_were_delivered(site: Site) -> None:
    content = _bytes_of("parts")
    trial = _trial(site)
    with _garbling(trial, content):
        half = _SIZE_BYTES // 2
        assert _as_containerd(trial.asking, content, Range=f"bytes=0-{half - 1}").status == 206
        assert _as_containerd(trial.asking, content, Range=f"bytes={half}-").status == 206
        assert _suspects(trial.asking) == 0
        assert _as_containerd(trial.asking, content).status == 404
        assert _suspects(trial.asking) == 1


def test_a_body_that_was_cut_makes_nobody_suspect(site: Site) -> None:
    cut, clock = _bytes_of("cut"), _bytes_of("clock")
    trial = _trial(site, commit_s=0.5)
    holder = Holder(clock)
    holder.put(cut, afterwards=Fault(kind=Kind.CLOSES, at=_SIZE_BYTES // 2))
    with Impostor(trial.address, holder.serve, questioned=holder.claim):
        path = f"/v2/library/app/blobs/{digest_of(cut)}"
        reply = raw_get(trial.asking.address, LOCAL, path, User_Agent="containerd/2.1.9")
        assert (reply.status, reply.ending) == (200, Ending.FIN)
        assert _as_containerd(trial.asking, clock).status == 200
        wait_for(lambda: _suspects(trial.asking) == 1, "commit_s is over")


def test_nothing_is_concluded_by_a_node_whose_store_never_shows_anything(site: Site) -> None:
    content = _bytes_of("never shown")
    asking, holder = site.add("asking", transfer={"commit_s": 0.2}), site.add("holder")
    holder.put(content)
    site.start()
    for _ in range(4):
        assert _as_containerd(asking, content).body == content
    assert _suspects(asking) == 0


def test_two_pulls_of_the_same_blob_at_once_make_nobody_suspect(site: Site) -> None:
    content = _bytes_of("twice")
    trial = _trial(site)
    gate = threading.Event()
    holder = Holder(content)

    def late(impostor: Impostor, connection: Any, asked: Any) -> None:
        gate.wait(5.0)
        holder.serve(impostor, connection, asked)

    with Impostor(trial.address, late, questioned=holder.claim) as impostor:
        bodies: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: bodies.append(_as_containerd(trial.asking, content).body))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(asked_for(impostor, content)) == 3, "all three are asked for")
        gate.set()
        for thread in threads:
            thread.join()
        assert bodies == [content] * 3
        assert _suspects(trial.asking) == 0


def test_of_several_sources_the_one_that_broke_off_is_suspect_first_and_then_the_others(site: Site) -> None:
    content = _bytes_of("both")
    trial = _trial(site)
    far = fresh_address()
    site.add_member("far", far, zone="c")
    wait_for(lambda: trial.asking.metric("shorthaul_peers") == 3, "the far one is known")
    breaking, wrong = Holder(), Holder()
    breaking.put(content, afterwards=Fault(kind=Kind.CLOSES, at=_SIZE_BYTES // 2))
    wrong.put(content, afterwards=Fault(kind=Kind.GARBLES, at=1000))
    with (
        Impostor(trial.address, breaking.serve, questioned=breaking.claim) as near,
        Impostor(far, wrong.serve, questioned=wrong.claim),
    ):
        for suspects in (0, 1):
            reply = _as_containerd(trial.asking, content)
            assert len(reply.body) == _SIZE_BYTES
            assert reply.body != content
            assert _suspects(trial.asking) == suspects
        assert len(asked_for(near, content)) == 1
        assert _as_containerd(trial.asking, content).status == 404
        assert _suspects(trial.asking) == 2
