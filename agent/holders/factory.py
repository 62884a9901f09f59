"""Makes the holder index and the tag finder that the settings name. Nothing else names an implementation."""

from functools import partial

from agent.config import Settings
from agent.content.store import ContentStore
from agent.holders.asking import PeerAsker
from agent.holders.claimant import Claimant
from agent.holders.claimdesk import ClaimDesk
from agent.holders.claims import ClaimBook
from agent.holders.index import HolderIndex
from agent.holders.scatter import ScatterIndex
from agent.holders.tagfinder import ScatterTagFinder, TagFinder
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.authority import Authorities
from agent.pull.regard import Regard
from topology.placement import NodeName


def make_index(settings: Settings, *, asker: PeerAsker, roster: Roster, metrics: Metrics) -> HolderIndex:
    """The holder index that ``settings.index`` names."""
    follows = partial(is_in_own_zone, roster) if settings.cold_start.claims else _nobody
    match settings.index:
        case "scatter":
            return ScatterIndex(asker, settings=settings.lookup, metrics=metrics, follows=follows)
        case _:
            raise AssertionError(f"no such holder index: {settings.index}")  # parse_index refuses it


def make_claimant(
    settings: Settings,
    *,
    asker: PeerAsker,
    roster: Roster,
    regard: Regard,
    store: ContentStore,
    authorities: Authorities,
    metrics: Metrics,
) -> Claimant | None:
    """What asks for claims, with this node's own arbiter. None: nobody is asked."""
    cold = settings.cold_start
    if not cold.claims:
        return None
    return Claimant(
        roster=roster,
        regard=regard,
        store=store,
        desk=ClaimDesk(ClaimBook(start_s=cold.claim_start_s)),
        ask_peer=asker.ask_slowly,
        authorities=authorities,
        near=partial(is_in_own_zone, roster),
        settings=cold,
        metrics=metrics,
    )


def is_in_own_zone(roster: Roster, node: NodeName) -> bool:
    """Nothing that is still arriving crosses zones, unless a claim says so."""
    snapshot = roster.snapshot
    return snapshot.zone_of(node) == snapshot.zone_of(roster.own)


def _nobody(_: NodeName) -> bool:
    return False


def make_tag_finder(*, asker: PeerAsker) -> TagFinder:
    """The tag finder. It is the same one with every index."""
    return ScatterTagFinder(asker)
