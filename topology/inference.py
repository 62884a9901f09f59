"""What measured latency says about where a node sits.

Decides the zone of a node without a zone label, and whether a labelled node's latency contradicts its
label. The evidence is the median round trip between the node and each zone, no matter who measured it.
The border between "inside this zone" and "in the next zone" is the geometric mean of the two usual round
trips, because round-trip times differ by ratios. Only a difference that may be noise (`NOISE_US`) contradicts
no label, whatever its ratio. In doubt the answer is None.
"""

import math
from collections.abc import Callable, Iterable, Mapping

from topology.placement import ZoneKey

Evidence = Mapping[ZoneKey, float]
"""The median round trip, in microseconds, between one node and each zone that measured it."""

ZoneRtt = Callable[[ZoneKey, ZoneKey], float]
"""The round trip between two zones, or inside one. A prior if nobody measured it."""

Border = Callable[[ZoneKey], float]
"""The largest round trip, in microseconds, of a node inside a zone. See `border_of`."""

NOISE_US = 100.0
"""A difference of round trips, in microseconds, that contradicts no label.

10 km of cable add as much to a round trip: what is nearer is hardly another zone. On one machine, ratios say
nothing: a handshake over loopback takes 7 µs, and up to 64 µs while the processors are busy, as if one
process were nine times as far away as another. A label that is wrong by less makes no pull noticeably slower.
"""

_CLEARLY = 1.25  # a zone must be nearer than the next candidate by this factor
_STAY = 1.2  # a node moves to another zone only if that zone is nearer by this factor


def infer_zone(evidence: Evidence, border_us: Border, current: ZoneKey | None = None) -> ZoneKey | None:
    """The zone that a node without a label is in. None if the evidence is not clear.

    ``current``: the zone that was inferred before. In doubt it is kept.
    """
    if not evidence:
        return current
    ordered = sorted(evidence.items(), key=lambda item: (item[1], str(item[0])))
    best, best_us = ordered[0]
    inside = best_us <= border_us(best)
    clearly = len(ordered) == 1 or ordered[1][1] >= best_us * _CLEARLY
    if current is not None:
        # The inferred zone stays until evidence speaks for another zone, or against this one.
        current_us = evidence.get(current)
        if current_us is None and not (inside and clearly):
            return current
        if current_us is not None and current_us <= max(
            best_us * _STAY, border_us(current) if not inside else 0.0
        ):
            return current
    return best if inside and clearly else None


def contradiction(
    labelled: ZoneKey,
    evidence: Evidence,
    border_us: Border,
    zone_rtt_us: ZoneRtt,
    *,
    suspect: bool = False,
) -> str | None:
    """One line that says why a node with this evidence can't be in its labelled zone. None if it can be.

    ``suspect``: whether the evidence contradicted the label before. Then clearer evidence is needed to
    clear the node. Differences below `NOISE_US` clear it at once.
    """
    lenience = _STAY if suspect else 1.0
    least_us = NOISE_US * _STAY / lenience
    own_us = evidence.get(labelled)
    inside_us = zone_rtt_us(labelled, labelled)
    for zone, rtt_us in sorted(evidence.items(), key=lambda item: (item[1], str(item[0]))):
        if zone == labelled:
            continue
        usual_us = zone_rtt_us(labelled, zone)
        nearer = own_us is None or (rtt_us * _CLEARLY < own_us * lenience and own_us - rtt_us >= least_us)
        limit_us = min(math.sqrt(usual_us * zone_rtt_us(zone, zone)), usual_us / 1.5)
        if nearer and rtt_us < limit_us * lenience and usual_us - rtt_us >= least_us:
            return (
                f"labelled zone {labelled}, but {_ms(rtt_us)} from zone {zone}, "
                f"where {_ms(usual_us)} is usual between the two"
            )
    too_far = own_us is not None and own_us * lenience > max(border_us(labelled), 2 * inside_us)
    if own_us is not None and too_far and own_us - inside_us >= least_us:
        return f"labelled zone {labelled}, but {_ms(own_us)} from it, where {_ms(inside_us)} is usual"
    return None


def border_of(zone: ZoneKey, zones: Iterable[ZoneKey], zone_rtt_us: ZoneRtt) -> float:
    """The largest round trip, in microseconds, of a node that counts as inside the zone."""
    inside_us = zone_rtt_us(zone, zone)
    next_us = min((zone_rtt_us(zone, other) for other in zones if other != zone), default=math.inf)
    if not math.isfinite(next_us):
        return 2 * inside_us
    return math.sqrt(inside_us * max(next_us, inside_us))


def _ms(rtt_us: float) -> str:
    return f"{rtt_us / 1000:.2f} ms"
