"""The record of one request, from its arrival to its last byte, for metrics, log and API."""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any

from agent.documents.codec import to_plain
from agent.documents.requests import RequestDocument, SourceEntry, TagEntry
from agent.documents.times import utc
from agent.observe.steps import Steps
from topology.placement import NodeName, Tier

REQUEST_HEADER = "Shorthaul-Request"
"""The id of a request, in its answer."""


_HEADER = REQUEST_HEADER.lower()
_ID_DIGITS = 16
_DIGITS = frozenset("0123456789abcdef")


class RequestPath(Enum):
    """The listener that a request came in by."""

    HOSTPORT = "hostport"
    NODEPORT = "nodeport"
    PEER = "peer"


class Result(Enum):
    """The result of a request."""

    OK = "ok"
    REDIRECTED = "redirected"  # to a peer, which records its own result
    NOT_FOUND = "not_found"
    BUSY = "busy"  # no room for another upload: the peer has to ask another node
    REJECTED = "rejected"  # the client's mistake: any other 4xx
    CUT = "cut"  # the body ended before its announced length; the client resumes
    CLIENT_GONE = "client_gone"
    UNAVAILABLE = "unavailable"
    ERROR = "error"  # a bug


@dataclass(frozen=True, slots=True)
class SourceBytes:
    """How many bytes of a body one node gave. ``received_bytes``, ``in_flight_bytes``: see `SourceEntry`."""

    node: NodeName
    tier: Tier
    size_bytes: int
    received_bytes: int = 0
    in_flight_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TagSource:
    """Whose word says which digest a tag has. See `TagEntry`."""

    told_by: NodeName
    vouched_by: NodeName
    age_s: float
    imported: bool

    @property
    def words(self) -> str:
        """Who vouches for it, and since when."""
        how = "imported it" if self.imported else "saw it at the registry"
        return f"{self.vouched_by} {how} {self.age_s:.0f} s ago"

    def document(self) -> TagEntry:
        """It as a part of the API's documents."""
        return TagEntry(
            told_by=self.told_by,
            vouched_by=self.vouched_by,
            age_s=round(self.age_s, 3),
            imported=self.imported,
        )


def new_id() -> str:
    """A request's name, in its answer's headers, the log, the API and exemplars: 16 hexadecimal digits."""
    return os.urandom(8).hex()


def read_id(headers: Mapping[str, str]) -> str | None:
    """The id that another node gives to a request, in its answer. ``headers``: their names in lower case."""
    told = headers.get(_HEADER, "")
    return told if len(told) == _ID_DIGITS and _DIGITS.issuperset(told) else None


def _untold() -> Steps:
    return Steps(time.perf_counter)


@dataclass(slots=True, kw_only=True)
class RequestRecord:
    """Is filled in while the request is answered. Durations are in seconds, sizes in bytes.

    ``id``: see `new_id`. ``unix_s``: when it arrived, in seconds since 1970. ``steps``: what it waits for.
    """

    id: str = ""
    unix_s: float = 0.0
    path: RequestPath
    method: str
    kind: str = "other"
    target: str = ""
    digest: str | None = None
    status: int = 0
    result: Result = Result.OK
    tag: TagSource | None = None  # None: the request named a digest, or nobody vouches for the tag
    node: NodeName | None = None
    tier: Tier | None = None
    reason: str = ""
    body_bytes: int = 0
    body_length: int = 0  # the size of the whole body
    sources: tuple[SourceBytes, ...] = ()  # the peers that gave the bytes; empty for local content
    resumes: int = 0  # how often another peer went on with the body
    way: str | None = None  # how most of its bytes were sent; see `Metrics.sent`
    first_byte_s: float | None = None
    seconds: float = 0.0
    verdict: str | None = None  # that of its connection; None for a client of another node
    left_to_registry: bool = False  # a 404 that the settings ask for
    fault: bool = False  # a 404 although a node may have it: see `Outcome.FAILED`
    steps: Steps = field(default_factory=_untold)
    under_way: bool = False
    held_s: float = 0.0  # how long its client, or a limit on its rate, was waited for

    @property
    def source(self) -> str:
        """Where the bytes came from: ``local``, ``peer``, or ``none``."""
        if self.tier is None:
            return "none"
        return "local" if self.tier is Tier.NODE else "peer"

    @property
    def tier_label(self) -> str:
        """The source's tier, or ``none``."""
        return "none" if self.tier is None else self.tier.label

    def document(self) -> RequestDocument:
        """The record as a document of the API."""
        return RequestDocument(
            id=self.id,
            under_way=self.under_way,
            started_at=utc(self.unix_s),
            path=self.path.value,
            method=self.method,
            kind=self.kind,
            target=self.target,
            digest=self.digest,
            status=self.status,
            result=self.result.value,
            tag=None if self.tag is None else self.tag.document(),
            source=self.source,
            node=self.node,
            tier=self.tier_label,
            reason=self.reason,
            body_bytes=self.body_bytes,
            sources=tuple(
                SourceEntry(
                    node=part.node,
                    tier=part.tier.label,
                    size_bytes=part.size_bytes,
                    received_bytes=part.received_bytes,
                    in_flight_bytes=part.in_flight_bytes,
                )
                for part in self.sources
            ),
            resumes=self.resumes,
            way=self.way,
            first_byte_s=None if self.first_byte_s is None else round(self.first_byte_s, 6),
            seconds=round(self.seconds, 6),
            verdict=self.verdict,
            steps=self.steps.entries(),
            steps_left_out=self.steps.left_out,
        )

    def as_dict(self) -> dict[str, Any]:
        """The record for the log, with the same names as in the API, and without the steps."""
        plain: dict[str, Any] = to_plain(self.document())
        for name in ("under_way", "steps", "steps_left_out"):
            del plain[name]
        return plain


class RecentRequests:
    """The last requests and those under way, for the API. Bounded.

    A verdict may be added a moment after its request. ``elsewhere``: finds older ones by their ids, as
    `agent.observe.exemplars` does.
    """

    def __init__(
        self, keep: int = 512, elsewhere: Callable[[str], RequestRecord | None] = lambda _: None
    ) -> None:
        self.keep = keep
        self._elsewhere = elsewhere
        self._records: deque[RequestRecord] = deque(maxlen=keep)
        self.added = 0
        """How many ended so far."""
        self._under_way: dict[str, RequestRecord] = {}

    def begun(self, record: RequestRecord) -> None:
        """A request came in. `ended` follows for each."""
        record.under_way = True
        self._under_way[record.id] = record

    def ended(self, record: RequestRecord) -> None:
        """A request ended, or was none of those that are told of."""
        record.under_way = False
        self._under_way.pop(record.id, None)

    def add(self, record: RequestRecord) -> None:
        """Remember a request that ended. Forget the oldest one if there are too many."""
        self._records.append(record)
        self.added += 1

    def newest(self, limit: int) -> list[RequestRecord]:
        """The last so many, newest first. They are filled in later, too."""
        return [*islice(reversed(self._records), limit)]

    def newest_first(self, limit: int | None = None) -> tuple[RequestDocument, ...]:
        """The same as documents. All 512 of them take 8 ms: see `agent.admin.views.requests_view`."""
        return tuple(record.document() for record in self.newest(self.keep if limit is None else limit))

    def find(self, request_id: str) -> RequestDocument | None:
        """The request with this id, if it is under way or remembered."""
        found = self._under_way.get(request_id)
        if found is None:
            found = next((each for each in reversed(self._records) if each.id == request_id), None)
        if found is None:
            found = self._elsewhere(request_id)
        return None if found is None else found.document()
