"""Writes parts into pages between two marks; the rest of a page stays as it is. Pure.

<!-- bench: latency -->
... written anew ...
<!-- /bench: latency -->
"""

import re
from collections.abc import Iterator, Mapping


def fill(text: str, kind: str, parts: Mapping[str, str]) -> str:
    """The page with these parts. ``kind``: the word in the marks. A part that is not given stays as it is."""

    def one(found: re.Match[str]) -> str:
        part = parts.get(found[2])
        return found[0] if part is None else f"{found[1]}{part}\n{found[4]}"

    return _marks(kind).sub(one, text)


def parts_of(text: str, kind: str) -> Iterator[tuple[str, str]]:
    """The names and the texts of a page's parts."""
    for found in _marks(kind).finditer(text):
        yield found[2], found[3].rstrip("\n")


def _marks(kind: str) -> re.Pattern[str]:
    word = re.escape(kind)
    return re.compile(rf"(<!-- {word}: ([a-z0-9-]+) -->\n)(.*?)(<!-- /{word}: \2 -->)", re.DOTALL)
