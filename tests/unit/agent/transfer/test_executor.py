"""What a pull leaves behind. What it does is driven whole by tests/server/test_fault_matrix.py."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import pytest

from agent.holders.index import HolderIndex, Holders
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.reference import Addressed, Kind, Repository
from agent.pull.bucket import TokenBucket
from agent.pull.events import Failure
from agent.pull.lineages import Lineages
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.executor import NobodyHasIt, Puller
from agent.transfer.peers import PeerBody, PeerClient
from agent.transfer.relays import Relays
from agent.transfer.striper import StripeBuffers
from tests.unit.evidence import make_checks, make_commits
from tests.unit.twins import (
    hold_up,
    loop_clock,
    make_policy,
    node,
    peer,
    peers,
    placed,
    run_in_virtual_time,
    sha256,
)
from topology.placement import NodeName

HEAD = FetchRequest(
    target=Addressed(registry=None, repository=Repository("a"), kind=Kind.BLOB, digest=sha256("x")),
    head=True,
)


@dataclass
class Index:
    """Every look-up finds these nodes."""

    nodes: tuple[NodeName, ...]

    async def lookup(self, digest: Digest) -> Holders:
        return Holders(nodes=self.nodes, exhaustive=True)

    lookup_everyone = lookup

    def remembered(self, digest: Digest) -> Holders | None:
        return None

    def forget(self, digest: Digest, node: NodeName) -> None:
        pass


class Body:
    """A peer's answer to a HEAD."""

    manifest = arrival = request = None
    verified = False
    connect_s = 0.0
    start, size_bytes, length = 0, 1000, 1000

    def close(self) -> None:
        pass


@dataclass
class Client:
    """A peer that answers, or does not have the content."""

    has_it: bool

    async def fetch(self, peer: Peer, wanted: FetchRequest, account: object = None) -> PeerBody:
        if not self.has_it:
            raise AttemptFailed(Failure.MISSING, "404")
        return cast(PeerBody, Body())


def make_puller(holders: tuple[NodeName, ...], *, has_it: bool) -> Puller:
    roster = Roster(own=node("own"), placement=placed("r", "z"), clock=loop_clock)
    roster.update(peers(peer("near", placed("r", "z"))))
    policy, metrics = make_policy(), Metrics()
    return Puller(
        lineages=Lineages(node("own")),
        index=cast(HolderIndex, Index(holders)),
        roster=roster,
        policy=policy,
        client=cast(PeerClient, Client(has_it)),
        stall_s=1.0,
        metrics=metrics,
        relays=Relays(zero_copy=False),
        buffers=StripeBuffers(0),
        limit=TokenBucket(0),
        commits=make_commits(policy, metrics, loop_clock),
        checks=make_checks(policy, metrics, loop_clock),
        clock=loop_clock,
    )


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """The garbage collector does not run."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize(
    ("holders", "has_it"),
    [
        pytest.param((), False, id="nobody has it"),
        pytest.param((node("near"),), True, id="a holder has it"),
        pytest.param((node("near"),), False, id="a holder lost it"),
        pytest.param((node("left"),), True, id="a holder is no member any more"),
    ],
)
def test_a_pull_is_freed_when_it_ends_without_the_garbage_collector(
    holders: tuple[NodeName, ...], *, has_it: bool
) -> None:
    async def pull(puller: Puller) -> "weakref.ref[object]":
        async with puller.pull(HEAD) as running:
            with contextlib.suppress(NobodyHasIt):
                await running.first_bytes()
            return weakref.ref(running)

    async def main() -> None:
        puller = make_puller(holders, has_it=has_it)
        left = await pull(puller)
        assert left() is None, "a pull is in a cycle of references, so its buffers live on"
        assert not puller.running

    run_in_virtual_time(main())


@dataclass
class SlowClient:
    """A peer whose answer takes a second."""

    held_up_s: float

    async def fetch(self, peer: Peer, wanted: FetchRequest, account: object = None) -> PeerBody:
        hold_up(self.held_up_s)
        await asyncio.sleep(0.05)
        return cast(PeerBody, Body())


def test_time_in_which_this_node_did_not_run_is_held_against_nobody() -> None:
    """It was suspended for a minute, and the peer's answer came meanwhile: nobody lost patience."""

    async def main() -> None:
        puller = make_puller((node("near"),), has_it=True)
        puller = replace(puller, client=cast(PeerClient, SlowClient(held_up_s=60.0)))
        puller.policy.regard.members_changed([node("near")])
        async with puller.pull(HEAD) as running:
            holder, _ = await running.first_bytes()
        assert holder.node == "near"
        assert not puller.policy.regard.is_cooling(node("near"), loop_clock())

    run_in_virtual_time(main())


def test_pull_that_finds_nobody_says_who_was_tried_and_who_was_not_asked() -> None:
    async def main() -> None:
        puller = make_puller((node("near"),), has_it=False)
        regard = puller.policy.regard
        regard.members_changed([node("near"), node("silent")])
        regard.unanswered(node("silent"), "no reply to a question within 0.5 s", loop_clock() - 2.0)
        async with puller.pull(HEAD) as running:
            with pytest.raises(NobodyHasIt) as caught:
                await running.first_bytes()
        assert str(caught.value) == (
            "no peer that was asked in full gives it (1 tried: near (404)); "
            "not asked in full: silent (no reply to a question within 0.5 s, 2 s ago)"
        )

    run_in_virtual_time(main())


@pytest.mark.parametrize(
    ("committed", "kind", "head", "told"),
    [
        pytest.param(True, Kind.BLOB, False, True, id="own containerd"),
        pytest.param(False, Kind.BLOB, False, False, id="another client"),
        pytest.param(True, Kind.MANIFEST, False, False, id="a manifest"),
        pytest.param(True, Kind.BLOB, True, False, id="a HEAD"),
    ],
)
@pytest.mark.parametrize("has_it", [True, False], ids=["from a peer", "from the registry"])
def test_what_begins_to_arrive_for_this_nodes_containerd_is_told(
    committed: bool, kind: Kind, head: bool, told: bool, has_it: bool
) -> None:
    async def main() -> None:
        fetching: list[Digest] = []
        puller = make_puller((node("near"),) if has_it else (), has_it=has_it)
        puller = replace(puller, fetching=fetching.append)
        wanted = replace(HEAD, target=replace(HEAD.target, kind=kind), head=head)
        async with puller.pull(wanted, committed=committed) as running:
            with contextlib.suppress(NobodyHasIt):
                await running.first_bytes()
        assert fetching == ([HEAD.target.digest] if told else [])

    run_in_virtual_time(main())
