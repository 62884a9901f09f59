"""What an agent's clients got, summed over a time: a part of several documents."""

from dataclasses import dataclass, field

from agent.documents.codec import json_key


@dataclass(frozen=True, slots=True, kw_only=True)
class TierBytesEntry:
    """Body bytes that clients were sent, by the tier of the node that they came from.

    ``tier``: node (this node's own content), rack, zone, region or remote.
    """

    tier: str
    size_bytes: int = field(metadata=json_key("bytes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SumsEntry:
    """Sums over the last ``seconds``, or since the start. Only clients' requests for content count.

    ``served``: answered with content, or redirected to it. ``failed``: a fault, as
    ``shorthaul_mirror_requests_total`` counts it; what no node has is neither. ``saved_bytes``: what would
    have come from the registry. ``crossing_bytes``: what went between two zones to this node. ``usd``: what
    bytes between zones cost. ``usd_saved``: what ``saved_bytes`` would have cost.
    ``net_usd_saved``: that minus ``usd``.
    """

    seconds: float
    requests: int
    served: int
    failed: int
    bytes_by_tier: tuple[TierBytesEntry, ...]
    saved_bytes: int
    crossing_bytes: int
    usd: float
    usd_saved: float
    net_usd_saved: float
