"""What a look-up in the index costs the agent: its processor time, with thousands of nodes.

    python -m benchmarks.index.cost [--nodes 1000,5000,10000] [--quick] [--json FILE]

The look-ups go to a real server on loopback over the product's own connection, all in one process. Processor
time is the process's own, so a busy machine does not matter much. It needs no root.
"""

import argparse
import asyncio
import gc
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvloop

from agent.config import LookupSettings, Settings
from agent.config.load import make_settings
from agent.holders.bitmap import bits_of, masks_of, nearest, value_of
from agent.holders.index import Holders, IndexStatus
from agent.holders.scatter import ScatterIndex
from agent.holders.valkey.announcements import BATCH_MAX
from agent.holders.valkey.factory import make_server
from agent.holders.valkey.index import NEAREST_MAX, ValkeyIndex
from agent.holders.valkey.layout import ALIVE_S, BITMAP_TTL_S, EPOCH_S, NUMBER_TTL_S, Layout
from agent.holders.valkey.numbers import slot_value
from agent.holders.valkey.server import Server
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from benchmarks.arguments import listed, make_parser
from benchmarks.lab.folders import make_folder
from benchmarks.lab.valkey import ValkeyServer
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run
from topology.placement import NodeName, Placement, Region, Zone
from topology.ranking import rank

_ZONES = 10
_LAYERS = 20
_LIMIT = 12  # holders that a pull ranks
_OWN = NodeName("own")
_TARGET_MS = 0.3  # for ranking 5,000 holders


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.index.cost", __doc__, quick="few repetitions, 1,000 nodes")
    parser.add_argument("--nodes", type=listed(int), default=[1000, 5000, 10_000])
    return run(parser, _run)


def _run(report: Recorder, arguments: argparse.Namespace) -> None:
    if arguments.quick:
        arguments.nodes = [1000]
    for nodes in arguments.nodes:
        _report(report, nodes, arguments)


def _report(report: Recorder, nodes: int, arguments: argparse.Namespace) -> None:
    repetitions = 20 if arguments.quick else 200
    roster = _roster(nodes)
    report.begin(f"choosing among {nodes:,} holders")
    _report_choice(report, roster, repetitions)
    report.begin(f"look-ups with {nodes:,} nodes, each digest at all of them")
    folder = make_folder("shindex", "cost-")
    try:
        server = ValkeyServer(folder)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_report_lookups(report, server.url(), roster, repetitions))
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _report_choice(report: Recorder, roster: Roster, repetitions: int) -> None:
    snapshot, numbers = roster.snapshot, _numbers(roster)
    masks, value = masks_of(numbers, snapshot), value_of(numbers.values())
    everybody = [*numbers]
    digests = [_digest(each) for each in range(repetitions)]

    def chosen(digest: Digest) -> tuple[NodeName, ...]:
        return nearest(bits_of(value), masks, at_most=NEAREST_MAX, lots=masks.lots(digest))

    for what, work, target in (
        (
            "read, mask, choose and rank",
            lambda each: rank(chosen(each), snapshot, digest=each, limit=_LIMIT),
            _TARGET_MS,
        ),
        ("of this: read, mask and choose", chosen, None),
        (
            "rank all of them, without masks",
            lambda each: rank(everybody, snapshot, digest=each, limit=_LIMIT),
            None,
        ),
    ):
        report.spread(what, "ms", _timed(work, digests), target, scale=1e3)
    report.spread(
        "make the masks", "ms", _timed(lambda _: masks_of(numbers, snapshot), digests[:20]), scale=1e3
    )


def _timed(work: Callable[[Digest], object], digests: Sequence[Digest]) -> list[float]:
    gc.collect()
    taken = []
    for digest in digests:
        began_s = time.perf_counter()
        work(digest)
        taken.append(time.perf_counter() - began_s)
    return taken


async def _report_lookups(report: Recorder, url: str, roster: Roster, repetitions: int) -> None:
    settings = _settings(url)
    server = make_server(settings, ids=tuple, members=lambda: len(roster) + 1, failed=lambda _: None)
    running = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(30.0):
            while not server.healthy:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.01)
        await _measure(report, server, settings, roster, repetitions)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def _measure(
    report: Recorder, server: Server, settings: Settings, roster: Roster, repetitions: int
) -> None:
    numbers, layout = _numbers(roster), Layout(settings.valkey.prefix)
    digests = [_digest(each) for each in range(repetitions * _LAYERS)]
    await _fill(server, layout, digests, numbers)
    index = ValkeyIndex(
        server,
        url="",
        prefix=settings.valkey.prefix,
        agent="benchmark",
        roster=roster,
        settings=LookupSettings(positive_ttl_s=600),
        metrics=Metrics(),
        fallback=_Nobody(),
    )
    await index.lookup(_digest(-1))  # learns the numbers
    batches = [digests[first : first + _LAYERS] for first in range(0, len(digests), _LAYERS)]

    async def layers(batch: Sequence[Digest]) -> None:
        await asyncio.gather(*(index.lookup(digest) for digest in batch))

    async def one(batch: Sequence[Digest]) -> None:
        await index.lookup(batch[0])

    for what, work, of in (
        (f"{_LAYERS} layers at once: processor time of each", layers, _LAYERS),
        ("one digest, known from before: processor time", one, 1),
    ):
        report.spread(what, "µs", await _cpu(work, batches), scale=1e6 / of)
    fresh = [[_digest(each + 10_000_000)] for each in range(repetitions)]
    report.spread("one digest that nobody has: processor time", "µs", await _cpu(one, fresh), scale=1e6)
    everyone = [index.lookup_everyone(batch[0]) for batch in batches]
    taken = []
    for asking in everyone:
        began_s = time.process_time()
        await asking
        taken.append(time.process_time() - began_s)
    report.spread("one digest, all parts of the cluster: processor time", "µs", taken, scale=1e6)
    await index.close()


async def _cpu(
    work: Callable[[Sequence[Digest]], Awaitable[None]], batches: Sequence[Sequence[Digest]]
) -> list[float]:
    taken = []
    for batch in batches:
        began_s = time.process_time()
        await work(batch)
        taken.append(time.process_time() - began_s)
    return taken


async def _fill(
    server: Server, layout: Layout, digests: Sequence[Digest], numbers: dict[NodeName, int]
) -> None:
    """Write what that many agents would have written."""
    ((seconds, _),) = await server.call(("TIME",))
    epoch, value = int(seconds) // EPOCH_S, value_of(numbers.values())
    table = b"".join(slot_value(name, int(seconds)) for name in numbers)
    await server.call(("SET", layout.names, table, "EX", NUMBER_TTL_S))
    alive = int(seconds) // ALIVE_S
    await server.call(*(("SET", layout.alive(alive + later), value, "EX", 300) for later in range(20)))
    for first in range(0, len(digests), BATCH_MAX):
        await server.call(
            *(
                ("SET", layout.bitmap(epoch, digest), value, "EX", BITMAP_TTL_S)
                for digest in digests[first : first + BATCH_MAX]
            )
        )


class _Nobody(ScatterIndex):
    """A fallback that finds nobody."""

    def __init__(self) -> None:
        pass

    def remembered(self, digest: Digest) -> Holders | None:
        return None

    async def lookup(self, digest: Digest) -> Holders:
        return Holders(nodes=(), exhaustive=False)

    def prefetch(self, digests: Sequence[Digest]) -> None:
        pass

    def status(self) -> IndexStatus:
        return IndexStatus()


def _roster(nodes: int) -> Roster:
    roster = Roster(own=_OWN, placement=_placed(0))
    names = [NodeName(f"node-{each}") for each in range(nodes)]
    roster.update(
        {
            name: Peer(
                name=name,
                address=f"10.{each >> 16}.{each >> 8 & 255}.{each & 255}",
                port=1,
                placement=_placed(each),
            )
            for each, name in enumerate(names)
        }
    )
    return roster


def _placed(number: int) -> Placement:
    return Placement(region=Region("r"), zone=Zone(f"z{number % _ZONES}"))


def _numbers(roster: Roster) -> dict[NodeName, int]:
    return {name: number for number, name in enumerate(roster.peers)}


def _digest(number: int) -> Digest:
    return Digest(f"sha256:{number & (1 << 256) - 1:064x}")


def _settings(url: str) -> Settings:
    document = {
        "node": {"name": _OWN, "address": "10.0.0.1"},
        "peering": {"open": True},
        "index": url,
        "valkey": {"cluster": "benchmark", "timeout_s": 5},
    }
    return make_settings(document, [], base=Path("/"))


if __name__ == "__main__":
    sys.exit(main())
