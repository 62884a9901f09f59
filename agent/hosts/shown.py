"""Changes of files as a person reads them: a unified diff without the secrets. Pure."""

import difflib
import re
from collections.abc import Sequence

from agent.hosts.toml import parses

_TABLE = re.compile(r"^\s*\[(?P<path>.*)\]\s*(?:#.*)?$")
_HEADER_TABLE = re.compile(r"(?:^|\.)\s*[\"']?header[\"']?\s*$")
_VALUE = re.compile(r"^(?P<key>[^=\n]+=\s*).*?(?P<end>\r?\n?)$", re.DOTALL)
_INLINE = re.compile(r"^(?P<key>[\s#]*(?:[^=]*\.)?[\"']?header[\"']?[^=]*=\s*).*?(?P<end>\r?\n?)$", re.DOTALL)
_HIDDEN = "(not shown)"
_VALUE_LINES_MAX = 100  # each look for the end of a value reads all of it again


def diff(path: str, before: bytes | None, after: bytes | None) -> str:
    """The change of one file. Values of header tables, which hold tokens, are not shown."""
    old, new = (_lines(each) for each in (before, after))
    names = [path if each is not None else "/dev/null" for each in (before, after)]
    if old == new and before != after:
        return f"--- {names[0]}\n+++ {names[1]}\n(only what is not shown here changes)\n"
    lines = difflib.unified_diff(old, new, names[0], names[1])
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _lines(data: bytes | None) -> list[str]:
    text = (data or b"").decode(errors="replace")
    found, secret, unfinished = [], False, 0
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if (
            number < unfinished
        ):  # a hidden value goes on: none of its lines is a table, whatever it looks like
            found.append(f"{_HIDDEN}\n")
            continue
        table = _TABLE.match(line)
        if table is not None:
            secret = _HEADER_TABLE.search(table["path"]) is not None
        shown = line if table else (_VALUE if secret else _INLINE).sub(rf"\g<key>{_HIDDEN}\g<end>", line)
        if shown != line and not line.lstrip().startswith("#"):
            unfinished = _end(lines, number)
        found.append(shown)
    return found


def _end(lines: Sequence[str], start: int) -> int:
    """The line after the value that begins in this one. After the last line, if its end is far or missing."""
    ends = range(start + 1, min(len(lines), start + _VALUE_LINES_MAX) + 1)
    return next((end for end in ends if parses("".join(lines[start:end]))), len(lines))
