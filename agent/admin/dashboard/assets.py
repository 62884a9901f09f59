"""The files of the page: read once, compressed once, each with a strong ETag."""

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_STATIC = Path(__file__).with_name("static")
_INDEX = "index.html"
_PREFIX = "/static/"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
_COMPRESSION = 9  # once in the life of an agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file as it is sent. ``etag``, ``gzipped_etag``: with their quotation marks.

    They differ: a strong tag stands for the bytes that are sent (RFC 9110, 8.8.1).
    """

    content_type: str
    etag: str
    gzipped_etag: str
    body: bytes
    gzipped: bytes


def asset_paths() -> Iterator[tuple[str, Path]]:
    """The path of each page's file in a URL, and the file. A file of another kind is not served."""
    for file in sorted(_STATIC.rglob("*")):
        if file.suffix in _TYPES and file.is_file():
            name = file.relative_to(_STATIC).as_posix()
            yield ("/" if name == _INDEX else f"{_PREFIX}{name}"), file


@cache
def read_asset(file: Path) -> Asset:
    """The file's content. It is read when somebody asks for it first, and then kept. Raises OSError."""
    body = file.read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:32]
    return Asset(
        content_type=_TYPES[file.suffix],
        etag=f'"{digest}"',
        gzipped_etag=f'"{digest}-gzip"',
        body=body,
        gzipped=gzip.compress(body, _COMPRESSION, mtime=0),
    )


def is_current(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this version (RFC 9110, 13.1.2). A weak tag counts: a proxy may weaken it."""
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag in tags


def takes_gzip(accept_encoding: str | None) -> bool:
    """Whether the client takes gzip (RFC 9110, 12.5.3). ``gzip;q=0`` says that it does not."""
    for item in (accept_encoding or "").split(","):
        coding, _, weight = item.strip().partition(";")
        if coding.strip().lower() == "gzip":
            return weight.replace(" ", "").lower() not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
