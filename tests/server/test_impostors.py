"""Peers that lie, stall or die: the client gets right bytes from another, or a 404, or a visible cut.

Where in a body they do so is test_fault_matrix's business. The impostor stands in the asking node's own
zone, an honest holder in another one, so that the impostor is always tried first.
"""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

import pytest

from tests.frames import frame

from .agents import LOCAL, SLOWNESS, Image, Node, Site, digest_of, fresh_address, make_image, wait_for
from .impostor import (
    Asked,
    Behaviour,
    Impostor,
    claims_and_dies,
    claims_everything,
    replies,
    response,
    says,
    sends,
    then_reset,
    then_silent,
)
from .wire import Ending, RawReply, raw_get

_seeds = count(100)
_DEADLINE_S = 3.0
_PATIENT_S = 20.0  # a few times what the agent may wait here; containerd itself would wait for 320 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Trio:
    """The asking node, the address where impostors stand, and the honest holder."""

    asking: Node
    honest: Node
    address: str

    def blob(self, size: int = 100_000) -> bytes:
        """A blob that only the honest holder has."""
        content = Random(next(_seeds)).randbytes(size)
        self.honest.put(content)
        return content

    def image(self) -> Image:
        """An image that only the honest holder has."""
        image = make_image(Random(next(_seeds)).randbytes(50_000))
        self.honest.put(image.config, *image.layers, image.manifest)
        return image

    @contextmanager
    def waiting(self, most: int) -> Iterator[None]:
        """The asking node waits for a silent or a slow peer so often at most: each time for ``stall_s``."""
        before = self.asking.waits()
        yield
        assert self.asking.waits() - before <= most

    def get(self, content: bytes, *, asked_range: str | None = None) -> RawReply:
        """Ask for a blob, and see how the reply ends."""
        path = f"/v2/library/app/blobs/{digest_of(content)}"
        if asked_range is None:
            return raw_get(self.asking.address, LOCAL, path)
        return raw_get(self.asking.address, LOCAL, path, Range=asked_range)


@pytest.fixture(scope="module")
def trio() -> Iterator[Trio]:
    """The agents of this module. Nobody is avoided after a failure: each test meets its impostor first."""
    with Site() as made:
        address = fresh_address()
        settings: dict[str, Any] = {
            # floor_ratio: a loaded machine can make any peer ten times as slow as the others.
            "pull": {
                "cooloff_s": 0,
                "floor_ratio": 0.01,
                "deadline_s": _DEADLINE_S,
                "stall_s": 1.0,
                "connect_s": 2.0,
            },
        }
        asking = made.add("asking", zone="a", **settings)
        honest = made.add("honest", zone="b")
        made.add_member("impostor", address, zone="a")
        made.start()
        yield Trio(asking=asking, honest=honest, address=address)


_OTHER = b"\0" * 100_000
_MUTE = ("silent", "half a head", "head only, silent")  # only these are waited for
_NO_ANSWERS: dict[str, Behaviour] = {
    "closes": says(),
    "silent": then_silent(),
    "half a head": then_silent(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half a head, closes": says(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "head only, silent": then_silent(response(200, length=100_000)),
    "head only, closes": says(response(200, length=100_000)),
    "head only, resets": then_reset(response(200, length=100_000)),
    "empty body": says(response(200)),
    "no length": says(response(200, _OTHER, length=-1)),
    "chunked": says(response(200, b"5\r\naaaaa\r\n0\r\n\r\n", length=-1, Transfer_Encoding="chunked")),
    "negative length": says(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\naaaaa"),
    "two lengths": says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\naaaaaa"),
    "range unasked": says(response(206, _OTHER[:10], Content_Range="bytes 0-9/100000")),
    "not found": says(response(404)),
    "error": says(response(500)),
    "unavailable": says(response(503)),
    "redirect": says(response(302, Location="http://127.0.0.1:1/")),
    "no content": says(response(204, length=-1)),
    "not modified": says(response(304, length=-1)),
    "garbage": says(b"\0\1\2\3" * 1000),
    "endless head": says(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n"),
    "busy": says(response(429, Retry_After="1")),  # the last one: it is asked last for as long as it says
}


@pytest.mark.parametrize("name", _NO_ANSWERS)
def test_what_an_impostor_does_not_give_comes_from_the_other_holder(trio: Trio, name: str) -> None:
    content = trio.blob()
    with Impostor(trio.address, _NO_ANSWERS[name]) as impostor, trio.waiting(most=name in _MUTE):
        trio.asking.wait_for_holders(content, {"honest", "impostor"})
        started_s = time.monotonic()
        reply = trio.get(content)
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
        assert (reply.status, reply.ending) == (200, Ending.WHOLE)
        assert reply.body == content
        assert reply.headers["Shorthaul-Source"].startswith("node=honest;")
        assert impostor.fetches, "the impostor was not even asked"


@pytest.mark.parametrize("name", _NO_ANSWERS)
def test_an_impostor_that_nobody_can_replace_is_a_404_in_bounded_time(trio: Trio, name: str) -> None:
    content = Random(next(_seeds)).randbytes(1000)
    with Impostor(trio.address, _NO_ANSWERS[name]) as impostor, trio.waiting(most=name in _MUTE):
        trio.asking.wait_for_holders(content, {"impostor"})
        started_s = time.monotonic()
        reply = trio.get(content)
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
        assert reply.status == 404
        assert b'"BLOB_UNKNOWN"' in reply.body
        assert impostor.fetches


_QUESTIONS: dict[str, Behaviour] = {
    "no handshake, silent": then_silent(),
    "no handshake, closes": says(),
    "no handshake, refuses": says(response(403)),
    "no handshake, error": says(response(500)),
    "no handshake, http": says(response(200, b'{"held": [0], "tags": []}')),
    "no handshake, garbage": says(b"\0\1\2"),
    "silent": sends(),
    "garbage": sends(frame(b"garbage")),
    "garbage frame": sends(b"\xff" * 100),
    "text": sends(frame(b"hello", opcode=1)),
    "closes": sends(frame(b"\x03\xe8", opcode=8)),
    "no number": sends(frame(b'{"held": [0], "tags": []}')),
    "another number": sends(frame(b'{"number": 77, "held": [0], "tags": []}')),
    "out of range": replies('"held": [7], "tags": []'),
    "negative": replies('"held": [-1], "tags": []'),
    "no list": replies('"held": null, "tags": null'),
    "strange tags": replies('"held": [], "tags": [1, 2]'),
    "no age": replies(
        '"held": [], "tags": [[["r.test", "a", "v1"], "sha256:' + "a" * 64 + '", 1, "x", "NaN"]]'
    ),
    "deep": sends(frame(b"[" * 100_000)),
    "half, silent": sends(frame(b'{"number": 0, "held": [0]')[:10]),
    "huge": sends(frame(b" " * (4 << 20))),
    "endless": sends(frame(b" " * (1 << 20), final=False) * 4),
}


@pytest.mark.parametrize("behaviour", _QUESTIONS.values(), ids=_QUESTIONS.keys())
def test_a_useless_answer_to_a_question_hides_no_other_holder(trio: Trio, behaviour: Behaviour) -> None:
    content = trio.blob()
    with Impostor(trio.address, says(response(404)), questioned=behaviour) as impostor:
        started_s = time.monotonic()
        reply = trio.get(content)
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
        assert (reply.status, reply.body) == (200, content)
        wait_for(lambda: bool(impostor.questions), "the impostor was asked")


@pytest.mark.parametrize(
    "behaviour", [then_silent(), sends()], ids=["before the handshake", "behind the handshake"]
)
def test_a_peer_that_is_silent_to_a_question_is_avoided_soon(site: Site, behaviour: Behaviour) -> None:
    address = fresh_address()
    asking = site.add("asking", pull={"cooloff_s": 60})
    site.add_member("impostor", address)
    site.start()
    with Impostor(address, says(), questioned=behaviour):
        assert asking.blob(b"nobody has this").status == 404
        wait_for(lambda: asking.metric("shorthaul_peers_cooling") == 1, "the silent peer is avoided")
        assert asking.metric("shorthaul_lookup_questions_total", result="silent") <= 2, "those of one pull"


def test_a_peer_that_freezes_hides_no_other_holder_and_is_avoided_soon(site: Site) -> None:
    asking, frozen, honest = (
        site.add("asking", pull={"cooloff_s": 60}),
        site.add("frozen"),
        site.add("honest"),
    )
    contents = [b"%d" % number * 1000 for number in range(5)]
    frozen.put(*contents)
    honest.put(*contents)
    site.start()
    assert asking.blob(contents[0]).body == contents[0]
    frozen.process.signal(signal.SIGSTOP)
    for content in contents:
        started_s = time.monotonic()
        assert asking.blob(content).body == content
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
    wait_for(lambda: asking.metric("shorthaul_peers_cooling") == 1, "the frozen peer is avoided")
    assert asking.waits() <= 1, "it is not waited for again and again"


def test_a_peer_that_comes_back_is_asked_again(site: Site) -> None:
    asking, holder = site.add("asking", pull={"cooloff_s": 0.5}), site.add("holder")
    holder.put(b"content")
    site.start()
    assert asking.blob(b"content").body == b"content"
    holder.stop()
    assert asking.blob(b"content").status == 404
    site.start([holder])
    wait_for(lambda: asking.blob(b"content").status == 200, "it is asked again")


def test_a_peer_that_refuses_connections_hides_no_other_holder(trio: Trio) -> None:
    content = trio.blob()
    assert trio.get(content).body == content


def test_a_peer_that_dies_between_lookup_and_fetch_hides_no_other_holder(trio: Trio) -> None:
    content = trio.blob()
    with Impostor(trio.address, says(), questioned=claims_and_dies) as impostor:
        trio.asking.wait_for_holders(content, {"honest", "impostor"})
        reply = trio.get(content)
        assert (reply.status, reply.body) == (200, content)
        assert impostor.questions


_SHORT: dict[str, Behaviour] = {
    "closes": says(response(200, b"a" * 70_000, length=100_000)),
    "silent": then_silent(response(200, b"a" * 70_000, length=100_000)),
    "resets": then_reset(response(200, b"a" * 70_000, length=100_000)),
    "one byte, closes": says(response(200, b"a", length=100_000)),
    "one byte short": says(response(200, b"a" * 99_999, length=100_000)),
    "wrong bytes": says(response(200, b"a" * 100_000)),
}


@pytest.mark.parametrize("name", _SHORT)
def test_a_small_body_that_is_short_or_wrong_is_replaced_before_a_byte_is_sent(trio: Trio, name: str) -> None:
    content = trio.blob()
    with Impostor(trio.address, _SHORT[name]) as impostor, trio.waiting(most=name in _MUTE):
        trio.asking.wait_for_holders(content, {"honest", "impostor"})
        started_s = time.monotonic()
        reply = trio.get(content)
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
        assert impostor.fetches
    assert (reply.status, reply.ending) == (200, Ending.WHOLE)
    assert reply.body == content
    assert reply.headers["Shorthaul-Source"].startswith("node=honest;")


def _breaks_at(content: bytes, place: int) -> dict[str, Behaviour]:
    begun = response(200, content[:place], length=len(content))
    return {"closes": says(begun), "silent": then_silent(begun), "resets": then_reset(begun)}


@pytest.mark.parametrize("how", ["closes", "silent", "resets"])
def test_a_large_body_that_ends_short_goes_on_from_the_other_holder(trio: Trio, how: str) -> None:
    content = trio.blob(1_000_000)
    with Impostor(trio.address, _breaks_at(content, 700_000)[how]), trio.waiting(most=how in _MUTE):
        trio.asking.wait_for_holders(content, {"honest", "impostor"})
        started_s = time.monotonic()
        reply = trio.get(content)
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
    assert (reply.status, reply.ending) == (200, Ending.WHOLE)
    assert reply.body == content
    assert trio.asking.newest(content)["resumes"] == 1


@pytest.mark.parametrize("how", ["closes", "silent", "resets"])
def test_a_large_body_that_nobody_can_go_on_with_is_cut_by_a_fin_and_never_looks_whole(
    trio: Trio, how: str
) -> None:
    content = Random(next(_seeds)).randbytes(1_000_000)
    with Impostor(trio.address, _breaks_at(content, 700_000)[how]), trio.waiting(most=how in _MUTE):
        trio.asking.wait_for_holders(content, {"impostor"})
        started_s = time.monotonic()
        reply = trio.get(content)
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
    assert (reply.status, reply.ending) == (200, Ending.FIN)
    assert 0 < len(reply.body) < reply.promised_bytes == len(content)
    assert content.startswith(reply.body)


def test_a_client_can_resume_after_a_cut(trio: Trio) -> None:
    content = Random(next(_seeds)).randbytes(1_000_000)
    with Impostor(trio.address, _breaks_at(content, 700_000)["closes"]):
        trio.asking.wait_for_holders(content, {"impostor"})
        reply = trio.get(content)
        assert reply.ending is Ending.FIN
    trio.honest.put(content)
    trio.asking.wait_for_holders(content, {"honest"})
    rest = trio.get(content, asked_range=f"bytes={len(reply.body)}-")
    assert rest.status == 206
    assert reply.body + rest.body == content


def test_bytes_behind_the_promised_length_are_not_passed_on(trio: Trio) -> None:
    content = trio.blob()
    with Impostor(trio.address, says(response(200, content + b"more", length=len(content)))):
        trio.asking.wait_for_holders(content, {"honest", "impostor"})
        reply = trio.get(content)
    assert (reply.status, reply.body, reply.ending) == (200, content, Ending.WHOLE)


@pytest.mark.parametrize("wrong_by", [-1, 1])
def test_a_length_other_than_the_manifests_is_refused(trio: Trio, wrong_by: int) -> None:
    image = trio.image()
    (layer,) = image.layers
    manifest = trio.asking.ask(f"/v2/library/app/manifests/{image.digest}")
    assert manifest.body == image.manifest
    with Impostor(trio.address, says(response(200, b"a" * (len(layer) + wrong_by)))) as impostor:
        trio.asking.wait_for_holders(layer, {"impostor"})
        reply = trio.get(layer)
        assert (reply.status, reply.body) == (200, layer)
        assert impostor.fetches


_WRONG_RANGES: dict[str, Behaviour] = {
    "whole": says(response(200, _OTHER)),
    "whole, short": says(response(200, _OTHER[:100])),
    "another": says(response(206, _OTHER[:100], Content_Range="bytes 0-99/100000")),
    "shorter": says(response(206, _OTHER[:50], Content_Range="bytes 1000-1049/100000")),
    "longer": says(response(206, _OTHER[:200], Content_Range="bytes 1000-1199/100000")),
    "another length": says(response(206, _OTHER[:50], Content_Range="bytes 1000-1099/100000")),
    "no header": says(response(206, _OTHER[:100])),
    "malformed": says(response(206, _OTHER[:100], Content_Range="bytes 1000-1099/*")),
    "backwards": says(response(206, _OTHER[:100], Content_Range="bytes 1099-1000/100000")),
    "behind the end": says(response(206, _OTHER[:100], Content_Range="bytes 1000-1099/1050")),
    "unsatisfiable": says(response(416, Content_Range="bytes */10")),
}


@pytest.mark.parametrize("behaviour", _WRONG_RANGES.values(), ids=_WRONG_RANGES.keys())
def test_a_wrong_answer_to_a_range_is_replaced_by_the_other_holders(trio: Trio, behaviour: Behaviour) -> None:
    content = trio.blob()
    with Impostor(trio.address, behaviour) as impostor:
        trio.asking.wait_for_holders(content, {"honest", "impostor"})
        reply = trio.get(content, asked_range="bytes=1000-1099")
        assert (reply.status, reply.ending) == (206, Ending.WHOLE)
        assert reply.body == content[1000:1100]
        assert reply.headers["Content-Range"] == "bytes 1000-1099/100000"
        assert impostor.fetches[0].headers["Range"] == "bytes=1000-1099"


_WRONG_MANIFESTS: dict[str, Behaviour] = {
    "another": says(response(200, make_image(b"x").manifest)),
    "no manifest": says(response(200, b"{}")),
    "empty": says(response(200, b"")),
    "short": says(response(200, b"{", length=500)),
    "half, silent": then_silent(response(200, b"{", length=500)),
    "huge": then_silent(response(200, b"{", length=1 << 40)),
    "not found": says(response(404)),
}


@pytest.mark.parametrize("behaviour", _WRONG_MANIFESTS.values(), ids=_WRONG_MANIFESTS.keys())
def test_a_wrong_manifest_is_replaced_by_the_other_holders(trio: Trio, behaviour: Behaviour) -> None:
    image = trio.image()
    with Impostor(trio.address, behaviour) as impostor:
        trio.asking.wait_for_holders(image.manifest, {"honest", "impostor"})
        started_s = time.monotonic()
        reply = trio.asking.ask(f"/v2/library/app/manifests/{image.digest}")
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
        assert (reply.status, reply.body) == (200, image.manifest)
        assert impostor.fetches


@pytest.mark.parametrize("behaviour", _WRONG_MANIFESTS.values(), ids=_WRONG_MANIFESTS.keys())
def test_a_wrong_manifest_that_nobody_can_replace_is_a_404(trio: Trio, behaviour: Behaviour) -> None:
    image = make_image(Random(next(_seeds)).randbytes(10))
    with Impostor(trio.address, behaviour):
        trio.asking.wait_for_holders(image.manifest, {"impostor"})
        reply = trio.asking.ask(f"/v2/library/app/manifests/{image.digest}")
        assert (reply.status, reply.oci_code()) == (404, "MANIFEST_UNKNOWN")


def test_an_impostors_tag_with_a_digest_that_nobody_has_is_a_404(trio: Trio) -> None:
    image = make_image(Random(next(_seeds)).randbytes(10))
    entry = (
        f'"held": [], "tags": [[["registry.test", "library/lie", "v1"], "{image.digest}", '
        f'{len(image.manifest)}, "application/vnd.oci.image.manifest.v1+json", 1.0]]'
    )
    with Impostor(trio.address, says(response(404)), questioned=replies(entry)):
        reply = trio.asking.ask("/v2/library/lie/manifests/v1?ns=registry.test")
        assert (reply.status, reply.oci_code()) == (404, "MANIFEST_UNKNOWN")


def test_a_tag_that_was_not_asked_for_is_not_taken(trio: Trio) -> None:
    image = trio.image()
    entry = (
        f'"held": [], "tags": [[["registry.test", "library/else", "v1"], "{image.digest}", '
        f'{len(image.manifest)}, "application/vnd.oci.image.manifest.v1+json", 1.0]]'
    )
    with Impostor(trio.address, says(), questioned=replies(entry)):
        assert trio.asking.ask("/v2/library/wanted/manifests/v1?ns=registry.test").status == 404


def test_an_impostor_that_fails_is_avoided_for_the_next_pulls(site: Site) -> None:
    address = fresh_address()
    asking, honest = site.add("asking", zone="a"), site.add("honest", zone="b")
    site.add_member("impostor", address, zone="a")
    contents = [b"%d" % number * 1000 for number in range(5)]
    honest.put(*contents)
    site.start()
    with Impostor(address, says(response(500))) as impostor:
        asking.wait_for_holders(contents[0], {"honest", "impostor"})
        for content in contents:
            asking.wait_for_holders(content, {"honest"})
            assert asking.blob(content).body == content
        assert len(impostor.fetches) == 1


def test_equal_holders_of_which_one_is_silent_are_raced_every_time(site: Site) -> None:
    # A timer may fire a little early: that must not make the pull forget the others.
    address = fresh_address()
    asking = site.add("asking", pull={"patience_s": 0.1, "cooloff_s": 0}, latency={"measure": False})
    honest = site.add("honest")
    site.add_member("impostor", address)
    contents = [b"%d" % number * 1000 for number in range(60)]
    honest.put(*contents)
    site.start()
    impostor_comes_first = 0
    with Impostor(address, then_silent()) as impostor:
        for content in contents:
            asking.wait_for_holders(content, {"honest", "impostor"})
            first = asking.explain(digest_of(content))["choice"]
            before = len(impostor.fetches)
            assert asking.blob(content).body == content
            # A handshake may have told meanwhile that the other one is nearer. And if the honest one comes
            # first, the impostor is asked only if a loaded machine makes that late.
            if first == asking.explain(digest_of(content))["choice"] == "impostor":
                impostor_comes_first += 1
                assert len(impostor.fetches) == before + 1
    assert impostor_comes_first  # by the hash, until the handshakes of pulls tell who is nearer


def test_a_slow_first_byte_still_wins_when_nobody_else_has_it(trio: Trio) -> None:
    content = Random(next(_seeds)).randbytes(1000)

    def late(impostor: Impostor, connection: socket.socket, _: Asked) -> None:
        impostor.closing.wait(0.7 * trio.asking.slowness)  # longer than patience, shorter than a stall
        connection.sendall(response(200, content))

    with Impostor(trio.address, late):
        trio.asking.wait_for_holders(content, {"impostor"})
        assert trio.get(content).body == content


def test_holders_that_die_during_a_pull_of_an_image_leave_it_to_the_ones_that_live(site: Site) -> None:
    layers = [Random(number).randbytes(50_000) for number in range(8)]
    image = make_image(*layers)
    asking = site.add("asking")
    holders = [site.add(f"holder{number}") for number in range(3)]
    for holder in holders:
        holder.put_image(image, "registry.test/library/app:v1")
    site.start()
    assert asking.ask("/v2/library/app/manifests/v1?ns=registry.test").status == 200
    for number, content in enumerate((image.config, *layers)):
        if number == 1:
            holders[0].stop()
        if number == 4:
            holders[1].stop()
        reply = asking.blob(content)
        assert (reply.status, reply.body) == (200, content)


def test_claiming_is_not_holding(trio: Trio) -> None:
    content = trio.blob()
    with Impostor(trio.address, says(response(404)), questioned=claims_everything):
        for _ in range(3):
            assert trio.get(content).body == content
