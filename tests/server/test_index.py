"""Agents whose index is on a real server: whatever becomes of it, what a peer has comes from the peer."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import pytest

from agent.holders.claims import ClaimKey, arbiters
from agent.oci.digest import Digest
from benchmarks.lab.late import LateRelay
from benchmarks.lab.valkey import ValkeyServer
from tests.promtool import complaints
from topology.placement import NodeName

from .agents import ADMIN, Node, Site, digest_of, wait_for
from .ingesting import CONTAINERD, Fetcher, path_of

_numbers = count(7000)
SLOW_S = 0.2  # each answer takes so long, which is more than `valkey.timeout_s`


def fresh(size_bytes: int = 100_000) -> bytes:
    """Content that no other test has."""
    return random.Random(next(_numbers)).randbytes(size_bytes)


@dataclass(frozen=True)
class Trio:
    """Two nodes that hold contents, one that asks, and their server."""

    server: ValkeyServer
    relay: LateRelay
    holders: tuple[Node, Node]
    asker: Node

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (*self.holders, self.asker)

    def put(self, content: bytes) -> None:
        for holder in self.holders:
            holder.put(content)

    def wait_until_well(self) -> None:
        for node in self.nodes:
            wait_for(lambda node=node: is_up(node), f"{node.name} uses the server")  # type: ignore[misc]

    def get(self, content: bytes) -> None:
        """The asker's containerd wants it, and gets it from a peer."""
        reply = self.asker.blob(content)
        assert (reply.status, reply.body == content) == (200, True)

    def answered(self, source: str) -> int:
        return int(self.asker.metric("shorthaul_index_lookups_total", source=source))

    def failed(self) -> int:
        return int(self.asker.metric("shorthaul_index_errors_total"))


def status(node: Node) -> dict[str, object]:
    found: dict[str, object] = node.ask("/api/index", port=ADMIN).json()
    return found


def is_up(node: Node) -> bool:
    """Whether it uses the server, and has told it all that it has."""
    found = status(node)
    return found["state"] in ("server", "warming") and not found["pending"]


@contextmanager
def running(site: Site) -> Iterator[tuple[ValkeyServer, LateRelay]]:
    """A server, and what the agents reach it through."""
    server = ValkeyServer(site.folder / "index-server")
    try:
        with LateRelay(server.address, server.port, address=server.address) as relay:
            yield server, relay
    finally:
        server.stop()


@pytest.fixture(scope="module")
def made() -> Iterator[Trio]:
    with Site() as site, running(site) as (server, relay):
        index = f"valkey://{relay.endpoint}"
        one, two, asker = (site.add(name, index=index) for name in ("one", "two", "asker"))
        site.start()
        yield Trio(server, relay, (one, two), asker)


@pytest.fixture
def trio(made: Trio) -> Trio:
    made.wait_until_well()
    return made


Blow = tuple[Callable[[Trio], object], Callable[[Trio], object]]

BLOWS: dict[str, Blow] = {
    "killed": (lambda trio: trio.server.kill(), lambda trio: trio.server.start()),
    "frozen": (lambda trio: trio.server.freeze(), lambda trio: trio.server.thaw()),
    "slow": (lambda trio: trio.relay.make_late(SLOW_S), lambda trio: trio.relay.make_late(0.0)),
}


@contextmanager
def struck(trio: Trio, blow: str) -> Iterator[None]:
    strike, mend = BLOWS[blow]
    strike(trio)
    try:
        yield
    finally:
        mend(trio)


def test_what_peers_have_is_found_through_the_server(trio: Trio) -> None:
    content = fresh()
    trio.put(content)
    trio.wait_until_well()
    before = trio.answered("server")
    trio.get(content)
    assert trio.answered("server") > before


@pytest.mark.parametrize("blow", BLOWS)
def test_what_peers_have_comes_from_them_while_the_server_is_away(trio: Trio, blow: str) -> None:
    told, untold = fresh(), fresh()
    trio.put(told)
    trio.wait_until_well()
    before = trio.answered("fallback")
    with struck(trio, blow):
        trio.get(told)
        trio.put(untold)
        trio.get(untold)
        assert trio.answered("fallback") >= before + 2
        assert not is_up(trio.asker)
        assert trio.asker.is_ready()
    trio.wait_until_well()
    before = trio.answered("server")
    content = fresh()
    trio.put(content)
    trio.wait_until_well()
    trio.get(content)
    assert trio.answered("server") > before, "it is used again by itself"


@pytest.mark.parametrize("blow", ["frozen", "slow"])
def test_many_pulls_at_once_wait_for_a_server_that_hangs_only_once(trio: Trio, blow: str) -> None:
    contents = [fresh(1000) for _ in range(20)]
    for content in contents:
        trio.put(content)
    trio.wait_until_well()
    before = trio.failed()
    with struck(trio, blow), ThreadPoolExecutor(len(contents)) as clients:
        for _ in clients.map(trio.get, contents):
            pass
        assert trio.failed() <= before + 3, "one for all pulls, and one for each second's look"


def test_server_that_is_emptied_hides_nothing(trio: Trio) -> None:
    contents = [fresh(1000) for _ in range(5)]
    for content in contents:
        trio.put(content)
    trio.wait_until_well()
    trio.server.cli("FLUSHALL")
    for content in contents:
        trio.get(content)
    wait_for(lambda: all(status(node)["resets"] for node in trio.nodes), "all have noticed")


def test_metrics_of_an_agent_with_a_server_pass_promtool(trio: Trio) -> None:
    exposed = trio.asker.ask("/metrics", port=ADMIN).body
    assert b"shorthaul_index_lookup_seconds_count" in exposed
    assert complaints(exposed) == ""


def test_full_server_hides_nothing_of_what_it_could_not_be_told(trio: Trio) -> None:
    content = fresh()
    trio.server.fill()
    try:
        trio.put(content)
        trio.get(content)
    finally:
        trio.server.configure(maxmemory="0")


def test_agent_that_starts_while_the_server_is_away_serves_at_once_and_uses_it_later(trio: Trio) -> None:
    content = fresh()
    trio.put(content)
    trio.wait_until_well()
    with struck(trio, "killed"):
        trio.asker.stop()
        trio.asker.launch()
        trio.asker.wait()
        trio.asker.wait_for_holders(content, {"one", "two"})
        trio.get(content)
        assert not is_up(trio.asker)
    trio.wait_until_well()


def content_that(chosen: Callable[[ClaimKey], bool]) -> bytes:
    """Content whose claim is like that."""
    return next(
        content for content in map(fresh, [50_000] * 1000) if chosen(ClaimKey(Digest(digest_of(content))))
    )


def arbiter_of(key: ClaimKey, *names: str) -> str:
    return arbiters(key, map(NodeName, names), most=1)[0]


def test_two_nodes_that_ask_two_arbiters_send_one_containerd_to_the_registry() -> None:
    with Site() as site, running(site) as (_, relay):
        few = site.folder / "few.yaml"
        index = f"valkey://{relay.endpoint}"
        a = Fetcher(site, "a", index=index, membership={"static": str(few)})
        b = Fetcher(site, "b", index=index)
        few.write_text(site.members.read_text())  # `a` has not heard of the third node yet
        c = Fetcher(site, "c", index=index)
        for fetcher in (a, b, c):
            fetcher.start()
        for fetcher in (a, b, c):
            wait_for(lambda fetcher=fetcher: is_up(fetcher.node), "it uses the server")  # type: ignore[misc]
        content = content_that(
            lambda key: arbiter_of(key, "a", "b") == "a" and arbiter_of(key, "a", "b", "c") == "c"
        )
        ingest = a.begin(content)
        path = path_of(content)
        with ThreadPoolExecutor(2) as clients:
            assert clients.submit(a.node.ask, path, headers=CONTAINERD).result(20).status == 404
            other = b.begin(content)
            waiting = clients.submit(b.node.ask, path, headers=CONTAINERD)
            wait_for(lambda: claims(b.node) == [digest_of(content)], "its own arbiter sends it as well")
            assert not waiting.done()
            ingest.write()
            ingest.commit()
            reply = waiting.result(20)
        assert (reply.status, reply.body == content) == (200, True)
        assert b.node.metric("shorthaul_claims_fenced_total", outcome="held") == 1
        assert a.node.metric("shorthaul_claims_fenced_total", outcome="granted") == 1
        other.abandon()


def test_zone_asks_the_registry_once_also_while_the_server_hangs() -> None:
    with Site() as site, running(site) as (server, relay):
        fetchers = [Fetcher(site, name, index=f"valkey://{relay.endpoint}") for name in ("a", "b", "c")]
        for fetcher in fetchers:
            fetcher.start()
        for fetcher in fetchers:
            wait_for(lambda fetcher=fetcher: is_up(fetcher.node), "it uses the server")  # type: ignore[misc]
        content, one, others = fresh(), fetchers[0], fetchers[1:]
        path = path_of(content)
        server.freeze()
        with ThreadPoolExecutor(3) as clients:
            ingest = one.begin(content)
            assert clients.submit(one.node.ask, path, headers=CONTAINERD).result(20).status == 404
            begun = [other.begin(content) for other in others]
            waiting = [clients.submit(other.node.ask, path, headers=CONTAINERD) for other in others]
            ingest.write()
            ingest.commit()
            replies = [each.result(20) for each in waiting]
        assert [(reply.status, reply.body == content) for reply in replies] == [(200, True)] * 2
        assert one.node.metric("shorthaul_claims_fenced_total", outcome="unavailable") == 1
        assert sum(other.node.metric("shorthaul_claims_fenced_total") for other in others) == 0
        for other in begun:
            other.abandon()


def claims(node: Node) -> list[str]:
    """What it was told to fetch by an arbiter."""
    return [each["digest"] for each in node.ask("/api/claims", port=ADMIN).json()["held"]]
