"""What a pod of the benchmark says: one document a line in its log. Pure.

The log is all that comes back, because the pod may ask the API server nothing. Lines that are none of ours
(a traceback, a warning) are kept for the person. A line may be read twice, so each has a number.
"""

import json
from dataclasses import dataclass
from typing import TypeVar

from agent.documents.codec import DocumentInvalid, decode, to_plain

VERSION = 1
"""The version of this protocol: pods of another one are not understood."""

ORDER_VARIABLE = "SHORTHAUL_BENCH"
"""The environment variable in which a pod finds its order."""

MARK = "shorthaul-bench "
LINE_MAX_BYTES = 1 << 20

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A blob that a node has, and the name under which it may be asked for."""

    registry: str
    repository: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that a node has whole. ``name``: with its digest. ``size_bytes``: of all its blobs."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a pod is to do. ``stage``: one of ``look``, ``latency``, ``pull``.

    ``hostport``: where containerd asks the agent; empty: where the settings say. ``seconds``, ``bytes_max``:
    its bounds. ``hold_s``: how long it keeps what it pulled, at most, if nobody ends it. ``image``: to pull.
    ``blobs``: those that nodes have. ``rate_per_s``: of requests.
    """

    version: int = VERSION
    run: str
    stage: str
    node: str
    hostport: str
    seconds: float
    bytes_max: int
    hold_s: float = 0.0
    rate_per_s: float = 0.0
    image: str = ""
    blobs: tuple[Blob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A sign of life. ``share``: of the stage, 0 to 1. ``what``: in words."""

    share: float = 0.0
    what: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a node has, and is. ``left``: what an earlier run had left there and this one removed."""

    containerd: str
    machine: str = ""
    processors: int = 0
    memory_mib: int = 0
    kernel: str = ""
    blobs: tuple[Blob, ...] = ()
    images: tuple[Image, ...] = ()
    names: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The latencies of one kind of request.

    ``tier``: whose content it was, by the agent's own word: ``node``, ``rack``, ``zone``, ``region``,
    ``remote``; ``none`` for what no node has. ``connection``: ``warm`` or ``cold``. ``first_byte`` and
    ``whole`` are histograms, see `benchmarks.reporting.histogram`. ``late``: requests that this generator
    began late.
    """

    tier: str
    connection: str
    requests: int
    failed: int = 0
    late: int = 0
    size_bytes: int = 0
    first_byte: str = ""
    whole: str = ""
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """All that a pod measured."""

    measured: tuple[Latency, ...] = ()
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TierBytes:
    """How many bytes came from nodes of a tier."""

    tier: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A pull by the node's containerd. ``tiers``: where the agent had the bytes from; None: it did not say.

    ``there_before``: the node had the image, so nothing was pulled.
    """

    image: str
    seconds: float | None = None
    size_bytes: int = 0
    there_before: bool = False
    tiers: tuple[TierBytes, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What a pod pulled is away again, or why not: ``kept``."""

    image: str
    kept: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something went wrong, in words; what was asked for may still have been done."""

    problem: str
    hint: str = ""


Document = Step | Look | Latencies | Pulled | Removed | Trouble
_KINDS: dict[str, type[Document]] = {
    kind.__name__: kind for kind in (Step, Look, Latencies, Pulled, Removed, Trouble)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a pod's log. ``number``: it counts from 1. ``document``: None if it is of a newer kind."""

    number: int
    document: Document | None


def written(number: int, document: Document) -> str:
    """The line for a document."""
    what = {"number": number, "kind": type(document).__name__, "document": to_plain(document)}
    return MARK + json.dumps(what, separators=(",", ":"))


def read(line: str) -> Line | None:
    """What a line says. None: it is none of ours. Every text is printable.

    The pod may be an impostor's, so nothing in it is believed but types.
    """
    if not line.startswith(MARK) or len(line) > LINE_MAX_BYTES:
        return None
    try:
        found = json.loads(line.removeprefix(MARK))
        number = found["number"]
        kind = _KINDS.get(found["kind"])
        document = None if kind is None else decode(kind, found["document"], text=printable)
    except (ValueError, KeyError, TypeError, RecursionError, DocumentInvalid):
        return None
    return Line(number=number, document=document) if type(number) is int else None


def order(text: str) -> Order:
    """The order of a pod. Raises `DocumentInvalid`, also for another version."""
    try:
        found = decode(Order, json.loads(text))
    except (ValueError, RecursionError) as error:
        raise DocumentInvalid("the order is no JSON of this version") from error
    if found.version != VERSION:
        raise DocumentInvalid(f"the order has version {found.version}, and this image knows {VERSION}")
    return found


def printable(text: str) -> str:
    """The text without control characters, and not longer than a person reads."""
    return "".join(each if each.isprintable() else " " for each in text[:2000])
