"""Our part of a hosts.toml: the lines between two marks. Pure.

All else in the file is its owner's. Taking the part out gives back the owner's text byte for byte; what
cannot be told from the text (that we made the file, its directory, or the newline before the part) is in the
mark, and so is the file's mode, if it was another one before the part had a token in it.
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
_MODE = " The file's mode was {:04o}."
_BEGINS = re.compile(
    rf"^{re.escape(_BEGIN)}[^\n]*?(?: The file's mode was (?P<mode>[0-7]{{4}})\.)?"
    r"(?: \[(?P<made>[a-z., ]*)\])?\r?$",
    re.MULTILINE,
)
_ENDS = re.compile(rf"^{re.escape(_END)}[^\n]*(?:\n|\Z)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where the part is in the text. ``made``: with it. ``mode``: the file's until then, if another."""

    start: int
    end: int
    made: frozenset[Made] = frozenset()
    mode: int | None = None

    def cut_from(self, text: str) -> str:
        """The owner's text."""
        before, after = text[: self.start], text[self.end :]
        if Made.NEWLINE in self.made and not after:
            before = before.removesuffix("\n").removesuffix("\r")
        return before + after


def make_part(body: str, made: Iterable[Made], newline: str, *, mode: int | None = None) -> str:
    """The text of a part with this body. Both end with a newline. ``mode``: to give the file back later."""
    reasons = set(made)
    words = ", ".join(each.value for each in Made if each in reasons)
    # Before the brackets, where versions that know of no mode look over it.
    says = _SAYS + ("" if mode is None else _MODE.format(mode))
    return f"{_BEGIN} {says}{f' [{words}]' if words else ''}{newline}{body}{_END}{newline}"


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
        mode=int(begins[0]["mode"], 8) if begins[0]["mode"] else None,
    )


def owners_text(text: str) -> str:
    """The text without our part. Raises `PartBroken`."""
    part = find_part(text)
    return text if part is None else part.cut_from(text)
