"""Every fault of a holder, wherever in the body it comes, with another holder and without one.

With another: one response, whole and right, within bounded time. Without: a 404 if not one byte was sent,
else a cut by a FIN that never looks whole, and then 404 at once, so that containerd goes to the registry.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from .agents import LOCAL, SLOWNESS, Image, Node, Site, digest_of, fresh_address, make_image, wait_for
from .faults import Fault, Holder, Kind, asked_for, digest_in, first_bytes_asked, tell_sizes
from .impostor import Asked, Behaviour, Impostor, claims
from .wire import Ending, RawReply, raw_get

_SIZE_BYTES = 400_000  # of layers: more than what is verified before a byte is sent
_SMALL_BYTES = 50_000
_PULL: dict[str, Any] = {
    "deadline_s": 3.0,
    "stall_s": 0.8,
    "connect_s": 2.0,
    "floor_ratio": 0.01,  # a loaded machine can make any holder ten times as slow as the others
}
_PATIENT_S = 20.0  # a few times what the agent may wait here; containerd itself would wait for 320 s
_WAITS_MOST = 2  # each of them for a stall
_FAST_S = 2.5  # less than a deadline

_POSITIONS = {
    "before the first byte": 0,
    "behind the first byte": 1,
    "in the middle": _SIZE_BYTES // 2,
    "before the last byte": -1,
}
_BREAKS = (Kind.CLOSES, Kind.RESETS, Kind.STALLS, Kind.VANISHES)
_SLOW = {
    "trickles from the first byte on": Fault(kind=Kind.TRICKLES),
    "trickles from the middle on": Fault(kind=Kind.TRICKLES, at=_SIZE_BYTES // 2),
    "trickles at the end": Fault(kind=Kind.TRICKLES, at=-40),
    "drips from the first byte on": Fault(kind=Kind.DRIPS),
    "drips from the middle on": Fault(kind=Kind.DRIPS, at=_SIZE_BYTES // 2),
    "drips at the end": Fault(kind=Kind.DRIPS, at=-16),
}
_BROKEN = {
    f"{kind.value} {position}": Fault(kind=kind, at=at)
    for kind in _BREAKS
    for position, at in _POSITIONS.items()
}
_HEADLESS = {
    kind.value: Fault(kind=kind)
    for kind in (Kind.HANGS_UP, Kind.IS_SILENT, Kind.SHORTER, Kind.LONGER, Kind.MISSING, Kind.ERROR)
}
_LAYER_FAULTS = {**_HEADLESS, **_BROKEN, **_SLOW}
_WRONG_PARTS = {
    kind.value: Fault(kind=kind)
    for kind in (
        Kind.WHOLE,
        Kind.SHIFTED,
        Kind.PARTIAL,
        Kind.OTHER_TOTAL,
        Kind.NO_RANGE,
        Kind.UNSATISFIED,
        Kind.SHORTER,
        Kind.LONGER,
    )
}
_NO_PARTS = {
    **_WRONG_PARTS,
    **{kind.value: Fault(kind=kind) for kind in (Kind.MISSING, Kind.ERROR, Kind.HANGS_UP)},
    "is silent": Fault(kind=Kind.IS_SILENT),
    "stalls behind its head": Fault(kind=Kind.STALLS),
    "closes behind its head": Fault(kind=Kind.CLOSES),
    "closes in the middle": Fault(kind=Kind.CLOSES, at=_SIZE_BYTES // 4),
    "trickles": Fault(kind=Kind.TRICKLES),
    "429": Fault(kind=Kind.BUSY),  # the last one: it is asked last for as long as it says
}
_SMALL_FAULTS = {
    "is silent": Fault(kind=Kind.IS_SILENT),
    "has a wrong first byte": Fault(kind=Kind.GARBLES),
    "has a wrong byte in the middle": Fault(kind=Kind.GARBLES, at=1234),
    "has a wrong last byte": Fault(kind=Kind.GARBLES, at=-1),
    "closes behind the first byte": Fault(kind=Kind.CLOSES, at=1),
    "closes in the middle": Fault(kind=Kind.CLOSES, at=1234),
    "closes before the last byte": Fault(kind=Kind.CLOSES, at=-1),
    "resets in the middle": Fault(kind=Kind.RESETS, at=1234),
    "vanishes before the last byte": Fault(kind=Kind.VANISHES, at=-1),
    "stalls in the middle": Fault(kind=Kind.STALLS, at=1234),
    "trickles": Fault(kind=Kind.TRICKLES),
    "says it is shorter": Fault(kind=Kind.SHORTER),
    "says it is longer": Fault(kind=Kind.LONGER),
}


def _get(node: Node, content: bytes, *, asked_range: str | None = None) -> RawReply:
    """Ask for a blob: it takes a bounded time and a bounded number of stalls, whatever happens."""
    started_s, waits = time.monotonic(), node.waits()
    path = f"/v2/library/app/blobs/{digest_of(content)}"
    if asked_range is None:
        reply = raw_get(node.address, LOCAL, path)
    else:
        reply = raw_get(node.address, LOCAL, path, Range=asked_range)
    assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
    assert node.waits() - waits <= _WAITS_MOST
    return reply


def _is_whole(reply: RawReply, content: bytes, start: int = 0) -> None:
    assert (reply.status, reply.ending) == (206 if start else 200, Ending.WHOLE)
    assert reply.promised_bytes == len(reply.body)
    assert digest_of(reply.body) == digest_of(content[start:])


def _is_cut(reply: RawReply, content: bytes) -> None:
    assert (reply.status, reply.ending) == (200, Ending.FIN)
    assert 0 < len(reply.body) < reply.promised_bytes == len(content)
    assert content.startswith(reply.body)


def _is_unknown(reply: RawReply) -> None:
    assert (reply.status, reply.ending) == (404, Ending.WHOLE)
    assert b'"errors"' in reply.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """An asking node, and addresses in its rack, in its zone and in another zone.

    Nobody is avoided after a failure: each test meets its impostors anew.
    """

    asking: Node
    archive: Node
    rack: str
    zone: str
    region: str


@contextmanager
def _standing(address: str, holder: Holder) -> Iterator[Impostor]:
    with Impostor(address, holder.serve, questioned=holder.claim) as impostor:
        yield impostor


def _bytes_of(seed: str, size_bytes: int) -> bytes:
    return Random(seed).randbytes(size_bytes)


_PLACED: dict[str, Any] = {
    "placement": {"region": "r", "zone": "a", "rack": "k"},
    "latency": {"measure": False},
    # The holders come after the manifest that names what they have, and the nearest is to be found first.
    "lookup": {"negative_ttl_s": 0, "patience_s": 1.0},
}


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """The agents of this module, and the sizes of all its layers known."""
    with Site() as site:
        rack, zone, region = fresh_address(), fresh_address(), fresh_address()
        asking = site.add("asking", pull={**_PULL, "cooloff_s": 0}, **_PLACED)
        archive = site.add("archive", zone="c")
        site.add_member("rack", rack, rack="k")
        site.add_member("zone", zone, rack="l")
        site.add_member("region", region, zone="b")
        site.start()
        named = [*_LAYER_FAULTS, *(f"range {name}" for name in _WRONG_PARTS)]
        named += [f"{family} {name}" for family in ("resume", "last resume") for name in _NO_PARTS]
        tell_sizes(asking, archive, *(_bytes_of(name, _SIZE_BYTES) for name in named))
        yield Ground(asking=asking, archive=archive, rack=rack, zone=zone, region=region)


@pytest.mark.parametrize("name", _LAYER_FAULTS)
def test_a_layer_whose_holder_fails_goes_on_from_the_other_one_in_the_same_response(
    ground: Ground, name: str
) -> None:
    fault, content = _LAYER_FAULTS[name], _bytes_of(name, _SIZE_BYTES)
    failing, other = Holder(), Holder()
    failing.put(content, faults=(fault,))
    starts = name not in _HEADLESS and (fault.at != 0 or name in _SLOW)
    other.put(content, answers_from=1 if starts else 0)
    with _standing(ground.rack, failing) as impostor, _standing(ground.region, other) as second:
        ground.asking.wait_for_holders(content, {"rack", "region"})
        reply = _get(ground.asking, content)
        _is_whole(reply, content)
        assert first_bytes_asked(impostor, content) == [0], "the failing one is asked first, and once"
        record = ground.asking.newest(content)
        assert (record["result"], record["bytes"]) == ("ok", _SIZE_BYTES)
        if not starts:
            assert reply.headers["Shorthaul-Source"].startswith("node=region;")
            assert record["resumes"] == 0
            return
        assert reply.headers["Shorthaul-Source"].startswith("node=rack;")
        resumed_at = first_bytes_asked(second, content)[-1]
        given = fault.at % _SIZE_BYTES
        assert given <= resumed_at <= failing.sent_bytes(content)
        assert name in _SLOW or resumed_at == given, "resumed at the exact byte"
        assert record["resumes"] == 1
        assert [source["node"] for source in record["sources"]] == ["rack", "region"]
        assert [source["bytes"] for source in record["sources"]] == [resumed_at, _SIZE_BYTES - resumed_at]


@pytest.mark.parametrize("name", _NO_PARTS)
def test_a_wrong_rest_is_replaced_by_the_next_holders(ground: Ground, name: str) -> None:
    content = _bytes_of(f"resume {name}", _SIZE_BYTES)
    breaking, wrong, right = Holder(), Holder(), Holder()
    breaking.put(content, faults=(Fault(kind=Kind.CLOSES, at=_SIZE_BYTES // 2),))
    wrong.put(content, faults=(_NO_PARTS[name],), answers_from=1)
    right.put(content, answers_from=1)
    with ExitStack() as stack:
        stack.enter_context(_standing(ground.rack, breaking))
        second = stack.enter_context(_standing(ground.zone, wrong))
        stack.enter_context(_standing(ground.region, right))
        ground.asking.wait_for_holders(content, {"rack", "zone", "region"})
        _is_whole(_get(ground.asking, content), content)
        assert _SIZE_BYTES // 2 in first_bytes_asked(second, content)


@pytest.mark.parametrize("name", _NO_PARTS)
def test_a_wrong_rest_that_nobody_can_replace_cuts_the_body(ground: Ground, name: str) -> None:
    content = _bytes_of(f"last resume {name}", _SIZE_BYTES)
    breaking, wrong = Holder(), Holder()
    breaking.put(
        content, faults=(Fault(kind=Kind.CLOSES, at=_SIZE_BYTES // 2),), afterwards=Fault(kind=Kind.MISSING)
    )
    wrong.put(content, answers_from=1, afterwards=_NO_PARTS[name])
    with _standing(ground.rack, breaking), _standing(ground.zone, wrong) as second:
        before = ground.asking.metric("shorthaul_requests_total", result="cut")
        ground.asking.wait_for_holders(content, {"rack", "zone"})
        reply = _get(ground.asking, content)
        _is_cut(reply, content)
        assert len(reply.body) >= _SIZE_BYTES // 2
        assert _SIZE_BYTES // 2 in first_bytes_asked(second, content)
        assert ground.asking.metric("shorthaul_requests_total", result="cut") == before + 1
        assert ground.asking.newest(content)["bytes"] == len(reply.body)


@pytest.mark.parametrize("name", _WRONG_PARTS)
@pytest.mark.parametrize("other", [True, False], ids=["another holder", "no other holder"])
def test_a_wrong_answer_to_a_range_is_replaced_or_a_404(ground: Ground, name: str, other: bool) -> None:
    content = _bytes_of(f"range {name}", _SIZE_BYTES)
    wrong, right = Holder(), Holder(content)
    wrong.put(content, afterwards=_WRONG_PARTS[name])
    with ExitStack() as stack:
        impostor = stack.enter_context(_standing(ground.rack, wrong))
        if other:
            stack.enter_context(_standing(ground.region, right))
        ground.asking.wait_for_holders(content, {"rack", "region"} if other else {"rack"})
        reply = _get(ground.asking, content, asked_range="bytes=1000-")
        assert impostor.fetches
        if other:
            _is_whole(reply, content, 1000)
            assert reply.headers["Content-Range"] == f"bytes 1000-{_SIZE_BYTES - 1}/{_SIZE_BYTES}"
        else:
            _is_unknown(reply)


@pytest.mark.parametrize("name", _SMALL_FAULTS)
@pytest.mark.parametrize("other", [True, False], ids=["another holder", "no other holder"])
@pytest.mark.parametrize("family", ["layer", "unnamed layer", "config", "manifest"])
def test_what_is_verified_before_a_byte_is_sent_is_replaced_or_a_404(
    ground: Ground, name: str, other: bool, family: str
) -> None:
    fault = _SMALL_FAULTS[name]
    unnamed = family == "unnamed layer"
    if unnamed and fault.kind is Kind.SHORTER:
        fault = Fault(kind=Kind.GARBLES)  # its own hash is all that is known of it
    image, content, room = _verified(family, f"{name} {other}")
    failing, right = Holder(), Holder(content)
    failing.put(content, afterwards=fault)
    with ExitStack() as stack:
        impostor = stack.enter_context(_standing(ground.rack, failing))
        if other:
            stack.enter_context(_standing(ground.region, right))
        if family in ("layer", "config"):
            ground.archive.put(image.manifest)
            assert ground.asking.ask(f"/v2/library/app/manifests/{image.digest}").status == 200
        ground.asking.wait_for_holders(content, {"rack", "region"} if other else {"rack"})
        path = f"/v2/library/app/{room}/{digest_of(content)}"
        started_s = time.monotonic()
        reply = raw_get(ground.asking.address, LOCAL, path)
        assert time.monotonic() - started_s < _PATIENT_S * SLOWNESS.factor
        assert any(digest_in(asked) == digest_of(content) for asked in impostor.fetches)
        if other:
            _is_whole(reply, content)
            assert reply.headers["Shorthaul-Source"].startswith("node=region;")
        else:
            _is_unknown(reply)


def _verified(family: str, seed: str) -> tuple[Image, bytes, str]:
    """An image, the content of it that the family is about, and where that is asked for."""
    seed = f"{family} {seed}"
    layer = _bytes_of(seed, _SMALL_BYTES)
    # Longer than any layer that is verified for its size alone.
    image = make_image(layer, note=_bytes_of(seed, 150_000).hex() if family == "config" else seed)
    if family == "manifest":
        return image, image.manifest, "manifests"
    return image, image.config if family == "config" else layer, "blobs"


# Without another holder, what the failed one did counts for the next request as well: so each
# failure gets a peer of its own, and all of them stand there from the beginning.


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """An asking node that avoids who failed, and for each fault the only holder of one layer."""

    asking: Node
    impostors: dict[str, Impostor]
    holders: dict[str, Holder]


_REFUSES = "refuses"


def _claims_and_refuses(digest: str) -> Behaviour:
    """Claim the digest, and refuse connections from then on."""

    def answer(impostor: Impostor, connection: Any, asked: Asked) -> None:
        def holds(each: str) -> bool:
            if each != digest:
                return False
            impostor.stop_listening()
            return True

        claims(holds)(impostor, connection, asked)

    return answer


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    """The asking node and the holders."""
    with Site() as site, ExitStack() as stack:
        asking = site.add(
            "asking", pull={**_PULL, "cooloff_s": 60}, lookup={"timeout_s": 3.0}, latency={"measure": False}
        )
        archive = site.add("archive", zone="c")
        impostors, holders, layers = {}, {}, []
        for number, (name, fault) in enumerate(
            {**_LAYER_FAULTS, _REFUSES: Fault(kind=Kind.HANGS_UP)}.items()
        ):
            content, address, holder = _bytes_of(f"alone {name}", _SIZE_BYTES), fresh_address(), Holder()
            holder.put(content, afterwards=fault)
            claim = _claims_and_refuses(digest_of(content)) if name == _REFUSES else holder.claim
            impostors[name] = stack.enter_context(Impostor(address, holder.serve, questioned=claim))
            holders[name] = holder
            layers.append(content)
            site.add_member(f"holder{number}", address)
        image = make_image(*layers)
        archive.put(image.manifest)
        site.start()
        assert asking.ask(f"/v2/library/app/manifests/{image.digest}").status == 200
        yield Alone(asking=asking, impostors=impostors, holders=holders)


@pytest.mark.parametrize("name", [*_LAYER_FAULTS, _REFUSES])
def test_a_layer_that_nobody_else_has_is_cut_or_a_404_and_then_a_404_at_once(alone: Alone, name: str) -> None:
    content, impostor = _bytes_of(f"alone {name}", _SIZE_BYTES), alone.impostors[name]
    fault = _LAYER_FAULTS.get(name)
    starts = fault is not None and name not in _HEADLESS and (fault.at != 0 or name in _SLOW)
    before = alone.asking.metric("shorthaul_requests_total", result="cut")
    reply = _get(alone.asking, content)
    if not starts:
        _is_unknown(reply)
        assert name == _REFUSES or asked_for(impostor, content)
        _is_unknown(_get(alone.asking, content))
        assert alone.asking.metric("shorthaul_requests_total", result="cut") == before
        return
    _is_cut(reply, content)
    assert len(reply.body) <= alone.holders[name].sent_bytes(content)
    asked, attempts = len(impostor.fetches), alone.asking.metric("shorthaul_peer_attempts_total")
    started_s = time.monotonic()
    _is_unknown(_get(alone.asking, content))
    assert time.monotonic() - started_s < _FAST_S * alone.asking.slowness
    if "middle" in name:  # a client that has a part is refused a little later: somebody may come
        _is_unknown(_get(alone.asking, content, asked_range=f"bytes={len(reply.body)}-"))
        assert time.monotonic() - started_s < 3 * _FAST_S * alone.asking.slowness
    assert len(impostor.fetches) == asked, "asked again, although it is passed over for a while"
    assert alone.asking.metric("shorthaul_peer_attempts_total") == attempts, "it was waited for"
    assert alone.asking.metric("shorthaul_requests_total", result="cut") == before + 1


def test_a_body_that_is_whole_before_its_connection_breaks_is_whole(ground: Ground) -> None:
    content = _bytes_of("then resets", _SIZE_BYTES)
    holder = Holder(content)

    def serve(impostor: Impostor, connection: Any, asked: Asked) -> None:
        holder.serve(impostor, connection, asked)
        impostor.vanish()

    with Impostor(ground.rack, serve, questioned=holder.claim):
        ground.asking.wait_for_holders(content, {"rack"})
        _is_whole(_get(ground.asking, content), content)


def test_after_all_of_it_nothing_was_an_error_of_the_agents_own(ground: Ground, alone: Alone) -> None:
    for node in (ground.asking, alone.asking):
        assert node.metric("shorthaul_requests_total", result="error") == 0
        wait_for(node.is_idle, "no transfer is left")
        assert node.logged_errors() == []
