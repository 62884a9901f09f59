"""What to request from a peer, and whether the head of its answer is valid. Does no I/O."""

from dataclasses import dataclass

from agent.oci.digest import digest_of
from agent.oci.errors import WAIT_HEADER, WITHHELD_HEADER, RangeInvalid
from agent.oci.ranges import (
    ByteRange,
    RangeSpec,
    is_unsatisfiable,
    parse_content_range,
    parse_unsatisfied_range,
    select,
)
from agent.oci.reference import Addressed, Kind
from agent.peering.dial import TLS_ONLY
from agent.peering.heads import ResponseHead
from agent.peering.tlsfailure import ASKS_FOR_TLS
from agent.pull.arrival import read_arrival, read_shared
from agent.pull.events import Failure
from topology.placement import NodeName


class AttemptFailed(Exception):
    """A fetch gave nothing usable, or broke off.

    ``size_bytes``: the content's size, if the failure is UNSATISFIABLE. ``told_wait_s``: after what time a
    BUSY peer says to come back; None if it does not say. ``instead``: whom to ask, if the failure is SHARED.
    ``request``: the id that the request has there.
    """

    def __init__(
        self,
        failure: Failure,
        message: str,
        *,
        size_bytes: int | None = None,
        told_wait_s: float | None = None,
        instead: tuple[NodeName, ...] = (),
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.size_bytes = size_bytes
        self.told_wait_s = told_wait_s
        self.instead = instead
        self.request: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """What to fetch from a peer.

    ``size_bytes``: the content's size, if a manifest named it. ``config``: a manifest says that this is an
    image's config, so verify it before it is delivered, like a manifest. ``chunk``: the client fetches a blob
    in parts, and has the head of an earlier one. If this one fails, it gives up the blob. ``follow``: take it
    from a node that is still fetching it, too (`agent.pull.arrival`). ``waits``: until that node has got as
    far, for a moment.
    """

    target: Addressed
    range_spec: RangeSpec | None = None
    head: bool = False
    size_bytes: int | None = None
    config: bool = False
    chunk: bool = False
    follow: bool = False
    waits: bool = True

    @property
    def url_path(self) -> str:
        """Path and query. The parts are valid already. A colon and brackets in ``ns`` are not escaped."""
        target = self.target
        room = "blobs" if target.kind is Kind.BLOB else "manifests"
        query = "" if target.registry is None else f"?ns={target.registry}"
        return f"/v2/{target.repository}/{room}/{target.digest}{query}"


def check(head: ResponseHead, wanted: FetchRequest) -> tuple[ByteRange | None, int]:
    """The range and the whole size that a head announces. Raises `AttemptFailed` if the head is invalid."""
    _check_status(head, wanted)
    return _check_length(head, wanted)


def _check_status(head: ResponseHead, wanted: FetchRequest) -> None:
    status = head.status
    if status in (200, 206):
        return
    if status == 416 and wanted.range_spec is not None:
        size_bytes = parse_unsatisfied_range(head.headers.get("content-range"))
        if wanted.size_bytes not in (None, size_bytes):
            raise AttemptFailed(Failure.OTHER_SIZE, f"{size_bytes} bytes where it has {wanted.size_bytes}")
        if size_bytes is not None and is_unsatisfiable(wanted.range_spec, size_bytes):
            raise AttemptFailed(Failure.UNSATISFIABLE, "status 416", size_bytes=size_bytes)
    if wanted.follow:
        _check_arrival(head)
    failure = {404: Failure.MISSING, 429: Failure.BUSY}.get(status, Failure.ERROR)
    if failure is Failure.MISSING and WITHHELD_HEADER.lower() in head.headers:
        failure = Failure.WITHHELD
    words = f": {ASKS_FOR_TLS}" if status == TLS_ONLY else ""
    raise AttemptFailed(failure, f"status {status}{words}", told_wait_s=_told_wait_s(head))


def _check_arrival(head: ResponseHead) -> None:
    """Raises `AttemptFailed` if the peer says that it is not ahead, or from whom to take the content."""
    if head.status == 404 and (arrival := read_arrival(head.headers)) is not None:
        words = f"it is fetching it, and has {arrival.available_bytes} bytes so far"
        raise AttemptFailed(Failure.STARVED, words)
    if head.status == 429 and (instead := read_shared(head.headers)):
        raise AttemptFailed(Failure.SHARED, "it gives it to other nodes now", instead=instead)


def _told_wait_s(head: ResponseHead) -> float | None:
    exact, rough = head.headers.get(WAIT_HEADER.lower(), ""), head.headers.get("retry-after", "")
    for text, unit_s in ((exact, 0.001), (rough, 1.0)):
        if text.isascii() and text.isdecimal() and len(text) < 10:
            return int(text) * unit_s
    return None


def _check_length(head: ResponseHead, wanted: FetchRequest) -> tuple[ByteRange | None, int]:
    """The range and the whole size that the head announces, if they fit the request and each other."""
    encoded = head.headers.get("content-encoding", "identity") != "identity"
    if encoded or "transfer-encoding" in head.headers:
        raise AttemptFailed(Failure.INVALID, "the content is in another encoding")
    text = head.headers.get("content-length", "")
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise AttemptFailed(Failure.INVALID, "no Content-Length")
    length = int(text)
    if head.status == 206:
        selected = parse_content_range(head.headers.get("content-range"))
        if selected is None or selected.length != length or wanted.range_spec is None:
            raise AttemptFailed(Failure.INVALID, "the Content-Range does not fit")
        size_bytes = selected.size_bytes
    else:
        selected, size_bytes = None, length
    if size_bytes == 0 and digest_of(b"", like=wanted.target.digest) != wanted.target.digest:
        raise AttemptFailed(Failure.INVALID, "the content is empty, and the digest is not that of no bytes")
    if wanted.size_bytes is not None and size_bytes != wanted.size_bytes:
        raise AttemptFailed(Failure.OTHER_SIZE, f"{size_bytes} bytes where it has {wanted.size_bytes}")
    try:
        expected = select(wanted.range_spec, size_bytes)
    except RangeInvalid as error:
        raise AttemptFailed(Failure.INVALID, "the range is outside of the content") from error
    if expected != selected:
        raise AttemptFailed(Failure.INVALID, "not the range that was requested")
    return selected, size_bytes
