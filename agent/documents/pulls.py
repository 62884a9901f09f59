"""Pulls of whole images, as far as requests show them: ``/api/pulls``."""

from dataclasses import dataclass, field
from typing import ClassVar

from agent.documents.codec import json_key
from agent.documents.requests import RequestDocument, StepEntry
from agent.documents.sums import TierBytesEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowestEntry:
    """The step that took longest, and its request."""

    request: str
    step: StepEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class PullEntry:
    """The requests of one client for one repository, as long as no more than 30 s lie between two of them.

    ``id``: that of its first request. ``image``: registry and repository. ``references``: the tags that were
    asked for, or the digests of manifests if there was no tag. ``client``: the node that asks, or else an
    address. ``seconds``: from the first arrival to the last end, or so far. ``requests``: the ids of the last
    of them, the oldest first. ``running``: those that are under way, 64 at most. ``not_found``: how many got
    a 404: the client asks the registry. ``failed``: how many others were not answered in full.
    ``verdict``: that of their connections, the gravest one.
    """

    id: str
    image: str
    references: tuple[str, ...]
    path: str
    client: str
    started_at: str
    seconds: float
    under_way: bool
    requests: tuple[str, ...]
    request_count: int
    size_bytes: int = field(metadata=json_key("bytes"))
    bytes_by_tier: tuple[TierBytesEntry, ...]
    not_found: int
    failed: int
    verdict: str | None
    slowest: SlowestEntry | None
    running: tuple[RequestDocument, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullsDocument:
    """The last pulls of clients that this node serves, the newest first. Other agents' requests are none."""

    PATH: ClassVar[str] = "/api/pulls"

    time: str
    node: str
    pulls: tuple[PullEntry, ...]
