"""Where a node would get a blob from, and why: the same choice that a pull makes."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from agent.admin.explain import Explainer
from agent.config import LookupSettings, PullSettings
from agent.content.ocilayout import OciLayout
from agent.documents.explain import ExplainDocument
from agent.documents.index import IndexSource, IndexState
from agent.holders.asking import PeerAsker
from agent.holders.index import HolderIndex, Holders, IndexStatus
from agent.holders.scatter import ScatterIndex
from agent.holders.tagfinder import ScatterTagFinder
from agent.holders.tags import TagResolver
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.peering.dial import Dialer
from agent.pull.asking import AskingPolicy
from agent.pull.bucket import TokenBucket
from agent.pull.lineages import Lineage, Lineages
from agent.pull.regard import Regard
from agent.pull.trust import Distrust
from agent.transfer.executor import Puller
from agent.transfer.peers import PeerClient
from agent.transfer.relays import Relays
from agent.transfer.striper import StripeBuffers
from tests.unit.agent.holders.test_tags import make_offer
from tests.unit.evidence import MemoryStore, make_checks, make_commits
from tests.unit.inflight import Flight
from tests.unit.twins import CREDENTIALS, FakePeers, located, make_policy, node, peer, peers, sha256

DIGEST = sha256("blob")
NOW_S = 100.0


@pytest.fixture
def explainer(tmp_path: Path) -> Explainer:
    """Two peers hold the blob, a third has nothing."""
    own = node("own")
    roster = Roster(own=own, placement=located("r", "a"), clock=lambda: NOW_S)
    places = {"near": located("r", "a"), "far": located("r", "b"), "empty": located("r", "a")}
    roster.update(peers(*(peer(name, place) for name, place in places.items())))
    metrics, regard = Metrics(), Regard(cooloff_s=5.0)
    regard.members_changed(roster.peers)
    pull = PullSettings()
    policy = make_policy(regard=regard, pull=pull)
    fakes = FakePeers(held={"near": {DIGEST}, "far": {DIGEST}})
    asker = PeerAsker(
        roster=roster,
        policy=AskingPolicy(regard=regard, at_once=64, patience_s=0.05, timeout_s=0.5),
        query=fakes.query,
        metrics=metrics,
        clock=lambda: NOW_S,
    )
    index = ScatterIndex(asker, settings=LookupSettings(), metrics=metrics)
    store = OciLayout(tmp_path)
    return Explainer(
        own=own,
        store=store,
        index=index,
        resolver=TagResolver(offer=make_offer(store), finder=ScatterTagFinder(asker), max_age_s=60.0),
        roster=roster,
        policy=policy,
        clock=lambda: NOW_S,
        puller=Puller(
            lineages=Lineages(node("own")),
            index=index,
            roster=roster,
            client=PeerClient(Dialer(credentials=CREDENTIALS, connect_s=1.0), stall_s=1.0),
            policy=policy,
            stall_s=pull.stall_s,
            metrics=metrics,
            relays=Relays(zero_copy=False),
            buffers=StripeBuffers(0),
            limit=TokenBucket(0),
            commits=make_commits(policy, metrics, lambda: NOW_S),
            checks=make_checks(policy, metrics, lambda: NOW_S),
            clock=lambda: NOW_S,
        ),
    )


def ranked(explained: ExplainDocument) -> list[tuple[int, str]]:
    return [(holder.rank, holder.node) for holder in explained.holders]


async def test_holders_are_in_the_order_in_which_a_pull_tries_them(explainer: Explainer) -> None:
    explained = await explainer.digest(DIGEST)
    assert ranked(explained) == [(1, "near"), (2, "far")]
    assert (explained.choice, explained.passed_over) == ("near", ())


async def test_holder_that_no_pull_may_try_is_passed_over_with_a_reason(explainer: Explainer) -> None:
    for name in ("near", "empty"):
        explainer.policy.regard.trust.distrust(DIGEST, node(name), NOW_S + 10.0)
    explained = await explainer.digest(DIGEST)
    assert ranked(explained) == [(1, "far")]
    assert explained.choice == "far"
    (passed_over,) = explained.passed_over
    assert passed_over.node == "near"
    assert passed_over.reason == Distrust.BROKE_OFF.value
    later = replace(explainer, clock=lambda: NOW_S + 10.0)
    assert (await later.digest(DIGEST)).passed_over == ()


async def test_holder_whose_blob_was_not_committed_is_the_last_and_says_so(explainer: Explainer) -> None:
    trust = explainer.policy.regard.trust
    began_s = NOW_S - 60.0
    trust.delivered(
        DIGEST,
        [node("near")],
        start=0,
        stop=9,
        size_bytes=9,
        taken=True,
        began_s=began_s,
        now_s=began_s,
        received=True,
    )
    assert trust.suspect_overdue(NOW_S) == {DIGEST: {"near"}}
    explained = await explainer.digest(DIGEST)
    assert ranked(explained) == [(1, "far"), (2, "near")]
    assert "suspect" in explained.holders[1].reason
    trust.checked(DIGEST, node("near"), right=False, now_s=NOW_S)
    (passed_over,) = (await explainer.digest(DIGEST)).passed_over
    assert (passed_over.node, passed_over.reason) == ("near", Distrust.WRONG.value)


async def test_peer_that_failed_is_the_last_and_not_asked_in_full(explainer: Explainer) -> None:
    explainer.policy.regard.failed(node("near"), NOW_S)
    explained = await explainer.digest(DIGEST)
    assert explained.choice == "far"
    assert [peer.node for peer in explained.not_asked_in_full] == ["near"]


async def test_own_blob_that_can_not_be_read_is_not_local_and_the_reason_is_told(
    explainer: Explainer, tmp_path: Path
) -> None:
    path = tmp_path / "blobs" / DIGEST.replace(":", "/")
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    following = asyncio.create_task(explainer.store.run())
    try:
        async with asyncio.timeout(20):
            while DIGEST not in explainer.store.unreadable:  # noqa: ASYNC110 - a scan has no event
                await asyncio.sleep(0.01)
        explained = await explainer.digest(DIGEST)
        assert (explained.local, explained.choice) == (False, "near")
        assert explained.flaw is not None
        assert explained.flaw.startswith("held, but unreadable: it is a symbolic link")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_content_that_is_arriving_here_is_told_with_how_far_it_is_and_from_whom(
    explainer: Explainer,
) -> None:
    store = MemoryStore()
    here = replace(explainer, store=store)
    assert (await here.digest(DIGEST)).arriving is None
    flight = store.flights[DIGEST] = Flight(bytes(2_000_000), available_bytes=1_220_000)
    assert (await here.digest(DIGEST)).arriving == "61 % (1.2 of 2.0 MB), from its next host"
    lineages = explainer.puller.lineages
    lineages.came_from(DIGEST, Lineage(origin=node("near"), depth=1))
    assert (await here.digest(DIGEST)).arriving == "61 % (1.2 of 2.0 MB), from near"
    lineages.came_from(DIGEST, Lineage(origin=node("near"), depth=3))
    flight.quiet_s = 12.0
    assert (await here.digest(DIGEST)).arriving == (
        "61 % (1.2 of 2.0 MB), from near by 3 steps; nothing came for 12 s, so peers are not told"
    )
    store.held.add(DIGEST)
    assert (await here.digest(DIGEST)).arriving is None


@dataclass
class ServedIndex:
    """An index in which ``source`` names the holders."""

    source: IndexSource | None

    async def lookup_everyone(self, digest: Digest) -> Holders:
        return Holders(nodes=(node("near"),), exhaustive=True, source=self.source)

    def status(self) -> IndexStatus:
        return IndexStatus(index="valkey://v", state=IndexState.DOWN, problem="it is full")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (IndexSource.SERVER, "the index's server named them"),
        (IndexSource.FALLBACK, "near peers named them: the index's server is not asked (it is full)"),
        (None, None),
    ],
)
async def test_explanation_says_who_named_the_holders(
    explainer: Explainer, source: IndexSource | None, words: str | None
) -> None:
    index = cast(HolderIndex, ServedIndex(source))
    assert (await replace(explainer, index=index).digest(DIGEST)).learnt == words
