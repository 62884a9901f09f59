"""Sources of wrong content become suspect by what containerd makes of what it was sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from agent.pull.trust import Distrust

from .agents import (
    LOCAL,
    SERVICE,
    Node,
    Reply,
    Site,
    digest_of,
    fresh_address,
    wait_for,
)
from .faults import Fault, Holder, Kind, asked_for
from .impostor import Impostor
from .wire import Ending, raw_get

_SIZE_BYTES = 400_000  # of layers: more than what is verified before a byte is sent
_PULL = {"patience_s": 5.0}  # however busy the machine, nobody else is asked because a first byte is late
_CONTAINERD = {"User-Agent": "containerd/2.1.9"}


def _bytes_of(seed: str, size_bytes: int = _SIZE_BYTES) -> bytes:
    return Random(seed).randbytes(size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An asking node, a near impostor and an honest holder further away."""

    asking: Node
    honest: Node
    address: str


def _trial(site: Site, **transfer: Any) -> Trial:
    asking = site.add("asking", transfer=transfer, pull=_PULL)
    honest = site.add("honest", zone="b")
    address = fresh_address()
    site.add_member("near", address)
    seen = _bytes_of("seen")
    honest.put(seen)
    site.start()
    nothing = Holder()
    with _standing(asking, address, nothing):  # so that nobody is taken for dead
        # Nothing is concluded from what does not appear before something has.
        assert _as_containerd(asking, seen).body == seen
        asking.put(seen)
    return Trial(asking=asking, honest=honest, address=address)


@contextmanager
def _standing(asking: Node, address: str, holder: Holder, *contents: bytes) -> Iterator[Impostor]:
    """The holder stands there, is well, and is known to have these contents."""
    with Impostor(address, holder.serve, questioned=holder.claim) as impostor:
        _wait_until_known(asking, *contents)
        yield impostor


def _wait_until_known(asking: Node, *contents: bytes) -> None:
    """However late the near one's answers are, it is the one that is asked for them."""
    for content in contents:
        asking.wait_for_holders(content, {"near"})
    wait_for(lambda: asking.metric("shorthaul_peers_cooling") == 0, "nobody is taken for dead")


@contextmanager
def _garbling(trial: Trial, *contents: bytes) -> Iterator[Impostor]:
    """The near one has these contents, each with one wrong byte."""
    holder = Holder()
    holder.put(*contents, afterwards=Fault(kind=Kind.GARBLES, at=1000))
    with _standing(trial.asking, trial.address, holder, *contents) as impostor:
        yield impostor


def _suspects(node: Node) -> float:
    return node.metric("shorthaul_suspect_sources_total")


def _as_containerd(node: Node, content: bytes, *, port: int = LOCAL, **more: str) -> Reply:
    reply = node.blob(content, port=port, headers={**_CONTAINERD, **more})
    wait_for(node.is_idle, "the agent took note of what it sent")  # containerd hashes it meanwhile
    return reply


def _proved_wrong(node: Node) -> float:
    return node.metric("shorthaul_suspect_checks_total", result="wrong")


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
        assert _suspects(trial.asking) >= 1
        wait_for(lambda: _proved_wrong(trial.asking) == 1, "the suspect is checked")
        assert len(asked_for(impostor, content)) == 2, "once for containerd, once for the check"
        assert _distrusted(trial.asking, "not_asked") == {"near": Distrust.WRONG.value}
        assert _as_containerd(trial.asking, content).body == content
        assert len(asked_for(impostor, content)) == 2


def _distrusted(node: Node, key: str) -> dict[str, str]:
    return {entry["node"]: entry["reason"] for entry in node.transfers()[key]}


def test_the_only_source_is_checked_first_and_if_it_is_wrong_that_is_a_404(site: Site) -> None:
    content, other = _bytes_of("only"), _bytes_of("other")
    trial = _trial(site)
    with _garbling(trial, content) as impostor:
        assert _as_containerd(trial.asking, content).status == 200
        for _ in range(3):
            assert _as_containerd(trial.asking, content).status == 404
        assert trial.asking.blob(content).status == 404, "wrong is wrong, whoever asks"
        assert len(asked_for(impostor, content)) == 2, "once for containerd, once for the check"
        assert _suspects(trial.asking) == 1
        assert trial.asking.blob(other).status == 404
        assert trial.asking.metric("shorthaul_peers_cooling") == 0, "it is wrong for one digest only"


def test_only_source_that_turns_out_right_gives_the_blob_although_it_was_suspect(site: Site) -> None:
    """Whatever this node lost it for, and although the registry may be down."""
    content = _bytes_of("lost here")
    trial = _trial(site)
    holder = Holder(content)
    before = trial.asking.metric("shorthaul_zone_bytes_total")
    with _standing(trial.asking, trial.address, holder, content) as impostor:
        for _ in range(4):
            assert _as_containerd(trial.asking, content).body == content
        assert _suspects(trial.asking) == 1
        assert trial.asking.metric("shorthaul_suspect_checks_total", result="right") == 1
        assert len(asked_for(impostor, content)) == 5, "four for containerd, and one check"
        costly = before + 5 * len(content)
        wait_for(lambda: trial.asking.metric("shorthaul_zone_bytes_total") >= costly, "a check costs as well")
        assert _distrusted(trial.asking, "not_asked") == _distrusted(trial.asking, "asked_last") == {}


def test_only_source_that_can_not_be_checked_is_tried_all_the_same(site: Site) -> None:
    content = _bytes_of("not checked")
    trial = _trial(site)
    holder = Holder()
    holder.put(content, faults=(None, Fault(kind=Kind.BUSY)))
    with _standing(trial.asking, trial.address, holder, content):
        assert _as_containerd(trial.asking, content).body == content
        assert _as_containerd(trial.asking, content).body == content
        assert trial.asking.metric("shorthaul_suspect_checks_total", result="failed") == 1
        assert _distrusted(trial.asking, "not_asked") == {}
        assert _distrusted(trial.asking, "asked_last") == {"near": Distrust.SUSPECT.value}


def test_a_source_that_is_suspect_for_one_digest_still_gives_others(site: Site) -> None:
    wrong, right = _bytes_of("wrong"), _bytes_of("right")
    trial = _trial(site)
    holder = Holder(right)
    holder.put(wrong, afterwards=Fault(kind=Kind.GARBLES, at=1000))
    with _standing(trial.asking, trial.address, holder, wrong, right):
        assert [_as_containerd(trial.asking, wrong).status for _ in range(2)] == [200, 404]
        assert _as_containerd(trial.asking, right).body == right


def test_a_source_of_what_does_not_appear_in_the_store_becomes_suspect(site: Site) -> None:
    wrong, right = _bytes_of("wrong"), _bytes_of("right")
    trial = _trial(site, commit_s=3.0)
    trial.honest.put(wrong, right)
    with _garbling(trial, wrong):
        # containerd commits the one and refuses the other.
        assert _as_containerd(trial.asking, right).body == right
        trial.asking.put(right)
        assert _as_containerd(trial.asking, wrong).body != wrong
        wait_for(lambda: _suspects(trial.asking) == 1, "its source is suspect")
        wait_for(lambda: _proved_wrong(trial.asking) == 1, "it is checked")
        assert _distrusted(trial.asking, "not_asked") == {"near": Distrust.WRONG.value}
        assert trial.asking.blob(wrong).body == wrong


def test_one_that_was_wrong_is_asked_again_after_suspect_s(site: Site) -> None:
    content = _bytes_of("later")
    trial = _trial(site, suspect_s=1.0)
    holder = Holder()
    holder.put(content, faults=(Fault(kind=Kind.GARBLES, at=1000),) * 2)
    with _standing(trial.asking, trial.address, holder, content):
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
    with _standing(trial.asking, trial.address, holder, cut, clock):
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
        _wait_until_known(trial.asking, content)
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


def test_of_several_sources_only_the_one_that_is_wrong_is_left_out(site: Site) -> None:
    content = _bytes_of("both")
    trial = _trial(site)
    far = fresh_address()
    site.add_member("far", far, zone="c")
    wait_for(lambda: trial.asking.metric("shorthaul_peers") == 3, "the far one is known")
    breaking, wrong = Holder(), Holder()
    breaking.put(content, faults=(Fault(kind=Kind.CLOSES, at=_SIZE_BYTES // 2),))
    wrong.put(content, afterwards=Fault(kind=Kind.GARBLES, at=1000))
    with (
        Impostor(trial.address, breaking.serve, questioned=breaking.claim),
        Impostor(far, wrong.serve, questioned=wrong.claim),
    ):
        trial.asking.wait_for_holders(content, {"near", "far"})
        _wait_until_known(trial.asking)
        reply = _as_containerd(trial.asking, content)
        assert len(reply.body) == _SIZE_BYTES
        assert reply.body != content
        assert _as_containerd(trial.asking, content).body != content, "the one that broke off is blamed first"
        wait_for(lambda: trial.asking.metric("shorthaul_suspect_checks_total") == 1, "it is checked")
        assert _as_containerd(trial.asking, content).body == content, "and is right: now the other is suspect"
        wait_for(lambda: _proved_wrong(trial.asking) == 1, "it is checked")
        assert _distrusted(trial.asking, "not_asked") == {"far": Distrust.WRONG.value}
