"""The new text of a hosts.toml: its owner's, with our part in the place where containerd tries it first.
Pure.

The owner's bytes stay as they are. Our hosts come before the owner's, because containerd tries the hosts in
the order of the file; tables can't come before the keys of the root (``server``), so the place is before the
first host's table. Hosts that the owner wrote with an address of ours are left where they are.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.hosts.hostsfile import endpoint_of
from agent.hosts.mirror import Mirror
from agent.hosts.part import Made, find_part, make_part
from agent.hosts.toml import TomlInvalid, parse, parses

_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)
_COMMENT = re.compile(r"[ \t]*#")
_TRIES_MAX = 100


class CantMerge(Exception):
    """Our part can't be put into this file. ``hint``: what its owner can do."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The new text. ``hosts``: all that containerd tries, in order. ``kept``: addresses of ours that the
    owner wrote, and that were therefore not added. ``in_order``: whether ours are tried in the order asked
    for, and before any other. ``secret``: whether ours hold a token.
    """

    text: str
    hosts: tuple[str, ...]
    kept: tuple[str, ...] = ()
    in_order: bool = True
    secret: bool = False


@dataclass(frozen=True, slots=True)
class _Header:
    """Where a table begins, and its path."""

    start: int
    path: tuple[str, ...] = field(default=())


def merge(text: str, mirror: Mirror, made: Iterable[Made] = (), *, mode: int | None = None) -> Merged:
    """The owner's text with our part. Raises `TomlInvalid`, `CantMerge`.

    ``mode``: the owner's mode of the file, to be kept in mind if a token makes it another one.
    """
    before = parse(text)
    kept = {url: name for url in mirror.urls if (name := _named(_hosts(before), url)) is not None}
    added = [url for url in mirror.urls if url not in kept]
    new = text
    secret = any(mirror.has_token(url) for url in added)
    if added:
        newline = newline_of(text)
        at = _place(text, mirror, added, kept)
        head, reasons = text[:at], set(made)
        if head and not head.endswith("\n"):
            head += newline
            reasons.add(Made.NEWLINE)
        kept_mode = mode if secret and mode is not None and mode != closed_mode(mode) else None
        part = make_part(_body(mirror, added, newline), reasons, newline, mode=kept_mode)
        new = head + part + text[at:]
    hosts = _checked(new, before, mirror, added)
    wanted = [kept.get(url, url) for url in mirror.urls]
    return Merged(
        text=new,
        hosts=tuple(hosts),
        kept=tuple(kept.values()),
        in_order=list(hosts)[: len(wanted)] == wanted,
        secret=secret,
    )


def merge_copy(text: str, mirror: Mirror, made: Iterable[Made]) -> Merged:
    """A file that is wholly ours: a copy of another one's text, with our hosts. Raises as `merge` does."""
    merged, newline = merge(text, mirror), newline_of(text)
    part = find_part(merged.text)
    body = merged.text
    if part is not None:
        body = (
            body[: part.start]
            + _body(mirror, [url for url in mirror.urls if url not in merged.kept], newline)
            + body[part.end :]
        )
    if not body.endswith("\n"):
        body += newline
    new = make_part(body, {*made, Made.FILE}, newline)
    return replace(merged, text=new)


def closed_mode(mode: int | None) -> int:
    """The mode of a file with a token in it: nothing but what its owner has. None: a new file's."""
    return 0o600 if mode is None else (mode & 0o600) or 0o600


def newline_of(text: str) -> str:
    """How the lines of this text end."""
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def _body(mirror: Mirror, urls: Sequence[str], newline: str) -> str:
    return "".join(f"{line}{newline}" for line in mirror.tables(urls))


def _place(text: str, mirror: Mirror, added: Sequence[str], kept: dict[str, str]) -> int:
    """Where the part goes: before the first host, or behind the owner's that is to be tried before it."""
    headers = _headers(text)
    earlier = [kept[url] for url in mirror.urls[: mirror.urls.index(added[0])] if url in kept]
    if earlier:
        is_earlier = [header.path[:2] == ("host", earlier[-1]) for header in headers]
        last = max((number for number, yes in enumerate(is_earlier) if yes), default=len(headers) - 1)
        rest = headers[last + 1 :]
        return _above_comments(text, rest[0].start) if rest else len(text)
    first = next((each for each in headers if len(each.path) > 1 and each.path[0] == "host"), None)
    return len(text) if first is None else _above_comments(text, first.start)


def _headers(text: str) -> list[_Header]:
    """The tables of a TOML text. A line that looks like a header may be a part of a string or of a list."""
    found: list[_Header] = []
    last = 0  # what is between two headers is a document of its own
    tries = _TRIES_MAX
    for match in _HEADER.finditer(text):
        line = text[match.start() : _line_end(text, match.start())]
        if not parses(line):
            continue
        if not parses(text[last : match.start()]):
            tries -= 1
            if not tries:  # each try reads all of that string again
                raise CantMerge(
                    f"one of its strings has {_TRIES_MAX} lines that look like tables",
                    hint="shorten that string",
                )
            continue
        last = match.start()
        found.append(_Header(last, _path(parse(line))))
    return found


def _path(document: Any) -> tuple[str, ...]:
    path: list[str] = []
    while document:
        if isinstance(document, list):
            document = document[0]
            continue
        key = next(iter(document))
        path.append(key)
        document = document[key]
    return tuple(path)


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end + 1


def _above_comments(text: str, start: int) -> int:
    """Before the comments directly above, which are about this table; but not above the file's first line."""
    place = start
    while place and (line := text.rfind("\n", 0, place - 1) + 1) > 0 and _COMMENT.match(text, line, place):
        place = line
    return place if parses(text[:place]) else start


def _named(hosts: dict[str, Any], url: str) -> str | None:
    """How the owner's file names this address of ours. None if it does not."""
    if url in hosts:
        return url
    wanted = endpoint_of(url)
    return next((each for each in hosts if each.startswith("http://") and endpoint_of(each) == wanted), None)


def _hosts(document: dict[str, Any]) -> dict[str, Any]:
    hosts = document.get("host", {})
    if not isinstance(hosts, dict) or not all(isinstance(table, dict) for table in hosts.values()):
        raise CantMerge("its `host` is not a table of hosts", hint='write hosts as [host."URL"] tables')
    return hosts


def _checked(new: str, before: dict[str, Any], mirror: Mirror, added: Sequence[str]) -> dict[str, Any]:
    """The hosts of the new text. Raises `CantMerge` if it does not say what it has to say."""
    hint = 'write each host as a table of its own, [host."URL"], after the keys of the root'
    try:
        after = parse(new)
    except TomlInvalid as error:
        raise CantMerge(f"its hosts are written so that none can be added: {error}", hint=hint) from error
    hosts = _hosts(after)
    ours = _hosts(parse(_body(mirror, added, "\n")))
    theirs = {url: table for url, table in hosts.items() if url not in ours}
    # As text, because that also compares the order, and NaN is not equal to itself.
    if repr(_without_hosts(after)) != repr(_without_hosts(before)) or repr(theirs) != repr(_hosts(before)):
        raise CantMerge("our hosts can't be added without changing its own", hint=hint)
    if {url: hosts.get(url) for url in ours} != ours:
        raise CantMerge("our hosts are not in it as they should be", hint=hint)
    return hosts


def _without_hosts(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "host"}
