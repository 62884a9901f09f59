"""Fake peers, mostly five in three rings, and a holder index and a tag finder over them. Virtual time."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent.config import LookupSettings
from agent.holders.asking import PeerAsker
from agent.holders.factory import make_askers, make_tag_finder
from agent.holders.index import Holders
from agent.holders.scatter import ScatterIndex
from agent.holders.tagfinder import TagFinder
from agent.members.member import Peers
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.pull.asking import AskingPolicy
from agent.pull.regard import Regard
from tests.unit.twins import (
    FakePeers,
    loop_clock,
    node,
    other_tasks,
    peer,
    peers,
    placed,
    run_in_virtual_time,
    sha256,
)

SETTINGS = LookupSettings(patience_s=0.05, timeout_s=0.5, positive_ttl_s=10.0, negative_ttl_s=1.0)
COOLOFF_S = 5.0
ROUND_S = 0.0015  # one round of questions; each peer takes 1 ms
HEALTHY_S = 0.02  # far less than patience
LAYER, OTHER = sha256("layer"), sha256("other")
# Two peers in the own zone, two in the region's other zone, one across the sea.
MEMBERS = peers(
    peer("zone-1", placed("eu", "eu-a")),
    peer("zone-2", placed("eu", "eu-a")),
    peer("region-1", placed("eu", "eu-b")),
    peer("region-2", placed("eu", "eu-b")),
    peer("far-1", placed("us", "us-a")),
)
EVERYONE = sorted(MEMBERS)
NOBODY = Holders(nodes=(), exhaustive=True)


@dataclass
class Cluster:
    """A scatter index and a tag finder among fake peers."""

    asker: PeerAsker
    scatter: ScatterIndex
    finder: TagFinder
    fakes: FakePeers
    roster: Roster
    regard: Regard

    async def lookup(self, digest: Digest = LAYER) -> tuple[set[str], float]:
        """The holders found, and how many seconds that took."""
        started_s = loop_clock()
        holders = await self.scatter.lookup(digest)
        return set(holders.nodes), loop_clock() - started_s

    async def close(self) -> None:
        """Stop all background work."""
        await self.scatter.close()
        await self.asker.close()

    def is_cooling(self, name: str) -> bool:
        return self.regard.is_cooling(node(name), loop_clock())


def play(
    scenario: Callable[[Cluster], Awaitable[None]],
    fakes: FakePeers,
    settings: LookupSettings = SETTINGS,
    *,
    members: Peers = MEMBERS,
    bounded: bool = False,
) -> None:
    """Run the scenario, close the index, and check that nothing runs any more.

    ``bounded``: the index asks those nearby only.
    """

    async def main() -> None:
        roster, regard = Roster(own=node("own"), placement=placed("eu", "eu-a")), Regard(cooloff_s=COOLOFF_S)
        roster.on_change(regard.members_changed)
        roster.update(members)
        metrics = Metrics()
        policy = AskingPolicy(
            regard=regard,
            at_once=settings.at_once,
            patience_s=settings.patience_s,
            timeout_s=settings.timeout_s,
        )
        everybody = PeerAsker(
            roster=roster,
            policy=policy,
            query=fakes.query,
            metrics=metrics,
            clock=loop_clock,
        )
        askers = make_askers(everybody, policy, at_once=settings.at_once, roster=roster)
        asker = askers.nearby if bounded else askers.scatter
        cluster = Cluster(
            asker=asker,
            scatter=ScatterIndex(
                asker,
                settings=settings,
                metrics=metrics,
                follows=lambda name: name.startswith("zone"),
                peers=roster.__len__,
                clock=loop_clock,
            ),
            finder=make_tag_finder(askers),
            fakes=fakes,
            roster=roster,
            regard=regard,
        )
        try:
            await scenario(cluster)
        finally:
            await cluster.close()
        assert other_tasks() == set()

    run_in_virtual_time(main())
