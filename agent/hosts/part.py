"""Our part of a hosts.toml: the lines between two marks. Pure.

All else in the file is its owner's. Taking the part out gives back the owner's text byte for byte; what
cannot be told from the text (that we made the file, its directory, or the newline before the part) is in the
mark.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Made(Enum):
    """What came into being with a part, and goes with it."""

    NEWLINE = "newline"
    FILE = "file"
    DIRECTORY = "directory"
    CERTS_D = "certs.d"


class PartBroken(Exception):
    """One of the marks is missing or there twice, so nobody knows what is ours."""


_BEGIN = "# >>> shorthaul >>>"
_END = "# <<< shorthaul <<<"
_SAYS = "Written by `shorthaul configure`; `shorthaul unconfigure` takes it out. Changes in here get lost."
_BEGINS = re.compile(rf"^{re.escape(_BEGIN)}[^\n]*?(?: \[(?P<made>[a-z., ]*)\])?\r?$", re.MULTILINE)
_ENDS = re.compile(rf"^{re.escape(_END)}[^\n]*(?:\n|\Z)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where the part is in the text, and what was made with it."""

    start: int
    end: int
    made: frozenset[Made] = frozenset()

    def cut_from(self, text: str) -> str:
        """The owner's text."""
        before, after = text[: self.start], text[self.end :]
        if Made.NEWLINE in self.made and not after:
            before = before.removesuffix("\n").removesuffix("\r")
        return before + after


def make_part(body: str, made: Iterable[Made], newline: str) -> str:
    """The text of a part with this body. Both end with a newline."""
    reasons = set(made)
    words = ", ".join(each.value for each in Made if each in reasons)
    return f"{_BEGIN} {_SAYS}{f' [{words}]' if words else ''}{newline}{body}{_END}{newline}"


def has_marks(data: bytes) -> bool:
    """Whether a file has a mark of ours, whole or broken, without a look at what it says."""
    return any(re.search(b"^" + re.escape(mark.encode()), data, re.MULTILINE) for mark in (_BEGIN, _END))


def find_part(text: str) -> Part | None:
    """Our part. None if there is none. Raises `PartBroken`."""
    begins, ends = list(_BEGINS.finditer(text)), list(_ENDS.finditer(text))
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or ends[0].start() < begins[0].end():
        raise PartBroken(
            f"it has {len(begins)} lines '{_BEGIN}' and {len(ends)} lines '{_END}', not one of each"
        )
    words = (begins[0]["made"] or "").split(", ")
    return Part(
        start=begins[0].start(),
        end=ends[0].end(),
        made=frozenset(each for each in Made if each.value in words),
    )


def owners_text(text: str) -> str:
    """The text without our part. Raises `PartBroken`."""
    part = find_part(text)
    return text if part is None else part.cut_from(text)
