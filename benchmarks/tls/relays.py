"""Throughput and processor time of a relay, and the time to its first byte, by the way agents speak."""

from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.reporting.recorder import Recorder
from benchmarks.tls.ways import PLAIN, Pair, pairs, spent_s
from benchmarks.transfer.testbed import GIB, MIB, Streams, Taken, blob_path, client_of, layout_blobs, put_blob

_SMALL_BYTES, _SMALL_COUNT = 300_000, 40  # more than what is verified as a whole before its first byte


@dataclass(slots=True, kw_only=True)
class _Measured:
    pair: Pair
    client: Streams
    gb_s: list[float] = field(default_factory=list)
    relaying: list[float] = field(default_factory=list)
    serving: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)


def report_relays(report: Recorder, *, rounds: int, mib: int) -> None:
    """Each round measures each way once, and begins with another one."""
    with ExitStack() as stack:
        cluster, made = stack.enter_context(pairs())
        ways = [
            _Measured(pair=pair, client=stack.enter_context(client_of(cluster, pair.asker))) for pair in made
        ]
        folders = [layout_blobs(pair.holder) for pair in made]
        large = [blob_path(put_blob(folders, mib * MIB))]
        small = [blob_path(put_blob(folders, _SMALL_BYTES)) for _ in range(_SMALL_COUNT)]
        for way in ways:
            _relay(way, large)
            for path in small:
                way.client.get([path])
        for first in range(rounds):
            for number in range(len(ways)):
                way = ways[(first + number) % len(ways)]
                taken, relaying, serving = _relay(way, large)
                way.gb_s.append(taken.size_bytes / taken.wall_s / 1e9)
                way.relaying.append(relaying)
                way.serving.append(serving)
                way.first_s += [way.client.get([path]).head_s for path in small]
        report.begin(f"a relay of {mib} MiB, and first bytes over connections that are open")
        for way in ways:
            _report(report, way)
        for way in ways[1:]:
            _beside(report, way, next(each for each in ways if each.pair.way == PLAIN))


def _relay(way: _Measured, paths: list[str]) -> tuple[Taken, float, float]:
    ends = (way.pair.asker, way.pair.holder)
    before = [spent_s(node) for node in ends]
    taken = way.client.get(paths)
    relaying, serving = (
        (spent_s(node) - then) * GIB / taken.size_bytes for node, then in zip(ends, before, strict=True)
    )
    return taken, relaying, serving


def _report(report: Recorder, way: _Measured) -> None:
    name = way.pair.way
    report.spread(name, "GB/s", way.gb_s)
    report.spread(f"{name}: relaying", "CPU-s/GiB", way.relaying)
    report.spread(f"{name}: serving", "CPU-s/GiB", way.serving)
    report.spread(f"{name}: first byte", "ms", way.first_s, scale=1000)


def _beside(report: Recorder, way: _Measured, plain: _Measured) -> None:
    """Compare round by round: noise affects both of a round."""
    what = f"{way.pair.way} / {plain.pair.way}"

    def ratio(name: str, ours: list[float], theirs: list[float]) -> None:
        report.spread(
            f"{what}: {name}", "times", [one / other for one, other in zip(ours, theirs, strict=True)]
        )

    ratio("rate", way.gb_s, plain.gb_s)
    ratio("relaying CPU", way.relaying, plain.relaying)
    ratio("serving CPU", way.serving, plain.serving)
    ratio("first byte", way.first_s, plain.first_s)
