"""The bodies under way, and the costs of bytes between zones: ``/api/transfers`` and ``/api/costs``."""

from dataclasses import dataclass, field
from typing import ClassVar

from agent.documents.codec import json_key


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadEntry:
    """A body that this node fetches. ``node``: the peer that gives it now; None while none does.

    ``length_bytes``: 0 until a peer has announced it. ``resumes``: how often another peer went on with it.
    ``in_flight``: how many per cent that peer had when it was chosen; None if it had all.
    """

    digest: str
    node: str | None
    received_bytes: int = field(metadata=json_key("bytes"))
    length_bytes: int = field(metadata=json_key("length"))
    resumes: int
    in_flight: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadEntry:
    """A body that this node sends to the peer at address ``peer``. ``started_at``: since when, UTC."""

    started_at: str
    peer: str = field(metadata=json_key("to"))
    sent_bytes: int = field(metadata=json_key("bytes"))
    left_bytes: int
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolingEntry:
    """A peer that failed. For ``left_s`` more seconds all other holders go before it.

    ``reason``: how it failed, in words.
    """

    node: str
    left_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistrustEntry:
    """A peer that is not trusted with this digest. It is named once, with the gravest reason.

    ``left_s``: for how many more seconds.
    """

    digest: str
    node: str
    left_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransfersDocument:
    """The bodies under way in both directions, and the peers that pulls avoid.

    ``uploads_refused``: how many uploads were refused since the start, because there was no room.
    ``time``: when the document was made, UTC. What is left of a time counts from there.
    ``not_asked``: no pull of the digest asks the peer. ``asked_last``: it is asked when no other is left.
    """

    PATH: ClassVar[str] = "/api/transfers"

    time: str
    downloads: tuple[DownloadEntry, ...]
    uploads: tuple[UploadEntry, ...]
    uploads_refused: int
    cooling: tuple[CoolingEntry, ...]
    not_asked: tuple[DistrustEntry, ...]
    asked_last: tuple[DistrustEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonePairCostEntry:
    """The bytes from one zone to another, and their cost."""

    source_zone: str
    destination_zone: str
    size_bytes: int = field(metadata=json_key("bytes"))
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostsDocument:
    """Bytes and US dollars for each pair of zones, their sums, and what the mirror saves.

    ``since``: when the agent started, UTC; everything counts from there. ``time``: when the document was
    made. ``registry_bytes_saved``: body bytes that clients got from this agent; without a mirror each of them
    would have come from the registry. ``registry_usd_saved``: these bytes times ``costs.registry``.
    ``net_usd_saved``: that minus ``usd``.
    """

    PATH: ClassVar[str] = "/api/costs"

    time: str
    since: str
    pairs: tuple[ZonePairCostEntry, ...]
    size_bytes: int = field(metadata=json_key("bytes"))
    usd: float
    registry_bytes_saved: int
    registry_usd_saved: float
    net_usd_saved: float
