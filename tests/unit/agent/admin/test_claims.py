"""``/api/claims``: what each node of a rollout says of its part in the claims."""

import asyncio
from dataclasses import replace

from agent.admin.claims import ClaimsView
from agent.config import ColdStartSettings
from agent.documents.claims import ClaimsDocument
from agent.documents.times import Moment
from agent.holders.claims import ClaimKey, arbiters
from agent.listen.traffic import Traffic
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.pull.admission import Admission
from tests.unit.agent.holders.rollout import LAYER, SIZE_BYTES, Node, Rollout
from tests.unit.twins import located, loop_clock, node, run_in_virtual_time, sha256
from topology.ledger import CostLedger, Prices
from topology.placement import NodeName

NAMES = ["a1", "a2", "b1", "b2"]


def view_of(each: Node, settings: ColdStartSettings) -> ClaimsView:
    traffic = Traffic(
        ledger=CostLedger(Prices()),
        roster=Roster(own=each.name, placement=located("r", each.name[0])),
        metrics=Metrics(),
        admission=Admission(uploads_max=1, bytes_max=1),
        young_s=1.0,
    )
    return ClaimsView(
        own=each.name,
        settings=settings,
        claimant=each.claimant,
        gateways=each.gateways,
        traffic=traffic,
        growing=each.store.growing,
    )


Said = dict[NodeName, tuple[ClaimsDocument, dict[str, int], str | None]]


def documents(at_s: float, *, registry_waits_s: float) -> Said:
    """What the nodes say so long after all of them began to pull, and their numbers."""

    async def run() -> Said:
        cluster = Rollout(registry_waits_s=registry_waits_s)
        cluster.add(NAMES)
        with cluster.keeping():
            pulls = [asyncio.create_task(cluster.pull(name)) for name in cluster.nodes]
            await asyncio.sleep(at_s)
            views = {name: view_of(each, cluster.settings) for name, each in cluster.nodes.items()}
            moment = Moment(now_s=loop_clock(), unix_s=0.0)
            said = {
                name: (view.document(moment), view.numbers(), view.words(LAYER))
                for name, view in views.items()
            }
            for pull in pulls:
                pull.cancel()
            await asyncio.gather(*pulls, return_exceptions=True)
        return said

    return run_in_virtual_time(run())


def test_each_node_says_what_it_holds_waits_for_and_decides() -> None:
    said = documents(1.0, registry_waits_s=3.0)
    root, _, words = said[node("a1")]
    assert [(claim.scope, claim.received_bytes) for claim in root.held] == [("zone", 0), ("cluster", 0)]
    assert words == "this node fetches it for its zone"
    assert all(0.9 < claim.age_s <= 1.0 for claim in root.held)
    arbiter = arbiters(ClaimKey(LAYER, cluster=True), map(node, NAMES))[0]
    neighbour, numbers, _ = said[node("a2")]
    assert [(claim.digest, claim.scope) for claim in neighbour.awaited] == [(LAYER, "zone")]
    assert (numbers["held"], numbers["waiting"]) == (0, 1)
    gateway, numbers, _ = said[node("b1")]
    assert [(claim.scope, claim.arbiter) for claim in gateway.awaited] == [("cluster", arbiter)]
    assert (numbers["held"], numbers["waiting"]) == (1, 1)
    decided = {claim.scope: claim for claim in said[arbiter][0].decided}
    assert (decided["cluster"].node, decided["cluster"].waiting) == ("a1", 1)
    assert (decided["cluster"].complete, decided["cluster"].ways) == (False, ())


def test_claim_is_seen_to_fill_between_two_words_to_its_arbiter() -> None:
    half, later = (documents(at_s, registry_waits_s=0.2)[node("a1")][0].held for at_s in (2.0, 2.5))
    assert [claim.size_bytes for claim in (*half, *later)] == [SIZE_BYTES] * 4
    assert all(0 < claim.received_bytes < SIZE_BYTES for claim in half)
    assert all(now.received_bytes > then.received_bytes for then, now in zip(half, later, strict=True))


def test_arbiter_says_from_which_zone_to_which_the_content_travels() -> None:
    said = documents(2.0, registry_waits_s=0.2)
    arbiter = arbiters(ClaimKey(LAYER, cluster=True), map(node, NAMES))[0]
    document, numbers, _ = said[arbiter]
    (claim,) = (claim for claim in document.decided if claim.scope == "cluster")
    assert [(way.source_zone, way.destination_zone) for way in claim.ways] == [("r/a", "r/b")]
    assert claim.received_bytes > 0
    assert numbers["decided"] >= 1


def test_node_without_claims_says_so() -> None:
    cluster = Rollout()

    async def run() -> tuple[ClaimsDocument, dict[str, int]]:
        cluster.add(["a1"])
        view = view_of(cluster.nodes[node("a1")], ColdStartSettings(mode="off"))
        off = replace(view, claimant=None)
        return off.document(Moment(now_s=0.0, unix_s=0.0)), off.numbers()

    document, numbers = run_in_virtual_time(run())
    assert (document.mode, document.held, document.awaited, document.decided) == ("off", (), (), ())
    assert set(numbers.values()) == {0}


def words_of(name: str, seed: str = "layer", *, at_s: float = 1.0) -> str | None:
    """What a node says of a content while a1 waits for the registry's answer."""

    async def run() -> str | None:
        cluster = Rollout(registry_waits_s=3.0)
        cluster.add(NAMES)
        with cluster.keeping():
            pulls = [asyncio.create_task(cluster.pull(each)) for each in cluster.nodes]
            await asyncio.sleep(at_s)
            words = view_of(cluster.nodes[node(name)], cluster.settings).words(sha256(seed))
            for pull in pulls:
                pull.cancel()
            await asyncio.gather(*pulls, return_exceptions=True)
        return words

    return run_in_virtual_time(run())


def test_words_say_who_fetches_who_waits_and_who_decides() -> None:
    near = arbiters(ClaimKey(LAYER), map(node, ["a1", "a2"]))[0]
    assert words_of("a1") == "this node fetches it for its zone"
    waits = f"this node waits for it; {near} decided who fetches it"
    decides = "a1 fetches it; 1 of this zone wait for it, as this node decided"
    assert words_of("a2") == (decides if near == "a2" else waits)
    other = arbiters(ClaimKey(sha256("other")), map(node, ["a1", "a2"]))[0]
    assert words_of("a1", "other") == f"{other} decides which node of this zone fetches it"
