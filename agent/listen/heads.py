"""The heads of responses with content, and the range that a request's head asks for.

Source: OCI distribution spec 1.1, "Pull"; RFC 9110, 13.1.2 (If-None-Match), 14 (range requests).
"""

from aiohttp import web

from agent.listen.exchange import Exchange
from agent.observe.requests import REQUEST_HEADER, RequestRecord
from agent.oci.accept import accepts
from agent.oci.conditional import client_has, etag, if_range_holds
from agent.oci.digest import Digest
from agent.oci.errors import ManifestUnknown
from agent.oci.ranges import ByteRange, RangeSpec, parse_range
from agent.oci.reference import Addressed
from agent.pull.chunks import is_first_chunk

API_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
_BLOB_TYPE = "application/octet-stream"


def content_headers(record: RequestRecord, digest: Digest, media_type: str) -> dict[str, str]:
    """The headers of content from the node that the record credits, if it does already."""
    source = {} if record.tier is None else {"Shorthaul-Source": _source(record)}
    return API_VERSION | {
        REQUEST_HEADER: record.id,
        "Content-Type": media_type,
        "Docker-Content-Digest": digest,
        "ETag": etag(digest),
        **source,
    }


def blob_headers(record: RequestRecord, digest: Digest) -> dict[str, str]:
    """The headers of a blob from the node that the record credits. Only blobs are sent in ranges."""
    return content_headers(record, digest, _BLOB_TYPE) | {"Accept-Ranges": "bytes"}


def require_accepted(exchange: Exchange, target: Addressed, media_type: str) -> None:
    """Raise `ManifestUnknown` if the client's Accept headers exclude this media type, as registries do.

    404 and not 406, so that containerd asks its next host.
    """
    if not accepts(exchange.request.headers.getall("Accept", ()), media_type):
        raise ManifestUnknown(
            f"{target}: its media type {media_type} is not among those that the client accepts",
            hint=f"add {media_type} to the Accept header",
        )


def not_modified(exchange: Exchange, digest: Digest, headers: dict[str, str]) -> web.Response | None:
    """A 304 if the client has this content already, else None. Sets the record's status."""
    if not client_has(exchange.header("If-None-Match"), digest):
        return None
    exchange.record.status = 304
    return web.Response(status=304, headers=headers)


def body_head(
    exchange: Exchange, selected: ByteRange | None, size_bytes: int, headers: dict[str, str]
) -> web.StreamResponse:
    """The head of a 200, or of a 206 for a range. Sets the status on the record."""
    headers = {**headers, "Content-Length": str(selected.length if selected else size_bytes)}
    if selected:
        headers["Content-Range"] = selected.content_range
    exchange.record.status = 206 if selected else 200
    return web.Response(status=exchange.record.status, headers=headers)


def requested_range(exchange: Exchange, digest: Digest, size_bytes: int | None) -> RangeSpec | None:
    """The range that is asked for. None for a HEAD (RFC 9110, 14.2), and if If-Range names other content.

    Raises `RangeInvalid` if the range is malformed.
    """
    if exchange.is_head or not if_range_holds(exchange.header("If-Range"), digest):
        return None
    return parse_range(exchange.header("Range"), size_bytes)


def wanted_range(exchange: Exchange, digest: Digest, size_bytes: int | None) -> RangeSpec | None:
    """The range to send. None: all of it, also to a containerd that asks for the first of several chunks.

    Raises `RangeInvalid` if the range is malformed.
    """
    spec = requested_range(exchange, digest, size_bytes)
    return None if exchange.caller.fetches_in_chunks and is_first_chunk(spec) else spec


def _source(record: RequestRecord) -> str:
    """Which node the bytes come from and why, and whose word the tag is, in ASCII, as a header needs it."""
    source = f'node={record.node}; tier={record.tier_label}; reason="{_quotable(record.reason)}"'
    tag = record.tag
    if tag is None:
        return source
    origin = "import" if tag.imported else "registry"
    told_by, vouched_by = _quotable(tag.told_by), _quotable(tag.vouched_by)
    return f"{source}; tag-told-by={told_by}; tag-vouched-by={vouched_by}; tag-{origin}-age-s={tag.age_s:.0f}"


def _quotable(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
