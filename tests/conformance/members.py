"""Peers in memory, and each kind of holder index and tag finder over them.

Peers know things, can be slow, and can be silent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent.config import LookupSettings
from agent.content.offer import KnownTag
from agent.holders.asking import PeerAsker
from agent.holders.factory import Askers, make_askers, make_tag_finder
from agent.holders.index import HolderIndex
from agent.holders.scatter import ScatterIndex
from agent.holders.tagfinder import TagFinder
from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.manifest import OCI_MANIFEST, Descriptor
from agent.oci.reference import Named, Repository, Tag
from agent.oci.registry import Registry
from agent.peering.channels import NoReply
from agent.pull.asking import AskingPolicy
from agent.pull.regard import Regard
from topology.placement import NodeName, Placement, Region, Zone

A, B, C = (Digest("sha256:" + letter * 64) for letter in "abc")
OWN_ZONE, NEXT_ZONE, FAR = ("r1", "a"), ("r1", "b"), ("r2", "c")


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
    """The peers, which a test may change at any time, and what looks at them."""

    members: dict[str, Member]
    index: HolderIndex
    finder: TagFinder
    now: list[float]

    def pass_time(self, seconds: float) -> None:
        """Move the index's clock on, past whatever it remembers."""
        self.now[0] += seconds


Make = Callable[[dict[str, Member]], Awaitable[Cluster]]


class Implementations:
    """Builds an index of each kind over members in memory, and closes what it built."""

    def __init__(self) -> None:
        self._built: list[tuple[HolderIndex, PeerAsker]] = []

    async def scatter(self, members: dict[str, Member]) -> Cluster:
        """Asks the peers themselves."""
        return self._asking(members, lambda askers: askers.everybody)

    async def nearby(self, members: dict[str, Member]) -> Cluster:
        """Asks the peers of the own zone and a few others, as in place of an index that is out of reach."""
        return self._asking(members, lambda askers: askers.nearby)

    def _asking(self, members: dict[str, Member], choose: Callable[[Askers], PeerAsker]) -> Cluster:
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

        roster, regard = known_roster(members), Regard(cooloff_s=5.0)
        roster.on_change(regard.members_changed)
        settings, metrics = LookupSettings(), Metrics()
        policy = AskingPolicy(
            regard=regard,
            at_once=settings.at_once,
            patience_s=settings.patience_s,
            timeout_s=settings.timeout_s,
        )
        asker = PeerAsker(roster=roster, policy=policy, query=query, metrics=metrics, clock=clock)
        askers = make_askers(asker, policy, at_once=settings.at_once, roster=roster)
        index = ScatterIndex(choose(askers), settings=settings, metrics=metrics, clock=clock)
        self._built.append((index, asker))
        finder = make_tag_finder(askers)
        return Cluster(members=members, index=index, finder=finder, now=skipped)

    async def close(self) -> None:
        """End what runs in the background."""
        for index, asker in self._built:
            await index.close()
            await asker.close()


def known_roster(members: dict[str, Member]) -> Roster:
    """A list of these members, as the node *own* has it."""
    roster = Roster(own=NodeName("own"), placement=_placement(OWN_ZONE))
    roster.update(
        {
            NodeName(name): Peer(
                name=NodeName(name), address="192.0.2.1", port=1, placement=_placement(member.where)
            )
            for name, member in members.items()
        }
    )
    return roster


def _placement(where: tuple[str, str]) -> Placement:
    return Placement(region=Region(where[0]), zone=Zone(where[1]))


def tag_name(registry: str | None = "registry.test", tag: str = "v1") -> Named:
    return Named(
        registry=None if registry is None else Registry(registry),
        repository=Repository("library/app"),
        tag=Tag(tag),
    )


def known_tag(
    digest: Digest,
    *,
    age_s: float = 10.0,
    registry: str = "registry.test",
    tag: str = "v1",
    imported: bool = False,
) -> KnownTag:
    descriptor = Descriptor(digest=digest, size_bytes=100, media_type=OCI_MANIFEST)
    return KnownTag(
        name=tag_name(registry),
        descriptor=descriptor,
        age_s=age_s,
        voucher=NodeName("seer"),
        imported=imported,
    )


def _asked_for(question: Question, known: KnownTag) -> bool:
    return any(
        (asked.repository, asked.tag) == (known.name.repository, known.name.tag)
        and asked.registry in (None, known.name.registry)
        for asked in question.tags
    )
