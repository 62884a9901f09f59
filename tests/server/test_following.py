"""Nodes take content from each other while it is still arriving there, and form a tree by themselves.

Each node's containerd is a folder, into which the test writes what its agent sends (`Pulling`).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse, IncompleteRead
from itertools import count
from random import Random
from typing import Any

import pytest

from .agents import Site, digest_of, wait_for
from .ingesting import CONTAINERD, Fetcher, Ingest, path_of

_numbers = count(1)
MIB = 1 << 20
FOLLOWERS_MAX = 2
QUICK = {
    "latency": {"measure": False},  # no node is nearer than another, only because of noise
    "pull": {"cooloff_s": 0.0},
    "cold_start": {"followers_max": FOLLOWERS_MAX},
}


def fresh(size_bytes: int = 6 * MIB) -> bytes:
    """Content that no other test has."""
    return Random(next(_numbers)).randbytes(size_bytes)


class Pulling:
    """A node's containerd that pulls one content: what its agent sends it writes into an ingest."""

    def __init__(self, fetcher: Fetcher, content: bytes, *, start: int = 0) -> None:
        self.fetcher, self.content = fetcher, content
        self.ingest = fetcher.open(content)
        if start:
            self.ingest.write(start)
        self.reply: HTTPResponse | None = None
        self.got = bytearray()
        self.ended = False
        self._start = start
        self._thread = threading.Thread(target=self._run, name=f"containerd of {fetcher.node.name}")
        self._thread.start()

    def _run(self) -> None:
        headers = CONTAINERD | ({"Range": f"bytes={self._start}-"} if self._start else {})
        with self.fetcher.node.connection() as connection:
            connection.request("GET", path_of(self.content), headers=headers)
            self.reply = reply = connection.getresponse()
            if reply.status in (200, 206):
                try:
                    while part := reply.read1(1 << 16):
                        self.got += part
                        self.ingest.write(self._start + len(self.got))
                except (OSError, IncompleteRead):
                    pass
            else:
                reply.read()
        if self._start + len(self.got) == len(self.content):
            self.ingest.commit()
        else:
            self.ingest.give_up()
        self.ended = True

    @property
    def source(self) -> str:
        """What the answer says of where it came from."""
        assert self.reply is not None, "answered"
        return str(self.reply.headers["Shorthaul-Source"])

    @property
    def status(self) -> int:
        assert self.reply is not None, "answered"
        return self.reply.status

    def has(self, size_bytes: int) -> None:
        """Wait until so many bytes came."""
        wait_for(lambda: len(self.got) >= size_bytes or self.ended, f"{size_bytes} bytes come")
        assert len(self.got) >= size_bytes

    def whole(self) -> None:
        """Wait until all came, and see that it is right."""
        self._thread.join(timeout=30)
        assert self.ended
        assert bytes(self.got) == self.content[self._start :]

    def over(self) -> None:
        """Wait for the end, whatever came."""
        self._thread.join(timeout=30)
        assert self.ended
        assert self.content[self._start :].startswith(bytes(self.got))


class Zone:
    """Fetchers that know each other. Those that are ``far`` are of another zone; one redirects."""

    def __init__(self, site: Site, names: str, far: str) -> None:
        self.nodes = {name: Fetcher(site, name, **QUICK) for name in names}
        self.nodes |= {name: Fetcher(site, name, zone="b", **QUICK) for name in far}
        self.nodes["redirects"] = Fetcher(site, "redirects", transfer={"mode": "redirect"}, **QUICK)
        for fetcher in self.nodes.values():
            fetcher.node.launch()
        for fetcher in self.nodes.values():
            fetcher.wait()

    def __getitem__(self, name: str) -> Fetcher:
        return self.nodes[name]

    def holds(self, name: str, content: bytes, *, kind: str = "layer") -> None:
        """This node has all of it, and the others hear so."""
        fetcher = self[name]
        ingest = fetcher.open(content, kind=kind)
        fetcher.node.ask(path_of(content, kind), headers=CONTAINERD)
        ingest.write()
        ingest.commit()
        wait_for(lambda: fetcher.node.explain(digest_of(content))["local"], "it is noticed")

    @contextmanager
    def pulling(self, content: bytes, *names: str, start: int = 0) -> Iterator[list[Pulling]]:
        """These nodes pull it at once, each a moment after the one before."""
        with ExitStack() as stack:
            pulls = []
            for name in names:
                pull = Pulling(self[name], content, start=start)
                stack.callback(pull.over)
                pulls.append(pull)
                wait_for(lambda pull=pull: pull.reply is not None or pull.ended, "it is answered")  # type: ignore[misc]
            yield pulls

    def gave(self, name: str, content: bytes) -> list[dict[str, Any]]:
        """What the node answered to other agents that asked for it, the oldest first."""
        wait_for(self[name].node.is_idle, "no body moves")
        digest = digest_of(content)
        records = self[name].node.requests()
        return [each for each in reversed(records) if each["digest"] == digest and each["path"] == "peer"]

    def from_whom(self, name: str, content: bytes) -> dict[str, tuple[int, int]]:
        """From whom the node took it: how many bytes, and how many of them were in flight there."""
        record = self.asked(name, content)
        return {each["node"]: (each["bytes"], each["in_flight_bytes"]) for each in record["sources"]}

    def asked(self, name: str, content: bytes) -> dict[str, Any]:
        """The node's record of the last time that its own containerd asked for it."""
        wait_for(self[name].node.is_idle, "no body moves")
        digest, records = digest_of(content), self[name].node.requests()
        return next(each for each in records if each["digest"] == digest and each["path"] == "hostport")


@contextmanager
def growing(ingest: Ingest) -> Iterator[None]:
    """The content arrives, a little at a time, so that nobody who follows it waits for long."""
    over = threading.Event()

    def grow() -> None:
        while not over.wait(0.05):
            ingest.write(min(len(ingest.content), ingest.written_bytes + (1 << 18)))

    thread = threading.Thread(target=grow, name="registry")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def zone() -> Iterator[Zone]:
    with Site() as site:
        yield Zone(site, "abcdef", "z")


def test_node_takes_what_still_arrives_at_another_and_says_so(zone: Zone) -> None:
    content = fresh()
    first = zone["a"].fetch(content)
    first.write(61 * len(content) // 100)
    with zone.pulling(content, "b") as (pull,):
        pull.has(3 * MIB)
        assert "node=a;" in pull.source
        assert "in flight, 6" in pull.source
        explained = zone["c"].node.explain(digest_of(content))
        assert {each["node"] for each in explained["holders"]} == {"a", "b"}
        assert any("in flight, " in each["reason"] for each in explained["holders"])
        first.write()
        first.commit()
        pull.whole()
    assert zone.from_whom("b", content) == {"a": (len(content), len(content))}
    assert zone["b"].node.metric("shorthaul_in_flight_received_bytes_total", tier="zone") >= len(content)


def test_nodes_that_want_it_at_once_take_it_from_each_other(zone: Zone) -> None:
    content = fresh()
    first = zone["a"].fetch(content)
    first.write(MIB)
    with ExitStack() as stack:
        with growing(first):
            pulls = stack.enter_context(zone.pulling(content, *"bcdef"))
            for pull in pulls:
                pull.has(1)
        first.write()
        first.commit()
        for pull in pulls:
            pull.whole()
    took = {name: zone.from_whom(name, content) for name in "bcdef"}
    assert all(sum(size for size, _ in each.values()) == len(content) for each in took.values())
    assert any("a" not in each for each in took.values()), "it had no room for all of them"


def test_complete_holder_sends_those_who_ask_at_once_to_each_other(zone: Zone) -> None:
    content = fresh(16 * MIB)
    zone.holds("a", content)
    with ExitStack() as stack:
        pulls = [Pulling(zone[name], content) for name in "bcdef"]
        for pull in pulls:
            stack.callback(pull.over)
        for pull in pulls:
            pull.whole()
    assert "busy" in {each["result"] for each in zone.gave("a", content)}
    assert any("a" not in zone.from_whom(name, content) for name in "bcdef")


def test_complete_holder_names_whoever_has_it_from_there_to_those_who_come_later(zone: Zone) -> None:
    content = fresh(16 * MIB)
    zone.holds("a", content)
    for name in "bcdef":
        zone[name].node.wait_for_holders(content, {"a"})
        with zone.pulling(content, name) as (pull,):
            pull.whole()
    assert sum(each["bytes"] for each in zone.gave("a", content)) < 5 * len(content)


def test_follower_goes_on_at_the_exact_byte_elsewhere_when_what_it_follows_gives_up(zone: Zone) -> None:
    content = fresh(64 * MIB)
    first = zone["a"].fetch(content)
    first.write(2 * MIB)
    with zone.pulling(content, "b") as (pull,):
        with growing(first):
            pull.has(2 * MIB)
            zone.holds("z", content)
            zone["b"].node.wait_for_holders(content, {"z"})
        first.give_up()
        pull.whole()
    took = zone.from_whom("b", content)
    from_first, in_flight = took["a"]
    assert from_first == in_flight >= 2 * MIB
    assert took["z"] == (len(content) - from_first, 0)
    assert zone.asked("b", content)["resumes"] == 1
    assert not zone["b"].node.explain(digest_of(content))["passed_over"], "nobody is to blame"


def test_follower_goes_on_elsewhere_when_what_it_follows_freezes_and_does_not_blame_it(zone: Zone) -> None:
    content = fresh(64 * MIB)
    first = zone["a"].fetch(content)
    first.write(2 * MIB)
    with zone.pulling(content, "b") as (pull,):
        with growing(first):
            pull.has(2 * MIB)
            zone.holds("z", content)
            zone["b"].node.wait_for_holders(content, {"z"})
        pull.whole()
    first.give_up()
    assert zone["b"].node.metric("shorthaul_peer_attempts_total", result="starved") >= 1
    explained = zone["b"].node.explain(digest_of(content))
    assert not explained["passed_over"]
    assert "a" not in {each["node"] for each in explained["not_asked_in_full"]}


def test_follower_of_a_content_that_stops_for_good_is_cut_so_that_it_goes_to_the_registry(zone: Zone) -> None:
    content = fresh()
    first = zone["a"].fetch(content)
    first.write(2 * MIB)
    began_s = time.monotonic()
    with zone.pulling(content, "b") as (pull,):
        pull.over()
    first.give_up()
    assert bytes(pull.got) == content[: 2 * MIB]
    assert time.monotonic() - began_s < 45.0
    assert zone.asked("b", content)["result"] == "cut"


def test_nothing_that_still_arrives_crosses_zones(zone: Zone) -> None:
    content = fresh()
    first = zone["a"].fetch(content)
    first.write(2 * MIB)
    with zone.pulling(content, "z") as (pull,):
        assert pull.status == 404
    first.give_up()
    assert zone.gave("a", content) == []


def test_client_that_resumes_follows_from_its_byte_on(zone: Zone) -> None:
    content = fresh()
    first = zone["a"].fetch(content)
    first.write(3 * MIB)
    with zone.pulling(content, "b", start=MIB + 17) as (pull,):
        assert pull.status == 206
        first.write()
        first.commit()
        pull.whole()


def test_stranger_is_not_given_what_nobody_verified(zone: Zone) -> None:
    content = fresh()
    first = zone["a"].fetch(content)
    first.write(3 * MIB)
    assert zone["b"].node.ask(path_of(content)).status == 404
    first.give_up()
    assert zone.gave("a", content) == []


def test_node_that_redirects_takes_it_itself_while_it_still_arrives_elsewhere(zone: Zone) -> None:
    content = fresh()
    first = zone["a"].fetch(content)
    first.write(3 * MIB)
    with zone.pulling(content, "redirects") as (pull,):
        pull.has(3 * MIB)
        assert pull.status == 200
        first.write()
        first.commit()
        pull.whole()
