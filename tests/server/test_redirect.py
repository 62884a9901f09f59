"""``transfer.mode: redirect``: clients are sent to the nearest holder that answers, but for small things."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from .agents import (
    LOCAL,
    PEER,
    SERVICE,
    SLOWNESS,
    Node,
    Reply,
    Site,
    digest_of,
    fresh_address,
    make_image,
    wait_for,
)
from .faults import Fault, Holder, Kind, asked_for
from .impostor import Behaviour, Impostor, response, says, then_silent
from .proofs import OPEN, signed
from .wire import Ending, connected, raw_get, read_reply, request_bytes

_SIZE_BYTES = 400_000
_SMALL_BYTES = 50_000
_PATIENT_S = 20.0  # a few times what the agent may wait here; containerd itself would wait for 320 s
_REDIRECT: dict[str, Any] = {
    "transfer": {"mode": "redirect"},
    "pull": {"deadline_s": 3.0, "connect_s": 2.0, "cooloff_s": 0, "floor_ratio": 0.01},
    "latency": {"measure": False},
}
_seeds = count(1)


def _path(content: bytes) -> str:
    return f"/v2/library/app/blobs/{digest_of(content)}"


def _layer(size_bytes: int = _SIZE_BYTES) -> bytes:
    return Random(f"redirect {next(_seeds)}").randbytes(size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trio:
    """A node that redirects, an address in its zone, and an honest holder in another."""

    asking: Node
    honest: Node
    address: str

    def get(self, content: bytes, *, query: str = "", **headers: str) -> Reply:
        """Ask for a blob, and do not follow."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.asking.ask(_path(content) + query, headers=fields)

    def leads_to(self, reply: Reply) -> str:
        """The address that a client is sent to, which is one of an agent's peer listener."""
        assert reply.status == 307
        location = urlsplit(reply.headers["Location"])
        assert (location.scheme, location.port) == ("http", PEER)
        return str(location.hostname)


@pytest.fixture(scope="module")
def trio() -> Iterator[Trio]:
    """The agents of this module. Nobody is avoided after a failure."""
    with Site() as site:
        address = fresh_address()
        asking, honest = site.add("asking", **_REDIRECT), site.add("honest", zone="b")
        site.add_member("near", address)
        site.start()
        yield Trio(asking=asking, honest=honest, address=address)


@pytest.mark.parametrize("query", ["", "?ns=registry.test"])
def test_a_layer_that_a_peer_has_is_a_307_to_it(trio: Trio, query: str) -> None:
    content = _layer()
    trio.honest.put(content)
    before = trio.asking.metric("shorthaul_redirects_total")
    reply = trio.get(content, query=query)
    assert reply.status == 307
    mark = "&" if query else "?"
    proved = f"http://{trio.honest.address}:{PEER}{_path(content)}{query}{mark}shorthaul-proof="
    assert reply.headers["Location"].startswith(proved)
    assert trio.asking.metric("shorthaul_redirects_total") == before + 1
    assert trio.asking.newest(content)["status"] == 307
    assert trio.asking.newest(content)["bytes"] == 0


def test_following_the_redirect_gives_the_bytes(trio: Trio) -> None:
    content = _layer()
    trio.honest.put(content)
    location = urlsplit(trio.get(content).headers["Location"])
    for start in (0, 1000):
        path = f"{location.path}?{location.query}"
        reply = raw_get(str(location.hostname), PEER, path, Range=f"bytes={start}-")
        assert (reply.status, reply.body) == (206 if start else 200, content[start:])
    for other in (location.path, f"{_path(_layer())}?{location.query}", f"{path}0"):
        assert raw_get(str(location.hostname), PEER, other).status == 401
    assert location.query not in trio.honest.log.read_text()


def test_a_part_is_redirected_as_well(trio: Trio) -> None:
    content = _layer()
    trio.honest.put(content)
    assert trio.leads_to(trio.get(content, Range="bytes=1000-")) == trio.honest.address


def test_a_containerd_that_fetches_in_parts_is_relayed(trio: Trio) -> None:
    # It takes no other holder for a part once it had the first: only a relay can go on for it.
    content = _layer()
    trio.honest.put(content)
    for start, status in ((0, 200), (1000, 206), (0, 200)):
        reply = trio.get(content, Range=f"bytes={start}-", User_Agent="containerd/2.1.9")
        assert (reply.status, reply.body) == (status, content[start:])
    # From now on its requests come without a range again, and it can be sent away.
    assert trio.leads_to(trio.get(content, User_Agent="containerd/2.1.9")) == trio.honest.address


@pytest.mark.parametrize("port", [LOCAL, SERVICE])
def test_a_containerd_that_goes_on_with_chunks_is_relayed_by_an_agent_that_saw_none_before(
    trio: Trio, port: int
) -> None:
    content = _layer()
    trio.honest.put(content)
    headers = {"Range": "bytes=1000-", "User-Agent": "containerd/2.1.9"}
    reply = trio.asking.ask(_path(content), port=port, headers=headers)
    assert (reply.status, reply.body) == (206, content[1000:])
    # It does not follow that whole layers come in chunks.
    assert trio.leads_to(trio.get(content, User_Agent="containerd/2.1.9")) == trio.honest.address


def test_a_redirect_leaves_the_connection_open(trio: Trio) -> None:
    content = _layer()
    trio.honest.put(content)
    with connected(trio.asking.address, LOCAL) as sock:
        for _ in range(3):
            sock.sendall(request_bytes(_path(content)))
            reply = read_reply(sock)
            assert (reply.status, reply.ending) == (307, Ending.WHOLE)


def test_a_head_request_is_answered_and_not_redirected(trio: Trio) -> None:
    content = _layer()
    trio.honest.put(content)
    reply = trio.asking.ask(_path(content), method="HEAD")
    assert (reply.status, reply.headers["Content-Length"]) == (200, str(_SIZE_BYTES))
    assert reply.headers["Docker-Content-Digest"] == digest_of(content)


def test_manifests_configs_and_small_layers_come_inline_and_verified(trio: Trio) -> None:
    small, large = _layer(_SMALL_BYTES), _layer()
    image = make_image(small, large, note="x" * 300_000)  # a config is never redirected, whatever its size
    trio.honest.put_image(image, "registry.test/library/app:redirected")
    tagged = "/v2/library/app/manifests/redirected?ns=registry.test"
    wait_for(lambda: trio.asking.ask(tagged).status == 200, "the tag is known")
    for reference in (image.digest, "redirected"):
        reply = trio.asking.ask(f"/v2/library/app/manifests/{reference}?ns=registry.test")
        assert (reply.status, reply.body) == (200, image.manifest)
    for content in (image.config, small):
        reply = trio.get(content)
        assert (reply.status, reply.body) == (200, content)
    assert trio.leads_to(trio.get(large)) == trio.honest.address


def test_what_this_node_has_is_served_and_not_redirected(trio: Trio) -> None:
    content = _layer()
    trio.honest.put(content)
    trio.asking.put(content)
    assert trio.get(content).body == content


def test_what_nobody_has_is_a_404(trio: Trio) -> None:
    reply = trio.get(_layer())
    assert (reply.status, reply.oci_code()) == (404, "BLOB_UNKNOWN")


def test_a_peer_is_not_redirected(trio: Trio) -> None:
    content = _layer()
    trio.honest.put(content)
    proof = signed(_path(content), sender="honest", receiver="asking")
    assert trio.asking.blob(content, port=PEER, headers=proof).status == 404


_NO_ANSWERS: dict[str, Behaviour] = {
    "is silent": then_silent(),
    "half a head": then_silent(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "hangs up": says(),
    "not found": says(response(404)),
    "unavailable": says(response(503)),
    "error": says(response(500)),
    "garbage": says(b"\0\1\2\3" * 1000),
    "redirects": says(response(307, Location="http://127.0.0.1:1/")),
    "no length": says(response(200, length=-1)),
}


@pytest.mark.parametrize("name", _NO_ANSWERS)
def test_nobody_is_sent_to_a_holder_that_does_not_answer_well(trio: Trio, name: str) -> None:
    content = _layer()
    trio.honest.put(content)
    with Impostor(trio.address, _NO_ANSWERS[name], questioned=Holder(content).claim) as impostor:
        trio.asking.wait_for_holders(content, {"honest", "near"})
        started_s = time.monotonic()
        assert trio.leads_to(trio.get(content)) == trio.honest.address
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
        assert impostor.fetches


@pytest.mark.parametrize("name", _NO_ANSWERS)
def test_the_only_holder_does_not_answer_well_and_that_is_a_404(trio: Trio, name: str) -> None:
    content = _layer()
    with Impostor(trio.address, _NO_ANSWERS[name], questioned=Holder(content).claim) as impostor:
        trio.asking.wait_for_holders(content, {"near"})
        started_s = time.monotonic()
        assert trio.get(content).status == 404
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
        assert impostor.fetches


@pytest.mark.parametrize("wrong_by", [-1, 1])
def test_nobody_is_sent_to_a_holder_of_another_length(trio: Trio, wrong_by: int) -> None:
    content = _layer()
    image = make_image(content)
    trio.honest.put(image.manifest, content)
    lies = says(response(200, length=len(content) + wrong_by))
    with Impostor(trio.address, lies, questioned=Holder(content).claim) as impostor:
        assert trio.asking.ask(f"/v2/library/app/manifests/{image.digest}").status == 200
        trio.asking.wait_for_holders(content, {"honest", "near"})
        assert trio.leads_to(trio.get(content)) == trio.honest.address
        assert impostor.fetches


def test_the_nearest_holder_is_seen_to_answer_and_gives_no_body_for_it(trio: Trio) -> None:
    content = _layer()
    trio.honest.put(content)
    holder = Holder(content)
    with Impostor(trio.address, holder.serve, questioned=holder.claim) as impostor:
        trio.asking.wait_for_holders(content, {"honest", "near"})
        assert trio.leads_to(trio.get(content)) == trio.address
        assert asked_for(impostor, content, "HEAD")
        assert not asked_for(impostor, content, "GET")


def test_a_wrong_small_layer_is_replaced_and_not_redirected(trio: Trio) -> None:
    content = _layer(_SMALL_BYTES)
    image = make_image(content)
    trio.honest.put(image.manifest, content)
    holder = Holder()
    holder.put(content, afterwards=Fault(kind=Kind.GARBLES, at=1000))
    with Impostor(trio.address, holder.serve, questioned=holder.claim) as impostor:
        assert trio.asking.ask(f"/v2/library/app/manifests/{image.digest}").status == 200
        trio.asking.wait_for_holders(content, {"honest", "near"})
        reply = trio.get(content)
        assert (reply.status, reply.body) == (200, content)
        assert asked_for(impostor, content, "GET")


@pytest.mark.parametrize("other", [False, True], ids=["no other holder", "another holder"])
def test_nobody_is_sent_to_a_busy_holder(trio: Trio, other: bool) -> None:
    content = _layer()
    if other:
        trio.honest.put(content)
    busy = says(response(429, Retry_After="1", Shorthaul_Wait_Ms="50"))
    with Impostor(trio.address, busy, questioned=Holder(content).claim):
        trio.asking.wait_for_holders(content, {"honest", "near"} if other else {"near"})
        started_s = time.monotonic()
        reply = trio.get(content)
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
    if other:
        assert trio.leads_to(reply) == trio.honest.address
    else:
        assert reply.status == 404


def test_nobody_is_sent_to_a_holder_that_is_gone_or_frozen(site: Site) -> None:
    content, other = _layer(), _layer()
    asking = site.add("asking", **{**_REDIRECT, "pull": {"cooloff_s": 0}})
    near, far = site.add("near"), site.add("far", zone="b")
    for holder in (near, far):
        holder.put(content, other)
    site.start()
    trio = Trio(asking=asking, honest=far, address=near.address)
    asking.wait_for_holders(content, {"near", "far"})
    assert trio.leads_to(trio.get(content)) == near.address
    near.process.signal(signal.SIGSTOP)
    started_s = time.monotonic()
    assert trio.leads_to(trio.get(content)) == far.address
    assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
    assert asking.waits() <= 1
    near.stop()
    for each in (content, other):
        assert trio.leads_to(trio.get(each)) == far.address


def test_clients_are_sent_past_a_holder_without_room(site: Site) -> None:
    content, big = _layer(), _layer(1 << 20) * 24
    asking = site.add("asking", **_REDIRECT)
    near, far = site.add("near", transfer={"uploads_max": 1}, peering=OPEN), site.add("far", zone="b")
    for holder in (near, far):
        holder.put(content, big)
    site.start()
    trio = Trio(asking=asking, honest=far, address=near.address)
    with connected(near.address, PEER, receive_bytes=65_536) as sock:
        sock.sendall(request_bytes(_path(big), User_Agent="containerd/2.1.9"))
        assert sock.recv(15).startswith(b"HTTP/1.1 200")
        assert trio.leads_to(trio.get(content)) == far.address
    wait_for(lambda: near.metric("shorthaul_uploads") == 0, "there is room again")
    wait_for(lambda: trio.leads_to(trio.get(content)) == near.address, "the near one is used")
