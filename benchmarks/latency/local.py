"""Latency as this node's containerd sees it: against the running agent's HostPort, with images that it knows.

Where each blob would come from is the agent's own word (``/api/explain``). Nothing is stored, and nothing is
started or stopped. Requests count in the agent's metrics like any client's.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from agent.documents.codec import DocumentInvalid, decode
from agent.documents.explain import ContentEntry, ExplainDocument
from agent.documents.pulls import PullsDocument
from agent.oci.errors import OciError
from agent.oci.reference import Named, parse_reference
from benchmarks.latency.cases import Case, Load, Tally, measure_rounds, tell
from benchmarks.latency.openloop import Ask, Limits, Server, run_open_loop
from benchmarks.reporting.quantiles import shown
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import BenchmarkFailed

_FIRST_BYTES = 64 * 1024
_BLOBS_MAX = 12  # of one locality
_IMAGES_MAX = 4
_LOOKED_AT_MAX = 16  # of the images that were pulled last
_LEAST_S = 0.4
_WORDS = {
    "node": "this node",
    "rack": "same rack",
    "zone": "same zone",
    "region": "other zone",
    "remote": "other region",
}
_FIRST_SHARE = 0.6
"""Of the seconds: for first bytes."""

_WHOLE_SHARE = 0.7
"""Of the bytes that may be moved: for whole blobs. The rest is for first bytes."""

AskAgent = Callable[[str, Mapping[str, str]], Any]
"""Asks the admin port for a page, with a query. Raises whatever the caller knows to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the benchmark may take: seconds in all, bytes of bodies in all, requests a second.

    ``repeats``: of everything; from five on, a comparison can tell a change from noise.
    """

    seconds: float
    bytes: int
    rate_per_s: float
    repeats: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A blob, and how near it is."""

    target: str
    size_bytes: int
    tier: str


@dataclass(slots=True)
class _Budget:
    """What is left of the bounds. The clock is monotonic."""

    bounds: Bounds
    clock: Callable[[], float] = time.monotonic
    began_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.began_s = self.clock()

    @property
    def left_s(self) -> float:
        return self.bounds.seconds - (self.clock() - self.began_s)


def measure_local(
    recorder: Recorder,
    server: Server,
    ask_agent: AskAgent,
    images: Sequence[str],
    bounds: Bounds,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measure first bytes and whole blobs by where they are. Raises `BenchmarkFailed`.

    ``images``: those whose blobs are asked for; empty: those that this node pulled last.
    """
    budget, tally = _Budget(bounds, clock), Tally()
    recorder.step("asking the agent where the blobs are")
    blobs = [*(_blobs(ask_agent, images) if images else _last_blobs(ask_agent))]
    by_tier = {tier: [each for each in blobs if each.tier == tier] for tier in _WORDS}
    near = {tier: found for tier, found in by_tier.items() if found}
    if not near:
        raise BenchmarkFailed(
            "neither this node nor any peer has a blob of these images",
            "pull one of them on some node, or name another one with --image",
        )
    _first_bytes(recorder, server, near, budget, tally)
    _whole_blobs(recorder, server, near, budget, tally)
    tell(recorder, tally)
    recorder.single("bytes that were moved", "MB", tally.bytes / 1e6)
    if "node" in near and len(near) == 1:
        recorder.verdict("Every blob is on this node: how long a peer takes was not measured.")


def _first_bytes(
    recorder: Recorder, server: Server, near: Mapping[str, Sequence[Blob]], budget: _Budget, tally: Tally
) -> None:
    recorder.begin(
        "latency: first byte",
        question="How long does this node wait for the first byte of a blob, by where the blob is?",
        method="The first 64 KiB of known blobs, from this node's own agent, at times that are fixed in "
        "advance: what is due while an answer is late counts from when it was due.",
    )
    cases = [
        Case(
            name=_WORDS[tier],
            server=server,
            asks=[
                Ask(target=each.target, status=206, first_bytes=min(_FIRST_BYTES, each.size_bytes))
                for each in blobs
            ],
        )
        for tier, blobs in near.items()
    ]
    most = (1 - _WHOLE_SHARE) * budget.bounds.bytes
    runs = 2 * budget.bounds.repeats * len(cases)
    seconds = min(5.0, max(_LEAST_S, _FIRST_SHARE * budget.bounds.seconds / runs))
    rate = min(budget.bounds.rate_per_s, most / _FIRST_BYTES / (seconds * runs))
    if rate < budget.bounds.rate_per_s:
        recorder.verdict(f"The bound of bytes allows {shown(rate)} requests a second.")
    if rate * seconds < 1:
        recorder.problem("--bytes is too little for even one request each time")
        return
    load = Load(rate_per_s=rate, seconds=seconds, repeats=budget.bounds.repeats)
    for warm in (True, False):
        measure_rounds(
            recorder, cases, load, tally, warm=warm, whole=False, go_on=lambda: budget.left_s > seconds
        )
    _tell_time(recorder, budget, seconds)


def _whole_blobs(
    recorder: Recorder, server: Server, near: Mapping[str, Sequence[Blob]], budget: _Budget, tally: Tally
) -> None:
    """The largest blob of each locality that the bytes allow, one after the other."""
    each_bytes = _WHOLE_SHARE * budget.bounds.bytes / (budget.bounds.repeats * len(near))
    chosen = {
        tier: max(
            (blob for blob in blobs if blob.size_bytes <= each_bytes),
            key=lambda blob: blob.size_bytes,
            default=None,
        )
        for tier, blobs in near.items()
    }
    recorder.begin(
        "latency: whole blob",
        question="How long does this node wait for the last byte of a whole blob, by where it is?",
        method="The largest blob that the bound of bytes allows, one after the other, on an open connection.",
    )
    for tier, blob in chosen.items():
        if blob is None:
            recorder.verdict(
                f"{_WORDS[tier]}: none is within the {each_bytes / 1e6:.1f} MB that --bytes leaves for each."
            )
    for number in range(budget.bounds.repeats):
        for tier, blob in chosen.items():
            if blob is None or budget.left_s <= 0:
                continue
            recorder.step(f"whole blobs: {_WORDS[tier]}, {number + 1} of {budget.bounds.repeats}")
            rate = _whole(recorder, server, tier, blob, budget, tally)
            if rate is None:
                return
    _tell_time(recorder, budget, 0.0)


def _whole(
    recorder: Recorder, server: Server, tier: str, blob: Blob, budget: _Budget, tally: Tally
) -> float | None:
    """One whole blob. Returns its rate; None if nobody answers any more."""
    limits = Limits(deadline_s=max(1.0, budget.left_s))
    outcome = run_open_loop(server, [Ask(target=blob.target)], [0.0], warm=True, limits=limits)
    tally.add(_WORDS[tier], outcome)
    size = f"{blob.size_bytes / 1e6:.3g} MB"
    recorder.latencies(f"whole blob, {size}", [outcome.whole], way=_WORDS[tier])
    return blob.size_bytes / outcome.seconds / 1e6 if outcome.answered else None


def _tell_time(recorder: Recorder, budget: _Budget, needed_s: float) -> None:
    if budget.left_s <= needed_s:
        recorder.problem(
            f"the {shown(budget.bounds.seconds)} s of --seconds were over before all was measured"
        )


# Which blobs there are


def _last_images(ask_agent: AskAgent) -> list[str]:
    """The images that this node pulled last. Raises `BenchmarkFailed`."""
    pulls = _decoded(PullsDocument, ask_agent(PullsDocument.PATH, {"limit": "50"})).pulls
    named = [f"{pull.image}:{tag}" for pull in pulls for tag in pull.references if ":" not in tag]
    found = [*dict.fromkeys(named)][:_LOOKED_AT_MAX]
    if not found:
        raise BenchmarkFailed(
            "this node has pulled no image by tag through its agent yet",
            "pull one, or name one with --image REGISTRY/NAME:TAG",
        )
    return found


def _last_blobs(ask_agent: AskAgent) -> list[Blob]:
    """The blobs that anybody has of the images that this node pulled last. Raises `BenchmarkFailed`.

    A pull may have been of an image that doesn't exist, or was removed again: then it is an older one's turn.
    """
    found: list[list[Blob]] = []
    failed: BenchmarkFailed | None = None
    for image in _last_images(ask_agent):
        try:
            blobs = [*_blobs(ask_agent, [image])]
        except BenchmarkFailed as error:
            failed = error
            continue
        found += [blobs] if blobs else []
        if len(found) == _IMAGES_MAX:
            break
    if failed is not None and not found:
        raise failed
    return [*{blob.target.partition("?")[0].rpartition("/")[2]: blob for blob in chain(*found)}.values()]


def _blobs(ask_agent: AskAgent, images: Sequence[str]) -> Iterator[Blob]:
    """The blobs of these images that somebody has, each once. Raises `BenchmarkFailed`."""
    seen: set[str] = set()
    for image in images:
        try:
            named = parse_reference(image)
        except OciError as error:
            raise BenchmarkFailed(f"{image!r} is no image's name: {error}", error.hint) from error
        query = {"image": image} if isinstance(named, Named) else {"digest": str(named.digest)}
        explained = _decoded(ExplainDocument, ask_agent(ExplainDocument.PATH, query))
        for entry in explained.content[:_BLOBS_MAX]:
            if entry.digest in seen or entry.kind == "manifest" or not entry.size_bytes:
                continue
            seen.add(entry.digest)
            tier = _tier(ask_agent, entry)
            if tier is not None:
                origin = urlencode({"ns": str(named.registry)})
                target = f"/v2/{named.repository}/blobs/{entry.digest}?{origin}"
                yield Blob(target=target, size_bytes=entry.size_bytes, tier=tier)


def _tier(ask_agent: AskAgent, entry: ContentEntry) -> str | None:
    """How near the blob is. None: nobody has it."""
    if entry.local:
        return "node"
    if entry.choice is None:
        return None
    holders = _decoded(ExplainDocument, ask_agent(ExplainDocument.PATH, {"digest": entry.digest})).holders
    return next((each.tier for each in holders if each.node == entry.choice and each.tier in _WORDS), None)


def _decoded(kind: Any, answer: Any) -> Any:
    try:
        return decode(kind, answer)
    except DocumentInvalid as error:
        raise BenchmarkFailed(
            f"the agent's answer is not as expected: {error}", "is it as new as this?"
        ) from error
