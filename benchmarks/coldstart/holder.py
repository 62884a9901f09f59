"""One node has it all behind a limited link, and five nodes of its zone pull at once."""

import argparse

from benchmarks.chunks.stage import MIB
from benchmarks.coldstart.fleet import Fleet, Outcome, Release
from benchmarks.coldstart.rows import Client, Way
from benchmarks.coldstart.table import ALL_WHOLE, Bound, Section, middle, rate, slowness
from benchmarks.lab.cluster import Cluster, Place
from benchmarks.reporting.recorder import Recorder

_HOLDER = "h"
_ASKING = ("n1", "n2", "n3", "n4", "n5")
_COPIES = 1.5
_SLOWER = 1.25
_YARDSTICK = "straight from a registry without a limit"


def measure_holder(arguments: argparse.Namespace, report: Recorder) -> None:
    """Measure, print and record it, for each way to fetch."""
    nodes = [Place(name=name, region="r", zone="z") for name in (_HOLDER, *_ASKING)]
    with Cluster(nodes, versions=("2.1",)) as cluster:
        fleet = Fleet.of(cluster, arguments)
        layer_bytes = arguments.holder_mib * MIB // arguments.holder_layers
        release = fleet.release("holder", [layer_bytes] * arguments.holder_layers)
        for chunks in arguments.holder_chunks:
            client = Client(version="2.1", chunks=chunks)
            section = _measure(fleet, client, release, arguments, report)
            section.show()


def _measure(
    fleet: Fleet,
    client: Client,
    release: Release,
    arguments: argparse.Namespace,
    report: Recorder,
) -> Section:
    shared = (
        ALL_WHOLE,
        Bound(
            what=f"≤ {_SLOWER} × the first row",
            kept=lambda these, first: slowness(these, first) <= _SLOWER,
        ),
        Bound(
            what=f"the holder's link carries ≤ {_COPIES} copies",
            kept=lambda these, _: (
                middle(these, lambda one: one.sent_bytes[_HOLDER]) <= _COPIES * release.image.size_bytes
            ),
        ),
    )
    section = Section(
        title=f"containerd {client}: one holder {rate(arguments.holder_link)}, 5 nodes at once, "
        f"{release.image.size_bytes / 1e6:.0f} MB",
        report=report,
        nodes=len(_ASKING),
        bounds={Way.ZONE.value: shared},
    )
    for _ in range(arguments.rounds):
        section.add(_YARDSTICK, _straight(fleet, client, release))
        for way in (Way.OFF, Way.ZONE):
            if way in arguments.ways:
                outcome = _from_holder(fleet, client, way, release, arguments.holder_link)
                copies = outcome.sent_bytes[_HOLDER] / release.image.size_bytes
                section.add(way.value, outcome)
                report.console.print(f"  the holder's link carried {copies:.2f} copies", highlight=False)
    return section


def _straight(fleet: Fleet, client: Client, release: Release) -> Outcome:
    with fleet.ready(Way.DIRECT, client.chunks):
        return fleet.pull_all(release, names=_ASKING)


def _from_holder(fleet: Fleet, client: Client, way: Way, release: Release, link_mbit_s: float) -> Outcome:
    with fleet.ready(way, client.chunks):
        holder = fleet.cluster.node(_HOLDER)
        fleet.hold(holder, release)
        fleet.each(
            [fleet.cluster.node(name) for name in _ASKING], lambda node: fleet.see(node, release, [_HOLDER])
        )
        fleet.cluster.shape(_HOLDER, link_mbit_s)
        try:
            return fleet.pull_all(release, names=_ASKING)
        finally:
            fleet.cluster.shape(_HOLDER, None)
