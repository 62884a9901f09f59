"""One node of a zone goes to the registry for what nobody has, and the others wait for it: real agents."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from time import monotonic

import pytest

from .agents import ADMIN, Reply, Site, digest_of, make_image, wait_for
from .ingesting import CONTAINERD, Fetcher, Ingest, path_of
from .tracing import steps_of

_numbers = count(1000)
PRIVATE = {"authorize": [{"match": "private.test/*", "by": "registry"}], "exclude": ["excluded.test/*"]}
SOON_S = 4.0  # less than it takes to find out that a node does not start, and more than a busy machine takes


def fresh(size_bytes: int = 200_000) -> bytes:
    """Content that no other test has."""
    return Random(next(_numbers)).randbytes(size_bytes)


@dataclass
class Zone:
    """Agents whose containerds are folders, and clients that wait."""

    fetchers: dict[str, Fetcher]
    clients: ThreadPoolExecutor
    ingests: ExitStack

    def begin(self, name: str, content: bytes, *, kind: str = "layer") -> tuple[Ingest, "Future[Reply]"]:
        """A node's containerd opens the ingest, and asks its agent."""
        ingest = self.open(name, content, kind=kind)
        return ingest, self.ask(name, content, kind=kind)

    def open(self, name: str, content: bytes, *, kind: str = "layer") -> Ingest:
        """A node's containerd opens the ingest."""
        ingest = self.fetchers[name].begin(content, kind=kind)
        self.ingests.callback(ingest.abandon)
        return ingest

    def ask(
        self, name: str, content: bytes, *, kind: str = "layer", ns: str = "registry.test"
    ) -> "Future[Reply]":
        """A node's containerd asks its agent."""
        path = path_of(content, kind, ns=ns)
        return self.clients.submit(self.fetchers[name].node.ask, path, headers=CONTAINERD)

    def claims(self, outcome: str) -> float:
        """How many claims of all nodes had this outcome."""
        return sum(
            fetcher.node.metric("shorthaul_claims_total", outcome=outcome)
            for fetcher in self.fetchers.values()
        )

    def waiting(self, name: str, reply: "Future[Reply]") -> None:
        """Wait until a request waits for another node, as far as that can be seen: it is not answered."""
        node = self.fetchers[name].node
        began_s = monotonic()
        wait_for(lambda: node.transfers() is not None and monotonic() - began_s > 0.3, "a moment")
        assert not reply.done()


@contextmanager
def zone_of(*names: str, off: str = "") -> Iterator[Zone]:
    """Agents of one zone. ``off``: the one that knows no claims."""
    with ExitStack() as stack:
        site = stack.enter_context(Site())
        fetchers = {
            name: Fetcher(
                site, name, registries=PRIVATE, cold_start={"mode": "off" if name == off else "claims"}
            )
            for name in names
        }
        for fetcher in fetchers.values():
            fetcher.node.launch()
        for fetcher in fetchers.values():
            fetcher.wait()
        for fetcher in fetchers.values():
            met(fetcher, len(names) - 1)
        clients = stack.enter_context(ThreadPoolExecutor(8))
        yield Zone(fetchers, clients, stack.enter_context(ExitStack()))


def met(fetcher: Fetcher, others: int) -> None:
    """Wait until it knows the others."""

    def known() -> bool:
        nodes = fetcher.node.ask("/api/topology", port=ADMIN)
        return nodes.status == 200 and len(nodes.json()["nodes"]) >= others

    wait_for(known, "it knows the other nodes")


@pytest.fixture(scope="module")
def zone() -> Iterator[Zone]:
    with zone_of("a", "b", "c") as made:
        yield made


@pytest.mark.parametrize("kind", ["layer", "manifest", "config"])
def test_others_wait_for_the_node_that_was_sent_to_the_registry(zone: Zone, kind: str) -> None:
    image = make_image(fresh(), note=kind)
    content = {"layer": image.layers[0], "manifest": image.manifest, "config": image.config}[kind]
    ingest, first = zone.begin("a", content, kind=kind)
    assert first.result(SOON_S).status == 404
    assert "this node's turn" in zone.fetchers["a"].node.newest(content)["reason"]
    others = [zone.begin(name, content, kind=kind)[1] for name in ("b", "c")]
    for name, reply in zip(("b", "c"), others, strict=True):
        zone.waiting(name, reply)
    ingest.write()
    ingest.commit()
    for reply in others:
        got = reply.result(SOON_S)
        assert (got.status, got.body) == (200, content)
    avoided = "shorthaul_registry_fetches_avoided_total"
    for name in ("b", "c"):
        node = zone.fetchers[name].node
        assert node.metric(avoided) >= 1
        *_, claim = steps_of(node.newest(content), "claim")
        assert (claim["outcome"], claim["node"]) == ("ok", "a")
        assert claim["seconds"] > 0.2, "most of the time was the wait"
    asked = zone.fetchers["a"].node.requests()
    sent_on = next(each for each in reversed(asked) if each["digest"] == digest_of(content))
    assert [step["outcome"] for step in steps_of(sent_on, "claim")][-1] == "granted"


def test_all_at_once_one_is_sent_to_the_registry(zone: Zone) -> None:
    content = fresh()
    begun = {name: zone.begin(name, content) for name in ("a", "b", "c")}
    wait_for(lambda: any(reply.done() for _, reply in begun.values()), "one is answered")
    answered = [name for name, (_, reply) in begun.items() if reply.done()]
    assert [begun[name][1].result().status for name in answered] == [404]
    ingest, _ = begun[answered[0]]
    ingest.write()
    ingest.commit()
    rest = [reply.result(SOON_S) for name, (_, reply) in begun.items() if name not in answered]
    assert [reply.body for reply in rest] == [content] * 2


def test_next_node_is_sent_to_the_registry_when_the_first_one_was_refused(zone: Zone) -> None:
    content = fresh()
    ingest, first = zone.begin("a", content)
    assert first.result(SOON_S).status == 404
    _, second = zone.begin("b", content)
    zone.waiting("b", second)
    ingest.give_up()
    assert second.result(SOON_S).status == 404


def test_who_asks_under_a_private_name_neither_waits_nor_makes_others_wait(zone: Zone) -> None:
    content = fresh()
    _, first = zone.begin("a", content)
    assert first.result(SOON_S).status == 404
    zone.open("b", content)
    private = zone.ask("b", content, ns="private.test")
    assert private.result(SOON_S).status == 404


def test_what_is_not_mirrored_is_not_claimed(zone: Zone) -> None:
    content = fresh()
    before = zone.claims("granted")
    zone.open("a", content)
    assert zone.ask("a", content, ns="excluded.test").result(SOON_S).status == 404
    assert zone.claims("granted") == before


def test_head_of_a_manifest_is_not_claimed(zone: Zone) -> None:
    content = make_image(fresh()).manifest
    before = zone.claims("granted")
    zone.open("a", content, kind="manifest")
    node = zone.fetchers["a"].node
    assert node.ask(path_of(content, "manifest"), method="HEAD", headers=CONTAINERD).status == 404
    assert zone.claims("granted") == before


def test_node_whose_containerd_is_not_fetching_takes_no_claim(zone: Zone) -> None:
    """It may be another client, or content that this agent does not see."""
    content = fresh()
    before = zone.claims("granted")
    assert zone.ask("a", content).result(SOON_S).status == 404
    assert zone.ask("b", content).result(SOON_S).status == 404
    assert zone.claims("granted") == before


def test_client_that_leaves_gives_its_claim_back(zone: Zone) -> None:
    content = fresh()
    ingest, first = zone.begin("a", content)
    assert first.result(SOON_S).status == 404
    _, stays = zone.begin("c", content)
    zone.open("b", content)
    with zone.fetchers["b"].node.connection() as connection:
        connection.request("GET", path_of(content), headers=CONTAINERD)
        zone.waiting("c", stays)
    ingest.give_up()
    assert stays.result(SOON_S).status == 404, "whoever left is not waited for"


@pytest.mark.parametrize("off", ["a", "b"])
def test_node_without_claims_is_as_if_it_were_alone(off: str) -> None:
    with zone_of("a", "b", off=off) as zone:
        content = fresh()
        for name in ("a", "b"):
            _, reply = zone.begin(name, content)
            assert reply.result(SOON_S).status == 404


def test_lone_node_waits_not_at_all() -> None:
    with zone_of("a") as zone:
        _, reply = zone.begin("a", fresh())
        assert reply.result(SOON_S).status == 404
        assert zone.claims("alone") == 1


def test_claimer_that_is_killed_is_replaced() -> None:
    with zone_of("a", "b", "c") as zone:
        content = fresh()
        _, first = zone.begin("a", content)
        assert first.result(SOON_S).status == 404
        rest = [zone.begin(name, content)[1] for name in ("b", "c")]
        for name, reply in zip(("b", "c"), rest, strict=True):
            zone.waiting(name, reply)
        zone.fetchers.pop("a").node.stop()
        wait_for(lambda: any(reply.done() for reply in rest), "the next one is sent to the registry")
        assert sum(reply.done() for reply in rest) == 1
