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
        usd=usd_of(usd),
        usd_saved=usd_of(saved_usd),
        net_usd_saved=usd_of(saved_usd - usd),
    )


def usd_of(value: float) -> float:
    """US dollars as documents have them: to the billionth, never ``-0.0``, which would show as a loss."""
    return round(value, 9) + 0.0  # which makes a negative zero a plain one


def _whole(value: float) -> int:
    return max(0, round(value))
