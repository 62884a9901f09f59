"""What the HTTP library accepts in the head of a request, and no client of ours sends. Pure.

aiohttp's parser refuses most of what two servers could understand in two ways: both Content-Length and
Transfer-Encoding, doubled lengths and hosts, folded lines, line ends that are none. It lets the rest through.
Whatever is refused here ends its connection, so nothing that follows is taken for a request. Source: RFC
9112, sections 3.2 (targets), 6.1 (Transfer-Encoding in HTTP/1.0) and 11.2 (request smuggling).
"""

from collections.abc import Sequence
from typing import Protocol

_ONCE = ("Authorization", "Range", "If-Range", "Origin", "Sec-Fetch-Site", "User-Agent")
"""Fields that something is decided by. Twice, two readers could take different ones."""

_VERSIONS = ((1, 1), (1, 0))


class Fields(Protocol):
    """The fields of a head, by names of any case."""

    def __contains__(self, name: object, /) -> bool: ...

    def get(self, name: str, default: str, /) -> str:
        """The first one of this name."""

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        """All of this name."""


def head_problem(method: str, target: str, version: tuple[int, int], fields: Fields) -> str | None:
    """Why a head is refused, or None. ``target``: as it was sent. Takes 3 µs."""
    if version not in _VERSIONS:
        return "its version is neither HTTP/1.1 nor HTTP/1.0"
    if method == "CONNECT":
        return "this is no proxy"
    if "Transfer-Encoding" in fields and not _is_chunked(version, fields):
        return "its Transfer-Encoding"
    if "#" in target:
        return "a fragment in its target"
    if not target.startswith("/") and target != "*" and not _is_for(target, fields.get("Host", "")):
        return "its target names another host than its field Host"
    for name in _ONCE:
        if len(fields.getall(name, ())) > 1:
            return f"its field {name} is there twice"
    return None


def _is_chunked(version: tuple[int, int], fields: Fields) -> bool:
    """Whether the body is framed by the one coding that each reader understands as the other does."""
    codings = [value.strip(" \t").lower() for value in fields.getall("Transfer-Encoding", ())]
    return version == (1, 1) and codings == ["chunked"]


def _is_for(target: str, host: str) -> bool:
    """Whether a target in absolute form is one of this host, as RFC 9112 says clients must write it."""
    scheme, separator, rest = target.partition("://")
    authority = rest.partition("/")[0].partition("?")[0]
    return bool(separator) and scheme.lower() in ("http", "https") and authority.lower() == host.lower() != ""
