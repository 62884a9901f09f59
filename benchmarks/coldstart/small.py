"""Many small images, for which one node after another asks, 50 ms apart. What do claims add to a pull?"""

import argparse
import statistics
import time
from collections.abc import Sequence

from rich.table import Table

from benchmarks.coldstart.fleet import Fleet, Release
from benchmarks.coldstart.rows import Way
from benchmarks.lab.cluster import Cluster, Place
from benchmarks.lab.process import LabError
from benchmarks.reporting.format import Better
from benchmarks.reporting.quantiles import at
from benchmarks.reporting.recorder import Recorder

_NODES = ("n1", "n2", "n3", "n4")
_SIZES = [5_000_000 // 3] * 3  # of the layers
_APART_S = 0.05
_BLOCK = 10  # images in a row with the same settings
_REST_S = 0.2  # between two images


def measure_small(arguments: argparse.Namespace, report: Recorder) -> None:
    """Measure and print it. Returns the rows for JSON: the seconds of every pull, by way and by turn."""
    images = arguments.small_pulls // len(_NODES)
    seconds = {way: [[0.0] * 0 for _ in _NODES] for way in (Way.OFF, Way.ZONE)}
    gets = dict.fromkeys(seconds, 0)
    nodes = [Place(name=name, region="r", zone="z") for name in _NODES]
    with Cluster(nodes, versions=("2.1",)) as cluster:
        fleet = Fleet.of(cluster, arguments)
        for first in range(0, images, _BLOCK):
            # The order changes, because whoever comes second finds a warmer machine.
            for way in sorted(seconds, key=list(seconds).index, reverse=bool(first // _BLOCK % 2)):
                releases = [
                    fleet.release(f"{way.name.lower()}{number}", _SIZES, seed=2 * number + (way is Way.ZONE))
                    for number in range(first, min(first + _BLOCK, images))
                ]
                with fleet.ready(way):
                    before = len(cluster.registry.answers())
                    for release in releases:
                        _pull(fleet, release, seconds[way])
                    gets[way] += sum(
                        1 for each in cluster.registry.answers()[before:] if each.method == "GET"
                    )
            report.console.print(f"{first + _BLOCK} images each way", highlight=False)
    report.console.print(_table(seconds, gets))
    _record(report, seconds, gets)


def _record(report: Recorder, seconds: dict[Way, list[list[float]]], gets: dict[Way, int]) -> None:
    report.begin("small", question="What do claims add to the pulls of small images?")
    for way, taken in seconds.items():
        for turn, values in enumerate(taken, start=1):
            report.spread(f"pull, {way.value}: node {turn}", "ms", values, scale=1000)
        report.single(f"GETs at the registry, {way.value}", "", gets[way], better=Better.LOWER)


def _pull(fleet: Fleet, release: Release, taken: Sequence[list[float]]) -> None:
    """Let each node begin a little after the one before, and keep how long each took."""
    pulls, began_s = [], time.monotonic()
    for turn, node in enumerate(fleet.nodes):
        time.sleep(max(0.0, began_s + turn * _APART_S - time.monotonic()))
        pulls.append(fleet.submit(node, release))
    for turn, pull in enumerate(pulls):
        pulled = pull.result()
        if pulled.failure:
            raise LabError(pulled.failure)
        taken[turn].append(pulled.seconds)
    time.sleep(_REST_S)


def _table(seconds: dict[Way, list[list[float]]], gets: dict[Way, int]) -> Table:
    table = Table(
        title=f"{sum(_SIZES) / 1e6:.0f} MB in {len(_SIZES)} layers, {len(_NODES)} nodes "
        f"{_APART_S * 1000:.0f} ms apart: ms; measured on this machine just now"
    )
    table.add_column("who asked")
    for way in seconds:
        table.add_column(f"{way.value}: p50", justify="right")
        table.add_column("p99", justify="right")
    table.add_column("added: p50", justify="right")
    table.add_column("p99", justify="right")
    for turn in range(len(_NODES)):
        table.add_row(f"node {turn + 1}", *_cells([taken[turn] for taken in seconds.values()]))
    whole = [[value for turn in taken for value in turn] for taken in seconds.values()]
    table.add_row("all", *_cells(whole))
    table.add_row("GETs at the registry", *(cell for way in seconds for cell in (str(gets[way]), "")))
    return table


def _cells(columns: Sequence[Sequence[float]]) -> list[str]:
    figures = [(statistics.median(values), at(sorted(values), 0.99)) for values in columns]
    added = [figures[1][each] - figures[0][each] for each in (0, 1)]
    return [f"{1000 * value:.0f}" for value in (*(value for pair in figures for value in pair), *added)]
