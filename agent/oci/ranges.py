"""Single byte ranges of a content whose size is known.

Source: RFC 9110, 14.1.1 (ranges-specifier), 14.2 (Range), 14.4 (Content-Range). A header with several ranges
gets the whole content, which 14.2 allows.
"""

import re
from dataclasses import dataclass

from agent.oci.errors import RangeInvalid

_INT_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{0,19})", re.ASCII)
_SUFFIX_RANGE = re.compile(r"-([0-9]{1,19})", re.ASCII)
_UNSATISFIED_RANGE = re.compile(r"bytes \*/([0-9]{1,19})", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeSpec:
    """The range that a client asked for, before the size is known. Both ends are inclusive.

    If ``first`` is None, the range is the last ``last`` bytes. If ``last`` is None, it goes to the end.
    """

    first: int | None
    last: int | None

    def __str__(self) -> str:
        first = "" if self.first is None else self.first
        return f"bytes={first}-{'' if self.last is None else self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """Bytes ``start`` (inclusive) to ``stop`` (exclusive) of a content of ``size_bytes``."""

    start: int
    stop: int
    size_bytes: int

    @property
    def length(self) -> int:
        """How many bytes the range has."""
        return self.stop - self.start

    @property
    def content_range(self) -> str:
        """The value of the Content-Range header."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size_bytes}"


def parse_range(header: str | None, size_bytes: int | None = None) -> RangeSpec | None:
    """The range of a Range header, or None if the answer is the whole content.

    None: no header, another unit, or several ranges. Raises `RangeInvalid` for a malformed header, so that a
    client learns of its mistake instead of receiving gigabytes that it did not ask for. ``size_bytes``, if
    known, goes into that error's Content-Range.
    """
    if header is None:
        return None
    unit, equals, specs = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    specs = specs.strip()
    if "," in specs:
        return None
    if equals and (match := _INT_RANGE.fullmatch(specs)):
        first, last = int(match[1]), int(match[2]) if match[2] else None
        if last is None or first <= last:
            return RangeSpec(first=first, last=last)
    if equals and (match := _SUFFIX_RANGE.fullmatch(specs)):
        return RangeSpec(first=None, last=int(match[1]))
    raise RangeInvalid(
        f"{header[:80]!r} is not a byte range",
        size_bytes=size_bytes,
        hint="bytes=FIRST-LAST, bytes=FIRST- or bytes=-LENGTH",
    )


def select(spec: RangeSpec | None, size_bytes: int) -> ByteRange | None:
    """The bytes that ``spec`` selects from a content of ``size_bytes``. None: all of them.

    Raises `RangeInvalid` (416, with the size) if the range selects nothing. An empty content is always sent
    whole, as registries do: a client that adds a range to each of its requests must not fail.
    """
    if spec is None or size_bytes == 0:
        return None
    if spec.first is None:
        length = min(spec.last or 0, size_bytes)
        start, stop = size_bytes - length, size_bytes
    else:
        start = spec.first
        stop = size_bytes if spec.last is None else min(spec.last + 1, size_bytes)
    if start >= stop:
        raise RangeInvalid(f"{spec} selects nothing of {size_bytes} bytes", size_bytes=size_bytes)
    return ByteRange(start=start, stop=stop, size_bytes=size_bytes)


def is_unsatisfiable(spec: RangeSpec, size_bytes: int) -> bool:
    """Whether ``spec`` selects nothing of a content of this size."""
    try:
        select(spec, size_bytes)
    except RangeInvalid:
        return True
    return False


def parse_unsatisfied_range(header: str | None) -> int | None:
    """The size in the Content-Range of a 416 (``bytes */SIZE``). None if there is none."""
    match = _UNSATISFIED_RANGE.fullmatch(header or "")
    return int(match[1]) if match else None


def parse_content_range(header: str | None) -> ByteRange | None:
    """A Content-Range header as a `ByteRange`. None if it is missing, malformed or contradicts itself."""
    match = _CONTENT_RANGE.fullmatch(header or "")
    if not match:
        return None
    first, last, size = (int(group) for group in match.groups())
    if not first <= last < size:
        return None
    return ByteRange(start=first, stop=last + 1, size_bytes=size)
