"""Which holder to take first.

Decides an order among holders; pure and deterministic. Tier first, then round-trip time on a log
scale, then a rendezvous hash of (digest, client, holder), so that equal holders share the work
without talking to each other. Source: DESIGN 6; Thaler and Ravishankar, "Using name-based mappings
to increase hit rates" (1998), for the hash.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from topology.placement import Locality, NodeName

# Round-trip times within one step of this ratio count as equal: inside a zone jitter exceeds the
# signal (0.26 to 0.41 ms measured), and equal holders must share the work.
_RTT_STEP_RATIO = 2.0
_UNMEASURED_US = 1000.0  # a peer nobody measured stands where a cross-zone neighbour typically does


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A holder as ranking sees it. ``rtt_us`` is None while nothing was measured."""

    node: NodeName
    locality: Locality
    rtt_us: float | None = None
    cooling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate with its place (1 is the first) and the reason for it, in one line."""

    node: NodeName
    locality: Locality
    rank: int
    reason: str


def rank(candidates: Iterable[Candidate], *, client: NodeName, digest: str) -> tuple[Ranked, ...]:
    """The candidates in the order in which to try them: a permutation of what was given.

    A cooling peer (it failed a moment ago) goes behind all others: it is the last resort, not lost.
    Cost: one 8-byte hash a candidate and a sort.
    """
    ordered = sorted(candidates, key=lambda candidate: _key(candidate, client, digest))
    return tuple(
        Ranked(node=c.node, locality=c.locality, rank=place, reason=_reason(c))
        for place, c in enumerate(ordered, start=1)
    )


def _key(candidate: Candidate, client: NodeName, digest: str) -> tuple[bool, int, int, bytes, str]:
    lot = hashlib.blake2b(f"{digest}\0{client}\0{candidate.node}".encode(), digest_size=8).digest()
    return candidate.cooling, candidate.locality, _rtt_step(candidate.rtt_us), lot, candidate.node


def _rtt_step(rtt_us: float | None) -> int:
    known = rtt_us is not None and math.isfinite(rtt_us) and rtt_us > 0
    return math.floor(math.log(rtt_us if known and rtt_us else _UNMEASURED_US, _RTT_STEP_RATIO))


def _reason(candidate: Candidate) -> str:
    parts = [f"tier {candidate.locality.label}"]
    parts.append("rtt unmeasured" if candidate.rtt_us is None else f"rtt {candidate.rtt_us / 1000:.2f} ms")
    if candidate.cooling:
        parts.append("failed a moment ago, last resort")
    return ", ".join(parts)
