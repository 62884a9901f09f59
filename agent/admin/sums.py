"""Sums of what clients got, as a part of documents. Pure."""

from agent.documents.sums import SumsEntry, TierBytesEntry
from agent.observe.tally import Sum, Sums
from topology.placement import Tier


def sums_entry(sums: Sums, seconds: float) -> SumsEntry:
    """The sums over so many seconds as an entry."""
    usd, saved_usd = max(0.0, sums[Sum.USD]), max(0.0, sums[Sum.USD_SAVED])
    return SumsEntry(
        seconds=round(seconds, 3),
        requests=_whole(sums[Sum.REQUESTS]),
        served=_whole(sums[Sum.SERVED]),
        failed=_whole(sums[Sum.FAILED]),
        bytes_by_tier=tuple(TierBytesEntry(tier=tier.label, size_bytes=_whole(sums[tier])) for tier in Tier),
        saved_bytes=_whole(sums[Sum.SAVED]),
        crossing_bytes=_whole(sums[Sum.CROSSING]),
        usd=round(usd, 9),
        usd_saved=round(saved_usd, 9),
        net_usd_saved=round(saved_usd - usd, 9),
    )


def _whole(value: float) -> int:
    return max(0, round(value))
