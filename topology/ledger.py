"""What the bytes between zones cost.

Decides a price for each pair of zones, and adds up the delivered bytes. Exactly one agent accounts for each
body, so that the sum over a cluster counts no byte twice. Between peers it is the receiver. For another
node's containerd it is the sender. Bytes of an abandoned attempt are not included. 1 GB is 10^9 bytes, as
clouds bill it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from topology.placement import ZoneKey

_GB = 1e9
_PAIRS_MAX = 128  # further pairs are added up under "other", because metrics have a series per pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars per GB. ``pairs``: exceptions by (source, destination), each ``zone`` or ``region/zone``.

    ``registry``: what a GB from the registry costs.
    """

    registry: float = 0.045
    same_zone: float = 0.0
    cross_zone: float = 0.02
    cross_region: float = 0.02
    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def usd_per_gb(self, source: ZoneKey | None, destination: ZoneKey | None) -> float:
        """The price from one zone to another.

        A node without a zone counts as being in another zone. Two nodes without a zone count as being in
        the same zone: if no node has a zone label, there are no zones to pay for.
        """
        if source is None and destination is None:
            return self.same_zone
        if source is not None and destination is not None:
            for one in (str(source), str(source.zone)):
                for other in (str(destination), str(destination.zone)):
                    if (one, other) in self.pairs:
                        return self.pairs[one, other]
            if source == destination:
                return self.same_zone
            if source.region != destination.region and None not in (source.region, destination.region):
                return self.cross_region
        return self.cross_zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """Bytes that clients got here and not from the registry, and what these would have cost there."""

    size_bytes: int
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Bytes from one zone to another, and their price."""

    source: str
    destination: str
    size_bytes: int
    usd: float


class CostLedger:
    """Bytes and US dollars by pair of zones, and what was saved at the registry, since the agent started.

    Without a mirror, every byte that a client got here would have come from the registry. So the saved money
    is these bytes times the registry's price, and the net saving is that minus the sums by pair of zones.

    ``crossing_bytes``: all that went from one zone to another. ``usd``: what all bytes cost.
    """

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self._bytes: dict[tuple[str, str], int] = {}
        self._usd: dict[tuple[str, str], float] = {}
        self._saved_bytes = 0
        self.crossing_bytes = 0
        self.usd = 0.0

    def add(self, source: ZoneKey | None, destination: ZoneKey | None, size_bytes: int) -> Entry:
        """Add delivered bytes. Returns the added entry, with the zone names that it counts under."""
        pair = _name(source), _name(destination)
        if pair not in self._bytes and len(self._bytes) >= _PAIRS_MAX:
            pair = "other", "other"
        usd = self.prices.usd_per_gb(source, destination) * size_bytes / _GB
        self._bytes[pair] = self._bytes.get(pair, 0) + size_bytes
        self._usd[pair] = self._usd.get(pair, 0.0) + usd
        self.usd += usd
        if source != destination:
            self.crossing_bytes += size_bytes
        return Entry(source=pair[0], destination=pair[1], size_bytes=size_bytes, usd=usd)

    def save(self, size_bytes: int) -> Savings:
        """A client got these bytes here. Returns what that saves at the registry."""
        self._saved_bytes += size_bytes
        return self._savings(size_bytes)

    @property
    def savings(self) -> Savings:
        """The sum of what was saved at the registry. What was paid between zones is not taken off."""
        return self._savings(self._saved_bytes)

    def _savings(self, size_bytes: int) -> Savings:
        return Savings(size_bytes=size_bytes, usd=self.prices.registry * size_bytes / _GB)

    def entries(self) -> Iterable[Entry]:
        """The sums by pair of zones, most bytes first."""
        for pair, size_bytes in sorted(self._bytes.items(), key=lambda item: (-item[1], item[0])):
            yield Entry(source=pair[0], destination=pair[1], size_bytes=size_bytes, usd=self._usd[pair])


def _name(zone: ZoneKey | None) -> str:
    return "unknown" if zone is None else str(zone)
