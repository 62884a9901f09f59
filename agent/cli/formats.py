"""Formats costs, ages, sizes and names for people, the same way in the terminal and in the picture."""

import math

from agent.documents.topology import ZoneEntry


def zone_name(zone: ZoneEntry) -> str:
    """A zone as REGION/ZONE."""
    name = zone.zone or "no zone"
    return name if zone.region is None else f"{zone.region}/{name}"


def or_far(cost_us: float | None) -> float:
    """A cost to sort by. An unknown cost comes last."""
    return math.inf if cost_us is None else cost_us


def plain_ms(cost_us: float) -> str:
    """Milliseconds without the unit, for places that name it already."""
    cost_ms = cost_us / 1000
    if 0 < cost_us < 10:  # on one machine; 0.00 would say that it takes no time
        return f"{cost_ms:.3f}"
    return f"{cost_ms:.2f}" if cost_ms < 100 else f"{cost_ms:.0f}"


def ms(cost_us: float | None) -> str:
    """Milliseconds with their unit."""
    return "–" if cost_us is None else f"{plain_ms(cost_us)} ms"


def age(age_s: float) -> str:
    """How long ago, in the largest unit that gives at least two."""
    if not math.isfinite(age_s):
        return "long ago"
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * length_s:
            return f"{age_s / length_s:.0f} {unit} ago"
    return f"{max(age_s, 0):.0f} s ago"


def size(size_bytes: float | None) -> str:
    """A size in bytes, with a unit in powers of a thousand."""
    if size_bytes is None:
        return "–"
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= length:
            return f"{size_bytes / length:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def count(number: int, what: str) -> str:
    """A number with its noun: ``1 node``, ``2 nodes``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
