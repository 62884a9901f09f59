"""A large body from several equally near holders at once, each slower than its client: right and in order."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from .agents import LOCAL, Node, Site, digest_of, fresh_address, wait_for
from .faults import Fault, Holder, Kind, first_bytes_asked, tell_sizes
from .impostor import Impostor
from .tracing import steps_of
from .wire import Ending, RawReply, connected, raw_get, request_bytes

_RANGE_BYTES = 8 << 20
_SIZE_BYTES = 40 << 20
_RATE = 16 << 20  # of each connection to a holder
# On a busy machine the client may be the slower side, and one holder is enough. Each try has slower ones.
_TRIES = 5
_CONTENT = Random(31).randbytes(1 << 20) * (_SIZE_BYTES >> 20)
# Every MiB is another one: ranges in the wrong order would show.
_CONTENT = b"".join(
    number.to_bytes(8, "big") + _CONTENT[number << 20 : (number + 1) << 20][8:]
    for number in range(_SIZE_BYTES >> 20)
)
_PATH = f"/v2/library/app/blobs/{digest_of(_CONTENT)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """An asking node and the addresses where holders stand, all in its zone but the last one."""

    asking: Node
    archive: Node
    addresses: tuple[str, ...]

    def striped(self) -> float:
        """How many bodies were."""
        return self.asking.metric("shorthaul_striped_bodies_total")


def _stage(site: Site, **settings: Any) -> Stage:
    transfer = {"stripe_min_bytes": _RANGE_BYTES, **settings.pop("transfer", {})}
    pull = {"stall_s": 1.0, "cooloff_s": 0}
    settings |= {"latency": {"measure": False}, "lookup": {"negative_ttl_s": 0, "positive_ttl_s": 0}}
    asking = site.add("asking", transfer=transfer, pull=pull, **settings)
    archive = site.add("archive", zone="d")
    addresses = tuple(fresh_address() for _ in range(4))
    for name, address, zone in zip(("one", "two", "three", "far"), addresses, "aaab", strict=True):
        site.add_member(name, address, zone=zone)
    site.start()
    tell_sizes(asking, archive, _CONTENT)
    return Stage(asking=asking, archive=archive, addresses=addresses)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The agents that most tests of this module share."""
    with Site() as site:
        yield _stage(site)


@contextmanager
def _standing(stage: Stage, *holders: Holder | None) -> Iterator[list[Impostor]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(Impostor(address, holder.serve, questioned=holder.claim))
            for address, holder in zip(stage.addresses, holders, strict=False)
            if holder is not None
        ]


def _slow(*faults: Fault, rate: int = _RATE) -> Holder:
    holder = Holder(bytes_per_s=rate)
    holder.put(_CONTENT, faults=faults)
    return holder


def _is_whole(reply: RawReply, start: int = 0) -> None:
    assert (reply.status, reply.ending) == (206 if start else 200, Ending.WHOLE)
    assert digest_of(reply.body) == digest_of(_CONTENT[start:])


def test_a_body_comes_from_both_holders_and_is_right(stage: Stage) -> None:
    before = stage.striped()
    for tried in range(_TRIES):
        one, two = _slow(rate=_RATE >> tried), _slow(rate=_RATE >> tried)
        with _standing(stage, one, two):
            _is_whole(raw_get(stage.asking.address, LOCAL, _PATH))
            given = [holder.sent_bytes(_CONTENT) for holder in (one, two)]
        if stage.striped() > before:
            break
    assert stage.striped() == before + 1
    assert min(given) >= _RANGE_BYTES
    assert sum(given) < 1.5 * _SIZE_BYTES, "fetched twice"
    assert stage.asking.metric("shorthaul_sent_bytes_total", way="stripe") > 0
    record = stage.asking.newest(_CONTENT)
    assert record["way"] == "stripe"
    assert {source["node"] for source in record["sources"]} == {"one", "two"}
    assert sum(source["bytes"] for source in record["sources"]) == _SIZE_BYTES
    alone, *both = [step for step in steps_of(record, "bytes") if step["bytes"]]
    assert {step["node"] for step in both[:2]} == {"one", "two"}
    assert all("2 holders at once" in step["why"] for step in both[:2])
    assert both[0]["start_s"] + both[0]["seconds"] > both[1]["start_s"] >= alone["start_s"] + alone["seconds"]


def test_three_holders_share_a_body(stage: Stage) -> None:
    for tried in range(_TRIES):
        holders = [_slow(rate=(10 << 20) >> tried) for _ in range(3)]
        with _standing(stage, *holders):
            _is_whole(raw_get(stage.asking.address, LOCAL, _PATH))
            least_bytes = min(holder.sent_bytes(_CONTENT) for holder in holders)
        if least_bytes >= 1 << 20:
            break
    assert least_bytes >= 1 << 20


@pytest.mark.parametrize("start", [1, (2 << 20) + 1])
def test_a_part_of_a_body_comes_from_both_holders_and_is_right(stage: Stage, start: int) -> None:
    before = stage.striped()
    for tried in range(_TRIES):
        with _standing(stage, _slow(rate=_RATE >> tried), _slow(rate=_RATE >> tried)):
            _is_whole(raw_get(stage.asking.address, LOCAL, _PATH, Range=f"bytes={start}-"), start)
        if stage.striped() > before:
            break
    assert stage.striped() == before + 1


_LANE_FAULTS = (
    Kind.CLOSES,
    Kind.STALLS,
    Kind.VANISHES,
    Kind.WHOLE,
    Kind.SHIFTED,
    Kind.HANGS_UP,
    Kind.IS_SILENT,
    Kind.MISSING,
    Kind.BUSY,
)


@pytest.mark.parametrize("kind", _LANE_FAULTS, ids=[kind.value for kind in _LANE_FAULTS])
def test_a_lane_that_fails_is_replaced_by_the_other_holder(site: Site, kind: Kind) -> None:
    stage = _stage(site)
    # It never gives the first bytes, so that it joins as a lane; then it fails in the middle of one.
    one, two = _slow(), Holder(bytes_per_s=_RATE)
    two.put(_CONTENT, answers_from=1, afterwards=Fault(kind=kind, at=3 << 20))
    with _standing(stage, one, two) as (_, lane):
        _is_whole(raw_get(stage.asking.address, LOCAL, _PATH))
        assert any(start > 0 for start in first_bytes_asked(lane, _CONTENT))
    assert stage.striped() >= 1


@pytest.mark.parametrize(
    "kind", [Kind.CLOSES, Kind.RESETS, Kind.STALLS, Kind.VANISHES], ids=lambda kind: str(kind.value)
)
@pytest.mark.parametrize("behind", [6 << 20, 25 << 20])
def test_a_body_is_right_although_its_first_source_fails(stage: Stage, kind: Kind, behind: int) -> None:
    one, two = _slow(Fault(kind=kind, at=behind)), Holder(bytes_per_s=_RATE)
    two.put(_CONTENT, answers_from=1)
    with _standing(stage, one, two):
        _is_whole(raw_get(stage.asking.address, LOCAL, _PATH))


def test_a_body_of_which_every_holder_fails_for_good_is_cut(stage: Stage) -> None:
    gone = Fault(kind=Kind.MISSING)
    one, two = Holder(bytes_per_s=_RATE), Holder(bytes_per_s=_RATE)
    one.put(_CONTENT, faults=(Fault(kind=Kind.CLOSES, at=20 << 20),), afterwards=gone)
    two.put(_CONTENT, answers_from=1, faults=(Fault(kind=Kind.CLOSES, at=3 << 20),), afterwards=gone)
    with _standing(stage, one, two):
        reply = raw_get(stage.asking.address, LOCAL, _PATH)
    assert (reply.status, reply.ending) == (200, Ending.FIN)
    assert _CONTENT.startswith(reply.body)
    assert 0 < len(reply.body) < _SIZE_BYTES
    assert stage.asking.newest(_CONTENT)["result"] == "cut"


def test_holders_further_away_are_left_alone(stage: Stage) -> None:
    before = stage.striped()
    for _ in range(_TRIES):
        near, far = _slow(), _slow()
        with _standing(stage, near, None, None, far):
            _is_whole(raw_get(stage.asking.address, LOCAL, _PATH))
        if near.sent_bytes(_CONTENT):  # else its answer was late, and it was not known when the body began
            break
    assert near.sent_bytes(_CONTENT) > 0
    assert far.sent_bytes(_CONTENT) == 0
    assert stage.striped() == before


def test_a_holder_that_is_faster_than_its_client_is_enough(stage: Stage) -> None:
    one, two = Holder(_CONTENT), Holder(_CONTENT)
    before = stage.striped()
    with _standing(stage, one, two), connected(stage.asking.address, LOCAL, receive_bytes=65_536) as sock:
        sock.sendall(request_bytes(_PATH))
        client = Client(sock)
        client.read(_SIZE_BYTES, pause=lambda: stage.asking.metric("shorthaul_peers"))
    assert digest_of(bytes(client.body)) == digest_of(_CONTENT)
    assert stage.striped() == before
    assert stage.asking.newest(_CONTENT)["resumes"] == 0


def test_without_a_buffer_nothing_is_striped(site: Site) -> None:
    stage = _stage(site, transfer={"stripe_buffer_bytes": 0})
    with _standing(stage, _slow(rate=30 << 20), _slow(rate=30 << 20)):
        _is_whole(raw_get(stage.asking.address, LOCAL, _PATH))
    assert stage.striped() == 0


def test_small_bodies_are_not_striped(site: Site) -> None:
    stage = _stage(site, transfer={"stripe_min_bytes": _SIZE_BYTES + 1})
    with _standing(stage, _slow(rate=30 << 20), _slow(rate=30 << 20)):
        _is_whole(raw_get(stage.asking.address, LOCAL, _PATH))
    assert stage.striped() == 0


def test_a_client_that_leaves_ends_every_lane(stage: Stage) -> None:
    descriptors = len(os.listdir(f"/proc/{stage.asking.process.pid}/fd"))  # noqa: PTH208 - a count
    left = 0
    for tried in range(_TRIES):
        with _standing(stage, _slow(rate=_RATE >> tried), _slow(rate=_RATE >> tried)):
            while left < 3 and _leaves_when_striped(stage):
                left += 1
            wait_for(stage.asking.is_idle, "every lane has ended")
    assert left == 3
    wait_for(
        lambda: len(os.listdir(f"/proc/{stage.asking.process.pid}/fd")) <= descriptors + 6,  # noqa: PTH208
        "descriptors are back",
        at_most_s=12.0,
    )
    assert stage.asking.metric("shorthaul_requests_total", result="error") == 0


def _leaves_when_striped(stage: Stage) -> bool:
    """A client that leaves as soon as its body comes from several holders. False if it never did."""
    before = stage.striped()
    with connected(stage.asking.address, LOCAL) as sock:
        sock.sendall(request_bytes(_PATH))
        got_bytes = 0
        while stage.striped() == before:
            if got_bytes >= _SIZE_BYTES:
                return False
            received = sock.recv(1 << 20)
            assert received, f"cut after {got_bytes} bytes"
            got_bytes += len(received)
    wait_for(stage.asking.is_idle, "every lane has ended")
    return True


def test_memory_is_bounded_for_all_bodies_together_while_their_clients_pause(site: Site) -> None:
    buffer_bytes = 4 * _RANGE_BYTES
    stage = _stage(site, transfer={"stripe_buffer_bytes": buffer_bytes})
    with ExitStack() as stack:
        holders = [_slow() for _ in range(3)]
        stack.enter_context(_standing(stage, *holders))
        before_bytes = _resident_bytes(stage.asking)
        clients = [Client(stack.enter_context(connected(stage.asking.address, LOCAL))) for _ in range(3)]
        for client in clients:
            client.sock.sendall(request_bytes(_PATH))
        while not stage.striped():
            for client in clients:
                client.read(len(client.body) + (1 << 20))
        wait_for(_are_at_rest(holders), "all that may be ahead is")
        grown_bytes = _resident_bytes(stage.asking) - before_bytes
        assert grown_bytes < buffer_bytes + (32 << 20)
        for client in clients:
            client.read(_SIZE_BYTES)
    assert [digest_of(bytes(client.body)) for client in clients] == [digest_of(_CONTENT)] * 3


def _resident_bytes(node: Node) -> int:
    with open(f"/proc/{node.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def _are_at_rest(holders: list[Holder], for_s: float = 1.0) -> Callable[[], bool]:
    """Whether the holders have sent nothing for so long."""
    sent, since_s = -1, 0.0

    def are_at_rest() -> bool:
        nonlocal sent, since_s
        now, now_s = sum(holder.sent_bytes(_CONTENT) for holder in holders), time.monotonic()
        if now != sent:
            sent, since_s = now, now_s
        return now_s - since_s >= for_s

    return are_at_rest


class Client:
    """Reads a body as far as it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.body = bytearray()
        self._head: bytes | None = b""

    def read(self, at_least: int, *, pause: Callable[[], object] = lambda: None) -> None:
        """Until there are so many bytes, or some more; with ``pause`` between two reads."""
        while len(self.body) < at_least:
            received = self.sock.recv(1 << 18)
            assert received, f"closed after {len(self.body)} bytes"
            if self._head is None:
                self.body += received
            else:
                self._head += received
                head, end, first = self._head.partition(b"\r\n\r\n")
                if end:
                    assert head.startswith(b"HTTP/1.1 200 ")
                    self._head = None
                    self.body += first
            pause()
