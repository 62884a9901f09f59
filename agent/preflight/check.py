"""The values of the preflight: the node to check, and a finding."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Status(Enum):
    """How much a finding matters."""

    GOOD = "ok"
    WARN = "warn"  # it may work, but a person should know
    BAD = "bad"  # the proof, or the path itself, can't work like this
    UNKNOWN = "?"  # it could not be looked at, which is no success


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding. ``detail``: what was found. ``hint``: what to do, empty if there is nothing to do.

    ``lines``: what to write into a file, as it is. All are plain text on one line without control characters,
    whatever the node's files and processes contain. They may contain square brackets, which must be
    escaped before they are printed as rich markup.
    """

    name: str
    status: Status
    detail: str
    hint: str = ""
    lines: tuple[str, ...] = ()


def good(name: str, detail: str) -> Check:
    """A finding with nothing to do."""
    return Check(name=name, status=Status.GOOD, detail=detail)


def warn(name: str, detail: str, *, hint: str, lines: tuple[str, ...] = ()) -> Check:
    """A finding that a person should know about."""
    return Check(name=name, status=Status.WARN, detail=detail, hint=hint, lines=lines)


def bad(name: str, detail: str, *, hint: str, lines: tuple[str, ...] = ()) -> Check:
    """A finding that can't work."""
    return Check(name=name, status=Status.BAD, detail=detail, hint=hint, lines=lines)


def unknown(name: str, why: str, *, hint: str = "") -> Check:
    """Nothing was found out."""
    return Check(name=name, status=Status.UNKNOWN, detail=f"not known: {why}", hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightTarget:
    """The node to check, and where to find what is checked.

    ``host_address``: the address by which containerd reaches the agent. The rules of its address family are
    read. ``proc``, ``sys``: where the node's procfs and sysfs are mounted. ``cgroup``, ``containerd_cgroup``:
    directories of cgroup v2; None: search for them.
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
    """Foreign text that is safe to show: on one line, printable, at most ``most`` characters."""
    head = " ".join(text[: 4 * most].split())
    clean = "".join(letter if letter.isprintable() else "?" for letter in head)
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def listed(items: Iterable[str], most: int = 5, *, width: int = 60) -> str:
    """The first ``most`` items, each at most ``width`` characters long, and how many more there are."""
    every = list(items)
    rest = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(shown(item, width) for item in every[:most]) + rest
