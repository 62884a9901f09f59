"""Which nodes take part, and how the bounds are shared out among them. Pure.

The bounds are the person's: no more bytes are moved in all, and no more seconds are spent, whatever happens.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cluster.wire import Blob, Image, Look

LATENCY_SHARE = 0.25
"""Of the bytes; the pulls get the others. A first byte needs few."""

RATE_PER_S = 20.0
"""Requests that each node's agent is asked: this measures latencies, and is no load test of what works."""

BLOBS_MAX = 240
"""How many blobs a pod is told. Its order is one environment variable, which Linux bounds at 128 KiB."""

_LEFT_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """``nodes``: how many take part. ``bytes``: all that they move, together. ``seconds``: of everything.

    ``latency_s``: of the seconds, those for latencies at most: more would not make them surer.
    """

    nodes: int
    bytes: int
    seconds: float
    latency_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A node with an agent. ``unfit``: why it can't take part; empty: it can."""

    name: str
    region: str = ""
    zone: str = ""
    unfit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """``nodes``: those that take part, no two of a zone in a row. ``notes``: what a person should know."""

    nodes: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()

    @property
    def zones(self) -> int:
        """How many zones they are in."""
        return len({(each.region, each.zone) for each in self.nodes})


def choose(candidates: Iterable[Candidate], most: int, run: str) -> Choice:
    """Some nodes of each zone, as evenly as there are. Other ones in another run, so that no node is worn."""
    every = sorted(candidates, key=lambda each: hashlib.sha256(f"{run} {each.name}".encode()).digest())
    zones: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for each in every:
        if not each.unfit:
            zones[each.region, each.zone].append(each)
    order = sorted(zones, key=lambda zone: (-len(zones[zone]), zone))
    turns = max(map(len, zones.values()), default=0)
    chosen = [zones[zone][turn] for turn in range(turns) for zone in order if turn < len(zones[zone])]
    unfit = [each for each in every if each.unfit]
    return Choice(nodes=tuple(chosen[: max(0, most)]), notes=tuple(_notes(unfit, chosen[:most], len(zones))))


def _notes(unfit: Sequence[Candidate], chosen: Sequence[Candidate], zones: int) -> Iterable[str]:
    for each in sorted(unfit, key=lambda each: each.name)[:_LEFT_SHOWN]:
        yield f"node {each.name} is left out: {each.unfit}"
    if len(unfit) > _LEFT_SHOWN:
        yield f"and {len(unfit) - _LEFT_SHOWN} nodes more are left out for such reasons"
    used = {(each.region, each.zone) for each in chosen}
    if len(used) < zones:
        yield f"{zones - len(used)} of {zones} zones are left out: name more --nodes"
    if chosen and all(not each.zone for each in chosen):
        yield "no node has a label topology.kubernetes.io/zone, so no zones can be told apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waves:
    """In which order nodes pull. ``name``: first, at once, rolling."""

    waves: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def nodes(self) -> int:
        """How many pulls that is."""
        return sum(len(nodes) for _, nodes in self.waves)


def rest_of_pulls(nodes: Sequence[str], size_bytes: int, left_bytes: int) -> Waves:
    """What follows the first pull: half of the others at once, then the rest, a fifth of all at a time.

    ``size_bytes``: of the image. Only as many as the bytes allow.
    """
    allowed = nodes[: left_bytes // size_bytes] if size_bytes > 0 else nodes
    if len(allowed) < 3:
        at_once, rolling = allowed, allowed[:0]
    else:
        half = (len(allowed) + 1) // 2
        at_once, rolling = allowed[:half], allowed[half:]
    step = max(1, (len(nodes) + 1) // 5)
    waves = [("at once", tuple(at_once))] if at_once else []
    waves += [("rolling", tuple(rolling[i : i + step])) for i in range(0, len(rolling), step)]
    return Waves(waves=tuple(waves))


def known_blobs(looks: Mapping[str, Look], most: int = BLOBS_MAX) -> tuple[Blob, ...]:
    """The blobs to ask for: first those that only some nodes have, because they have to come from others.

    From each node in turn, so that every zone's are among them; half of them small, half not.
    """
    holders: dict[str, set[str]] = defaultdict(set)
    for node, look in looks.items():
        for blob in look.blobs:
            holders[blob.digest].add(node)
    mixed = [_small_and_large(look.blobs, holders) for look in looks.values()]
    found: dict[str, Blob] = {}
    for turn in range(max(map(len, mixed), default=0)):
        for blobs in mixed:
            if turn < len(blobs) and len(found) < most:
                found.setdefault(blobs[turn].digest, blobs[turn])
    return tuple(found.values())


def _small_and_large(blobs: Iterable[Blob], holders: Mapping[str, set[str]]) -> list[Blob]:
    ordered = sorted(blobs, key=lambda blob: (len(holders[blob.digest]), blob.digest))
    small = [blob for blob in ordered if blob.size_bytes <= SMALL_BYTES]
    large = [blob for blob in ordered if blob.size_bytes > SMALL_BYTES]
    mixed: list[Blob] = []
    for at in range(max(len(small), len(large))):
        mixed += [*small[at : at + 1], *large[at : at + 1]]
    return mixed


SMALL_BYTES = 256 << 10
"""Up to this a blob is small: its whole is asked for at the rate of first bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The image to pull, and the nodes that do not have it.

    ``image``: empty if there is none: ``why_not``. ``cold``: none of these nodes has it.
    """

    image: str = ""
    size_bytes: int = 0
    nodes: tuple[str, ...] = ()
    why_not: str = ""
    cold: bool = False


def choose_image(looks: Mapping[str, Look], named: str, bytes_max: int, *, but: Iterable[str] = ()) -> Chosen:
    """What is pulled where. ``named``: by the person, empty if they leave it to us. ``but``: never these.

    Left to us, it is an image that one of these nodes has and others do not, the largest that the bytes allow
    on at least two of them. A node that has an image keeps it, and pulls nothing.
    """
    nodes = tuple(looks)
    if named:
        without = tuple(node for node in nodes if not _has(looks[node], named))
        if not without:
            return Chosen(why_not=f"every one of these nodes has {named} already: name another --image")
        return Chosen(image=named, nodes=without, cold=len(without) == len(nodes))
    best = Chosen(
        why_not="no image is on some of these nodes and not on others: name one that they do not have, "
        "with --image"
    )
    barred = tuple(but)
    for image in {each.digest: each for look in looks.values() for each in look.images}.values():
        without = tuple(node for node in nodes if not _has(looks[node], image.name))
        fits = 0 < image.size_bytes * min(2, len(without)) <= bytes_max
        if without and fits and not _is_one_of(image, barred) and image.size_bytes > best.size_bytes:
            best = Chosen(image=image.name, size_bytes=image.size_bytes, nodes=without)
    return best


def _is_one_of(image: Image, names: Iterable[str]) -> bool:
    repository = image.name.partition("@")[0]
    return any(repository == _repository(name) for name in names)


def _repository(name: str) -> str:
    plain = name.partition("@")[0]
    head, colon, tag = plain.rpartition(":")
    return head if colon and "/" not in tag else plain


def _has(look: Look, name: str) -> bool:
    digest = name.partition("@")[2]
    return name in look.names or bool(digest and any(each.digest == digest for each in look.images))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one pod may take of the bounds in the stage of latencies."""

    seconds: float
    bytes_max: int
    rate_per_s: float


def latency_budget(bounds: Bounds, nodes: int) -> Budget:
    """A pod's part: a sixth of the time, and its share of a quarter of the bytes."""
    return Budget(
        seconds=min(bounds.latency_s, bounds.seconds / 6),
        bytes_max=int(bounds.bytes * LATENCY_SHARE / max(1, nodes)),
        rate_per_s=RATE_PER_S,
    )
