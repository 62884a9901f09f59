"""The words of the preflight: what is looked at, and what is said of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Status(Enum):
    """How much a finding matters."""

    GOOD = "ok"
    WARN = "warn"  # works, or may not be wrong, but a person should know
    BAD = "bad"  # the proof, or the path itself, can't work like this


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding. ``detail`` is what was found; ``hint`` what to do, empty when there is nothing to do.

    Both are plain text on one line, free of control characters whatever the node's files and processes say.
    They may hold square brackets: escape them for what reads markup.
    """

    name: str
    status: Status
    detail: str
    hint: str = ""


def good(name: str, detail: str) -> Check:
    """Nothing to do."""
    return Check(name=name, status=Status.GOOD, detail=detail)


def warn(name: str, detail: str, *, hint: str) -> Check:
    """Something that a person should know."""
    return Check(name=name, status=Status.WARN, detail=detail, hint=hint)


def bad(name: str, detail: str, *, hint: str) -> Check:
    """Something that can't work."""
    return Check(name=name, status=Status.BAD, detail=detail, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The node to look at.

    ``host_address``: where containerd reaches the agent; its family is the one whose rules are read.
    ``proc``, ``sys``: another place than the usual one when the node's own are mounted elsewhere.
    ``cgroup``, ``containerd_cgroup``: directories, when they are not to be searched for.
    """

    host_port: int = 30020
    node_port: int = 30021
    host_address: str = "127.0.0.1"
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    kube_proxy_url: str = "http://127.0.0.1:10249"
    cgroup: Path | None = None
    containerd_cgroup: Path | None = None


def shown(text: str, most: int = 120) -> str:
    """Foreign text as it may be shown: on one line, printable, not longer than ``most`` characters."""
    head = " ".join(text[: 4 * most].split())
    clean = "".join(letter if letter.isprintable() else "?" for letter in head)
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def listed(items: Iterable[str], most: int = 5, *, width: int = 60) -> str:
    """The first items, each of so many characters at most, and how many more there are."""
    every = list(items)
    rest = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(shown(item, width) for item in every[:most]) + rest
