"""Nodes that lie about what is arriving there: the client gets right bytes, a 404 or a visible cut, soon.

Two impostors stand in the asking node's zone, and an honest holder in another one. The asking node's client
is a containerd that has a folder as its store.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random

import pytest

from tests.frames import accept_head, frame

from .agents import Site, fresh_address, wait_for
from .impostor import Asked, Behaviour, Impostor, claims_everything, replies, response, says, then_silent
from .ingesting import CONTAINERD, Fetcher, path_of
from .proofs import proved
from .websocket import Closed, read_frame

_seeds = count(7000)
MIB = 1 << 20
SIZE = 2 * MIB
AT_MOST_S = 25.0
QUICK = {
    "pull": {"stall_s": 0.5, "cooloff_s": 0.0, "deadline_s": 4.0},
    "cold_start": {"claim_wait_s": 1.0, "claim_start_s": 0.5},
}
NOTHING = replies('"held": [], "tags": []')


def says_it_flies(_: Impostor, connection: socket.socket, asked: Asked) -> None:
    """Answer questions about holders: half of each of them is there, and more is coming."""
    connection.sendall(accept_head(asked.headers["Sec-WebSocket-Key"], proved(asked.headers)))
    with contextlib.suppress(Closed):
        while True:
            question = json.loads(read_frame(connection))
            flying = [[place, MIB, SIZE] for place in range(len(question["digests"]))]
            reply = {"number": question["number"], "held": [], "tags": [], "flying": flying}
            connection.sendall(frame(json.dumps(reply).encode()))


def in_flight(body: bytes, *, content: bytes, start: int = 0, origin: str = "one") -> bytes:
    """An answer that announces the rest of the content from a byte on, and sends this much of it."""
    length = len(content) - start
    headers = {"Shorthaul_In_Flight": str(MIB), "Shorthaul_Origin": origin, "Shorthaul_Depth": "0"}
    if start:
        headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return response(206 if start else 200, body, length=length, **headers)


def start_of(asked: Asked) -> int:
    """From which byte on the content is asked for."""
    return int(asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])


def tells_to_ask(*names: str) -> Behaviour:
    """Refuse, and name these nodes."""
    refusal = response(429, b"{}", Shorthaul_Shared=",".join(names), Retry_After="1")

    def answer(_: Impostor, connection: socket.socket, __: Asked) -> None:
        connection.sendall(refusal)

    return answer


def not_ahead(_: Impostor, connection: socket.socket, __: Asked) -> None:
    """Say that the byte is not there yet, at once."""
    connection.sendall(response(404, b"{}", Shorthaul_In_Flight="0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """What this node's containerd got of a content, and the impostors that were there."""

    content: bytes
    status: int
    got: bytes
    one: Impostor
    two: Impostor


class Stage:
    """The asking node, the honest one of another zone, and where impostors stand."""

    def __init__(self, site: Site) -> None:
        self.asking = Fetcher(site, "asking", **QUICK)
        self.honest = site.add("honest", zone="b")
        self.addresses = {name: fresh_address() for name in ("one", "two")}
        for name, address in self.addresses.items():
            site.add_member(name, address)
        site.start([self.honest])
        self.asking.start()

    def content(self, *, honest: bool = True) -> bytes:
        """Content that the honest node has, or nobody."""
        content = Random(next(_seeds)).randbytes(SIZE)
        if honest:
            self.honest.put(content)
        return content

    @contextmanager
    def impostors(
        self,
        one: Behaviour,
        two: Behaviour = not_ahead,
        *,
        one_says: Behaviour = says_it_flies,
        two_says: Behaviour = NOTHING,
    ) -> Iterator[tuple[Impostor, Impostor]]:
        with ExitStack() as stack:
            first = stack.enter_context(Impostor(self.addresses["one"], one, questioned=one_says))
            second = stack.enter_context(Impostor(self.addresses["two"], two, questioned=two_says))
            # It says the same of everything. What it says of another content is not remembered for this one.
            self.asking.node.wait_for_holders(b"%d" % next(_seeds), {"one"})
            yield first, second

    def pull(self, content: bytes) -> tuple[int, bytes]:
        """What this node's containerd gets: the status, and the body or the part of it that came."""
        began_s = time.monotonic()
        ingest = self.asking.open(content)
        try:
            with self.asking.node.connection() as connection:
                connection.request("GET", path_of(content), headers=CONTAINERD)
                reply = connection.getresponse()
                got = bytearray()
                try:
                    while part := reply.read1(1 << 16):
                        got += part
                except OSError:
                    pass
                assert time.monotonic() - began_s < AT_MOST_S
                return reply.status, bytes(got)
        finally:
            ingest.give_up()

    def meets(self, lie: Callable[[bytes], Behaviour], *, honest: bool = True) -> "Met":
        """A pull that asked the first impostor. On a busy machine the farther one's answer may come first.

        A refusal that an earlier test got from it counts for a moment, too.
        """
        until_s = time.monotonic() + 2 * AT_MOST_S
        while time.monotonic() < until_s:
            content = self.content(honest=honest)
            with self.impostors(lie(content)) as (one, two):
                status, got = self.pull(content)
                if one.fetches:
                    return Met(content=content, status=status, got=got, one=one, two=two)
            time.sleep(0.1)
        raise AssertionError("the nearest one is never asked")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Site() as site:
        yield Stage(site)


def silent(sent: Callable[[bytes], bytes]) -> Callable[[bytes], Behaviour]:
    """Send what is made of the content, and then nothing."""

    def make(content: bytes) -> Behaviour:
        def answer(impostor: Impostor, connection: socket.socket, asked: Asked) -> None:
            start = start_of(asked)
            connection.sendall(in_flight(sent(content)[start:], content=content, start=start))
            impostor.closing.wait()

        return answer

    return make


LIES: dict[str, Callable[[bytes], Behaviour]] = {
    "says in flight and sends no head": lambda _: then_silent(),
    "says in flight and sends nothing": silent(lambda _: b""),
    "says in flight and sends a part": silent(lambda content: content[: MIB + 17]),
    "says in flight and closes": lambda content: (
        lambda _, connection, asked: connection.sendall(
            in_flight(content[start_of(asked) : MIB], content=content, start=start_of(asked))
        )
    ),
    "is never ahead": lambda _: not_ahead,
    "names itself": lambda _: tells_to_ask("one"),
    "names the asker": lambda _: tells_to_ask("asking"),
    "names strangers": lambda _: tells_to_ask("stranger", "nobody", "x" * 253),
    "names what is no name": lambda _: tells_to_ask("a b", "%00", "../x", ""),
    "names a thousand": lambda _: tells_to_ask(*(f"n{number}" for number in range(1000))),
    "names one that is never ahead": lambda _: tells_to_ask("two"),
}


@pytest.mark.parametrize("lie", LIES)
def test_client_gets_the_right_bytes_from_another_zone_whatever_a_near_one_says_of_itself(
    stage: Stage, lie: str
) -> None:
    met = stage.meets(LIES[lie])
    assert (met.status, met.got) == (200, met.content)
    assert len(met.one.fetches) <= 6
    assert len(met.two.fetches) <= 6


@pytest.mark.parametrize("lie", LIES)
def test_client_gets_a_404_or_a_cut_soon_if_only_the_liar_says_it_has_something(
    stage: Stage, lie: str
) -> None:
    met = stage.meets(LIES[lie], honest=False)
    assert met.status == 404 or (met.status == 200 and met.content.startswith(met.got))
    assert len(met.one.fetches) + len(met.two.fetches) <= 16


def test_two_that_send_it_in_a_circle_are_left_soon(stage: Stage) -> None:
    content = stage.content()
    with stage.impostors(
        tells_to_ask("two"),
        tells_to_ask("one"),
        one_says=claims_everything,
        two_says=claims_everything,
    ) as (one, two):
        assert stage.pull(content) == (200, content)
    assert len(one.fetches) <= 2
    assert len(two.fetches) <= 2


def test_nobody_is_shunned_for_what_may_be_its_own_source_s_fault(stage: Stage) -> None:
    before = _failures(stage, "silent"), _failures(stage, "broken")
    stage.meets(LIES["says in flight and sends a part"])
    stage.meets(LIES["says in flight and closes"])
    assert (_failures(stage, "silent"), _failures(stage, "broken")) == before
    assert _failures(stage, "starved") >= 2


def test_wrong_head_of_one_in_flight_is_its_own_fault(stage: Stage) -> None:
    before = _failures(stage, "invalid")
    headless = response(200, b"", length=-1, Shorthaul_In_Flight="5")
    met = stage.meets(lambda _: says(headless))
    assert met.got == met.content
    assert _failures(stage, "invalid") == before + 1


def _failures(stage: Stage, result: str) -> float:
    return stage.asking.node.metric("shorthaul_peer_attempts_total", result=result)


def test_wrong_bytes_make_their_origin_suspect_and_then_the_liar_who_named_it() -> None:
    """This client has a layout as its store: only what it commits meanwhile shows that it does."""
    seen, content, wrong = (Random(next(_seeds)).randbytes(SIZE) for _ in range(3))

    def lies(_: Impostor, connection: socket.socket, asked: Asked) -> None:
        start = start_of(asked)
        connection.sendall(in_flight(wrong[start:], content=content, start=start, origin="honest"))

    with Site() as site:
        asking, honest = site.add("asking", pull={"patience_s": 5.0}), site.add("honest", zone="b")
        address = fresh_address()
        site.add_member("one", address)
        honest.put(seen)
        site.start()

        def pull(wanted: bytes) -> bytes:
            return asking.ask(path_of(wanted), headers=CONTAINERD).body

        def checked(result: str) -> float:
            return asking.metric("shorthaul_suspect_checks_total", result=result)

        asking.wait_for_holders(seen, {"honest"})
        assert pull(seen) == seen
        asking.put(seen)
        with Impostor(address, lies, questioned=says_it_flies) as one:
            asking.wait_for_holders(b"any other", {"one"})
            assert pull(content) == wrong, "nobody else has it, and it is containerd that finds out"
            honest.put(content)
            pull(content)
            wait_for(lambda: checked("right") == 1, "the origin that was named is cleared")
            wait_for(lambda: pull(content) == content, "the liar is believed no longer")
            wait_for(lambda: checked("wrong") == 1, "it is proved wrong")
            assert len(one.fetches) <= 5
