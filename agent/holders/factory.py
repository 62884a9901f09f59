"""Makes the holder index and the tag finder that the settings name. Nothing else names an implementation."""

from functools import partial

from agent.config import Settings
from agent.holders.asking import PeerAsker
from agent.holders.index import HolderIndex
from agent.holders.scatter import ScatterIndex
from agent.holders.tagfinder import ScatterTagFinder, TagFinder
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from topology.placement import NodeName


def make_index(settings: Settings, *, asker: PeerAsker, roster: Roster, metrics: Metrics) -> HolderIndex:
    """The holder index that ``settings.index`` names."""
    follows = partial(_is_in_own_zone, roster) if settings.cold_start.claims else _nobody
    match settings.index:
        case "scatter":
            return ScatterIndex(asker, settings=settings.lookup, metrics=metrics, follows=follows)
        case _:
            raise AssertionError(f"no such holder index: {settings.index}")  # parse_index refuses it


def _is_in_own_zone(roster: Roster, node: NodeName) -> bool:
    """Nothing that is still arriving crosses zones, unless a claim says so."""
    snapshot = roster.snapshot
    return snapshot.zone_of(node) == snapshot.zone_of(roster.own)


def _nobody(_: NodeName) -> bool:
    return False


def make_tag_finder(*, asker: PeerAsker) -> TagFinder:
    """The tag finder. It is the same one with every index."""
    return ScatterTagFinder(asker)
