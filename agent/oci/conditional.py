"""Conditional requests. A content's entity tag is its digest, so it is strong and never changes.

Source: RFC 9110, 8.8.3 (ETag), 13.1.2 (If-None-Match), 13.1.5 (If-Range).
"""

from agent.oci.digest import Digest


def etag(digest: Digest) -> str:
    """The entity tag of the content with this digest."""
    return f'"{digest}"'


def client_has(if_none_match: str | None, digest: Digest) -> bool:
    """Whether the client has this content, which exists, already: answer 304."""
    if if_none_match is None:
        return False
    known = {entry.strip().removeprefix("W/") for entry in if_none_match.split(",")}
    return "*" in known or etag(digest) in known


def if_range_holds(if_range: str | None, digest: Digest) -> bool:
    """Whether a Range counts: without If-Range, or if the client's part is of this very content."""
    return if_range is None or if_range.strip() == etag(digest)
