"""Conditional requests. The entity tag of a content is its digest, so it is strong and never changes.

Source: RFC 9110, 8.8.3 (ETag), 13.1.2 (If-None-Match), 13.1.5 (If-Range).
"""

from agent.oci.digest import Digest


def etag(digest: Digest) -> str:
    """The entity tag of the content with this digest."""
    return f'"{digest}"'


def client_has(if_none_match: str | None, digest: Digest) -> bool:
    """Whether the client already has this content, so that the answer is 304. The content exists."""
    if if_none_match is None:
        return False
    known = {entry.strip().removeprefix("W/") for entry in if_none_match.split(",")}
    return "*" in known or etag(digest) in known


def if_range_holds(if_range: str | None, digest: Digest) -> bool:
    """Whether the Range header counts: there is no If-Range, or the client's part is of this very content."""
    return if_range is None or if_range.strip() == etag(digest)
