"""What every holder index does, against peers in memory.

An implementation is given a set of peers that know things, can be slow, and can be silent; the suite
speaks to it through `HolderIndex` alone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from agent.config import LookupSettings
from agent.holders.index import HolderIndex
from agent.holders.scatter import Scatter
from agent.holders.wire import KnownTag, Question, Reply
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.manifest import OCI_MANIFEST, Descriptor
from agent.oci.reference import Named, Registry, Repository, Tag
from agent.peering.channels import NoReply
from agent.pull.regard import Regard
from topology.placement import NodeName, Placement, Region, Zone

_A, _B, _C = (Digest("sha256:" + letter * 64) for letter in "abc")
_OWN_ZONE, _NEXT_ZONE, _FAR = ("r1", "a"), ("r1", "b"), ("r2", "c")


@dataclass(slots=True)
class Member:
    """A peer in memory: what it has, and how it answers."""

    where: tuple[str, str]
    held: set[Digest] = field(default_factory=set)
    tags: list[KnownTag] = field(default_factory=list)
    silent: bool = False  # never answers
    refuses: bool = False  # fails at once
    delay_s: float = 0.0


@dataclass(slots=True)
class Cluster:
    """The peers, which a test may change at any time, and the index that looks at them."""

    members: dict[str, Member]
    index: HolderIndex
    now: list[float]

    def pass_time(self, seconds: float) -> None:
        """Move the index's clock on, past whatever it remembers."""
        self.now[0] += seconds


Make = Callable[[dict[str, Member]], Cluster]


class _Implementations:
    """Builds an index of each kind over members in memory, and closes what it built."""

    def __init__(self) -> None:
        self._built: list[Scatter] = []

    def scatter(self, members: dict[str, Member]) -> Cluster:
        """Asks the peers themselves."""
        # Real time as it passes, plus what a test skips: waits stay real, memories can be outlived.
        skipped = [0.0]

        def clock() -> float:
            return asyncio.get_running_loop().time() + skipped[0]

        async def query(peer: Peer, question: Question, timeout_s: float) -> Reply:
            member = members[peer.name]
            if member.refuses:
                raise NoReply(peer.name)
            await asyncio.sleep(timeout_s if member.silent else min(member.delay_s, timeout_s))
            if member.silent or member.delay_s >= timeout_s:
                raise NoReply(peer.name)
            return Reply(
                held=frozenset(digest for digest in question.digests if digest in member.held),
                tags=tuple(known for known in member.tags if _asked_for(question, known)),
            )

        own = NodeName("own")
        roster, regard = Roster(own=own, placement=_placement(_OWN_ZONE)), Regard(cooloff_s=5.0)
        roster.on_change(regard.keep)
        roster.update(
            {
                NodeName(name): Peer(
                    name=NodeName(name), address="192.0.2.1", port=1, placement=_placement(member.where)
                )
                for name, member in members.items()
            }
        )
        index = Scatter(
            roster=roster,
            regard=regard,
            query=query,
            settings=LookupSettings(),
            metrics=Metrics(),
            clock=clock,
        )
        self._built.append(index)
        return Cluster(members=members, index=index, now=skipped)

    async def close(self) -> None:
        """End what runs in the background."""
        for index in self._built:
            await index.close()


@pytest.fixture(params=["scatter"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes a cluster with an index of the kind under test."""
    implementations = _Implementations()
    kinds: dict[str, Make] = {"scatter": implementations.scatter}
    try:
        yield kinds[request.param]
    finally:
        await implementations.close()


def _placement(where: tuple[str, str]) -> Placement:
    return Placement(region=Region(where[0]), zone=Zone(where[1]))


def _name(registry: str | None = "registry.test", tag: str = "v1") -> Named:
    return Named(
        registry=None if registry is None else Registry(registry),
        repository=Repository("library/app"),
        tag=Tag(tag),
    )


def _known(
    digest: Digest, *, age_s: float = 10.0, registry: str = "registry.test", tag: str = "v1"
) -> KnownTag:
    descriptor = Descriptor(digest=digest, size_bytes=100, media_type=OCI_MANIFEST)
    return KnownTag(name=_name(registry), descriptor=descriptor, age_s=age_s)


def _asked_for(question: Question, known: KnownTag) -> bool:
    return any(
        (asked.repository, asked.tag) == (known.name.repository, known.name.tag)
        and asked.registry in (None, known.name.registry)
        for asked in question.tags
    )


async def test_a_digest_that_nobody_has_has_no_holders_and_that_is_complete(make: Make) -> None:
    cluster = make({"near": Member(_OWN_ZONE), "far": Member(_FAR)})
    holders = await cluster.index.lookup(_A)
    assert (holders.nodes, holders.complete) == ((), True)


async def test_without_peers_there_are_no_holders(make: Make) -> None:
    cluster = make({})
    assert (await cluster.index.lookup(_A)).nodes == ()
    assert (await cluster.index.lookup_all(_A)).nodes == ()
    assert await cluster.index.lookup_tag(_name(), max_age_s=60) == ()


async def test_every_holder_of_the_nearest_ring_is_found(make: Make) -> None:
    cluster = make({name: Member(_OWN_ZONE, {_A}) for name in ("one", "two", "three")})
    assert set((await cluster.index.lookup(_A)).nodes) == {"one", "two", "three"}


@pytest.mark.parametrize("where", [_OWN_ZONE, _NEXT_ZONE, _FAR])
async def test_a_holder_is_found_wherever_it_is(make: Make, where: tuple[str, str]) -> None:
    cluster = make(
        {
            "near": Member(_OWN_ZONE),
            "next": Member(_NEXT_ZONE),
            "far": Member(_FAR),
            "holder": Member(where, {_A}),
        }
    )
    assert (await cluster.index.lookup(_A)).nodes == ("holder",)
    assert (await cluster.index.lookup_all(_A)).nodes == ("holder",)


async def test_a_near_holder_is_among_the_found_whoever_else_has_it(make: Make) -> None:
    cluster = make(
        {"far": Member(_FAR, {_A}), "next": Member(_NEXT_ZONE, {_A}), "near": Member(_OWN_ZONE, {_A})}
    )
    assert "near" in (await cluster.index.lookup(_A)).nodes


async def test_all_holders_are_those_of_every_ring_and_that_is_complete(make: Make) -> None:
    cluster = make(
        {"far": Member(_FAR, {_A}), "next": Member(_NEXT_ZONE, {_A}), "near": Member(_OWN_ZONE, {_A, _B})}
    )
    holders = await cluster.index.lookup_all(_A)
    assert set(holders.nodes) == {"far", "next", "near"}
    assert holders.complete


async def test_a_lookup_that_did_not_ask_everybody_does_not_say_it_is_complete(make: Make) -> None:
    cluster = make({"far": Member(_FAR, {_A}), "near": Member(_OWN_ZONE, {_A})})
    holders = await cluster.index.lookup(_A)
    assert set(holders.nodes) == {"far", "near"} or not holders.complete


async def test_digests_are_told_apart(make: Make) -> None:
    cluster = make({"one": Member(_OWN_ZONE, {_A}), "two": Member(_OWN_ZONE, {_B})})
    found = await asyncio.gather(*(cluster.index.lookup(digest) for digest in (_A, _B, _C)))
    assert [holders.nodes for holders in found] == [("one",), ("two",), ()]


async def test_all_holders_are_asked_for_now_and_not_remembered_from_before(make: Make) -> None:
    cluster = make({"near": Member(_OWN_ZONE), "far": Member(_FAR)})
    assert (await cluster.index.lookup(_A)).nodes == ()
    cluster.members["far"].held.add(_A)
    assert (await cluster.index.lookup_all(_A)).nodes == ("far",)


async def test_what_is_remembered_is_forgotten_in_time(make: Make) -> None:
    cluster = make({"near": Member(_OWN_ZONE), "far": Member(_FAR, {_B})})
    assert (await cluster.index.lookup(_A)).nodes == ()
    assert (await cluster.index.lookup(_B)).nodes == ("far",)
    cluster.members["near"].held.add(_A)
    cluster.members["far"].held.clear()
    cluster.pass_time(60.0)
    assert (await cluster.index.lookup(_A)).nodes == ("near",)
    assert (await cluster.index.lookup(_B)).nodes == ()


async def test_a_forgotten_holder_is_not_named_again_until_it_is_found_again(make: Make) -> None:
    cluster = make({"one": Member(_OWN_ZONE, {_A}), "two": Member(_OWN_ZONE, {_A})})
    assert set((await cluster.index.lookup(_A)).nodes) == {"one", "two"}
    cluster.members["one"].held.clear()
    cluster.index.forget(_A, NodeName("one"))
    assert (await cluster.index.lookup(_A)).nodes == ("two",)


async def test_when_the_last_holder_is_forgotten_the_next_lookup_asks_again(make: Make) -> None:
    cluster = make({"one": Member(_OWN_ZONE, {_A}), "two": Member(_FAR)})
    assert (await cluster.index.lookup(_A)).nodes == ("one",)
    cluster.members["one"].held.clear()
    cluster.members["two"].held.add(_A)
    cluster.index.forget(_A, NodeName("one"))
    assert (await cluster.index.lookup(_A)).nodes == ("two",)


async def test_forgetting_what_was_never_known_does_nothing(make: Make) -> None:
    cluster = make({"one": Member(_OWN_ZONE, {_A})})
    cluster.index.forget(_A, NodeName("one"))
    cluster.index.forget(_B, NodeName("unknown"))
    assert (await cluster.index.lookup(_A)).nodes == ("one",)


async def test_a_prefetched_digest_is_found(make: Make) -> None:
    cluster = make({"near": Member(_OWN_ZONE, {_A}), "far": Member(_FAR, {_B})})
    cluster.index.prefetch([_A, _B, _C, _A])
    cluster.index.prefetch([])
    found = await asyncio.gather(*(cluster.index.lookup(digest) for digest in (_A, _B, _C)))
    assert [holders.nodes for holders in found] == [("near",), ("far",), ()]


async def test_a_lookup_behind_a_finished_prefetch_does_not_wait_for_slow_peers(make: Make) -> None:
    cluster = make({"near": Member(_OWN_ZONE, {_A}, delay_s=0.03)})
    cluster.index.prefetch([_A])
    await asyncio.sleep(0.2)
    cluster.members["near"].silent = True
    async with asyncio.timeout(0.1):
        assert (await cluster.index.lookup(_A)).nodes == ("near",)


@pytest.mark.parametrize("failing", [{"silent": True}, {"refuses": True}], ids=["silent", "refuses"])
@pytest.mark.parametrize("where", [_OWN_ZONE, _NEXT_ZONE, _FAR])
async def test_a_failing_peer_hides_no_other_holder(
    make: Make, failing: dict[str, bool], where: tuple[str, str]
) -> None:
    cluster = make(
        {
            "bad": Member(_OWN_ZONE, {_A}, silent="silent" in failing, refuses="refuses" in failing),
            "good": Member(where, {_A}),
        }
    )
    async with asyncio.timeout(5.0):
        assert (await cluster.index.lookup(_A)).nodes == ("good",)
        assert (await cluster.index.lookup_all(_A)).nodes == ("good",)


async def test_when_every_peer_is_silent_a_lookup_ends_all_the_same_and_never_raises(make: Make) -> None:
    cluster = make({name: Member(_OWN_ZONE, {_A}, silent=True) for name in ("one", "two")})
    async with asyncio.timeout(5.0):
        assert (await cluster.index.lookup(_A)).nodes == ()
        assert (await cluster.index.lookup_all(_A)).nodes == ()
        assert await cluster.index.lookup_tag(_name(), max_age_s=60) == ()


async def test_a_peer_that_recovers_is_found_again(make: Make) -> None:
    cluster = make({"one": Member(_OWN_ZONE, {_A}, refuses=True)})
    assert (await cluster.index.lookup(_A)).nodes == ()
    cluster.members["one"].refuses = False
    cluster.pass_time(60.0)
    assert (await cluster.index.lookup(_A)).nodes == ("one",)


async def test_a_caller_that_goes_away_takes_no_other_callers_answer_with_it(make: Make) -> None:
    cluster = make({"near": Member(_OWN_ZONE, {_A}, delay_s=0.03)})
    going = asyncio.create_task(cluster.index.lookup(_A))
    staying = asyncio.create_task(cluster.index.lookup(_A))
    await asyncio.sleep(0.005)
    going.cancel()
    assert (await staying).nodes == ("near",)
    with pytest.raises(asyncio.CancelledError):
        await going


async def test_many_lookups_at_once_agree(make: Make) -> None:
    cluster = make({f"peer{number}": Member(_FAR, {_A}, delay_s=0.005) for number in range(5)})
    found = await asyncio.gather(*(cluster.index.lookup(_A) for _ in range(200)))
    assert {frozenset(holders.nodes) for holders in found} == {
        frozenset(f"peer{number}" for number in range(5))
    }


async def test_a_tag_is_found_with_what_its_peer_knows_of_it(make: Make) -> None:
    cluster = make({"near": Member(_OWN_ZONE), "far": Member(_FAR, tags=[_known(_A, age_s=30)])})
    (answer,) = await cluster.index.lookup_tag(_name(), max_age_s=60)
    assert (answer.node, answer.name, answer.descriptor) == ("far", _name(), _known(_A).descriptor)
    assert answer.age_s == pytest.approx(30, abs=5)


@pytest.mark.parametrize("asked", [_name("other.test"), _name(tag="v2")])
async def test_another_registrys_or_another_tags_answer_is_none(make: Make, asked: Named) -> None:
    cluster = make({"near": Member(_OWN_ZONE, tags=[_known(_A)])})
    assert await cluster.index.lookup_tag(asked, max_age_s=60) == ()


async def test_the_freshest_answer_to_a_tag_is_first(make: Make) -> None:
    ages = {"old": (_A, 50.0), "fresh": (_B, 1.0), "middle": (_C, 20.0)}
    cluster = make(
        {
            name: Member(_OWN_ZONE, tags=[_known(digest, age_s=age_s)])
            for name, (digest, age_s) in ages.items()
        }
    )
    answers = await cluster.index.lookup_tag(_name(), max_age_s=60)
    assert [answer.node for answer in answers] == ["fresh", "middle", "old"]


async def test_answers_older_than_max_age_s_are_left_out(make: Make) -> None:
    cluster = make(
        {
            "near": Member(_OWN_ZONE, tags=[_known(_A, age_s=100)]),
            "far": Member(_FAR, tags=[_known(_B, age_s=50)]),
        }
    )
    answers = await cluster.index.lookup_tag(_name(), max_age_s=60)
    assert [answer.node for answer in answers] == ["far"]
    assert await cluster.index.lookup_tag(_name(), max_age_s=10) == ()


async def test_without_a_registry_the_answers_of_every_registry_in_the_cluster_are_given(make: Make) -> None:
    cluster = make(
        {
            "near": Member(_OWN_ZONE, tags=[_known(_A, registry="one.test")]),
            "far": Member(_FAR, tags=[_known(_B, registry="two.test")], delay_s=0.02),
        }
    )
    answers = await cluster.index.lookup_tag(_name(None), max_age_s=60)
    assert {answer.name.registry for answer in answers} == {"one.test", "two.test"}


async def test_a_tag_is_asked_for_anew_each_time(make: Make) -> None:
    cluster = make({"near": Member(_OWN_ZONE, tags=[_known(_A)])})
    assert len(await cluster.index.lookup_tag(_name(), max_age_s=60)) == 1
    cluster.members["near"].tags[:] = [_known(_B)]
    (answer,) = await cluster.index.lookup_tag(_name(), max_age_s=60)
    assert answer.descriptor.digest == _B
