"""Makes the holder index and the tag finder that the settings name. Nothing else names an implementation."""

from agent.config import Settings
from agent.holders.asking import PeerAsker
from agent.holders.index import HolderIndex
from agent.holders.scatter import ScatterIndex
from agent.holders.tagfinder import ScatterTagFinder, TagFinder
from agent.observe.metrics import Metrics


def make_index(settings: Settings, *, asker: PeerAsker, metrics: Metrics) -> HolderIndex:
    """The holder index that ``settings.index`` names."""
    match settings.index:
        case "scatter":
            return ScatterIndex(asker, settings=settings.lookup, metrics=metrics)
        case _:
            raise AssertionError(f"no such holder index: {settings.index}")  # parse_index refuses it


def make_tag_finder(*, asker: PeerAsker) -> TagFinder:
    """The tag finder. It is the same one with every index."""
    return ScatterTagFinder(asker)
