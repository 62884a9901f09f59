"""Eight nodes in two zones pull at once what nobody has. How often does each zone ask the registry?"""

import argparse
from collections.abc import Sequence

from benchmarks.chunks.stage import MIB
from benchmarks.coldstart.fleet import Fleet, Outcome
from benchmarks.coldstart.rows import Client, Trouble, Way
from benchmarks.coldstart.table import ALL_WHOLE, Bound, Section, rate
from benchmarks.lab.cluster import Cluster, places
from benchmarks.reporting.recorder import Recorder

_ZONES = {"r1": ["a", "b"]}
_SMALL_LAYERS = 3  # beside the large one, each an eighth of it

_ONCE = Bound(
    what="each manifest and blob once a zone",
    kept=lambda these, _: all(
        one.fetches.manifest_gets_most == 1 and one.fetches.blob_nodes_most == 1 for one in these
    ),
)
_ONCE_MORE = Bound(
    what="at most one fetch more",
    kept=lambda these, _: all(
        one.fetches.manifest_gets_most <= 2 and one.fetches.blob_nodes_most <= 2 for one in these
    ),
)
_EVEN = Bound(
    what="all within 1.5 × the fastest", kept=lambda these, _: all(one.unevenness <= 1.5 for one in these)
)


def measure_once(arguments: argparse.Namespace, report: Recorder) -> None:
    """Measure, print and record it."""
    versions = list(dict.fromkeys(client.version for client in arguments.clients))
    for version in versions:
        with Cluster(places(_ZONES, arguments.per_zone), versions=(version,)) as cluster:
            fleet = Fleet.of(cluster, arguments)
            cluster.shape("registry", arguments.once_link)
            for client in arguments.clients:
                if client.version == version:
                    section = _measure(fleet, client, arguments, report)
                    section.show()


def _measure(fleet: Fleet, client: Client, arguments: argparse.Namespace, report: Recorder) -> Section:
    large_bytes = arguments.once_mib * MIB
    layer_bytes = [large_bytes, *[large_bytes // 8] * _SMALL_LAYERS]
    release = fleet.release(f"once{client}".replace("/", "-"), layer_bytes, seed=sum(str(client).encode()))
    struck = {f"{Way.ZONE.value}, {trouble}": trouble for trouble in arguments.troubles if trouble}
    section = Section(
        title=f"containerd {client}: {len(fleet.nodes)} nodes in 2 zones at once, "
        f"{release.image.size_bytes / 1e6:.0f} MB, registry {rate(arguments.once_link)}",
        report=report,
        nodes=len(fleet.nodes),
        bounds={
            Way.ZONE.value: (ALL_WHOLE, _ONCE, _EVEN),
            **dict.fromkeys(struck, (ALL_WHOLE, _ONCE_MORE)),
        },
    )

    def run(way: Way, trouble: Trouble | None) -> Outcome:
        with fleet.ready(way, client.chunks):
            return fleet.pull_all(release, trouble=trouble)

    for _ in range(arguments.rounds):
        for way in _ways(arguments.ways):
            section.add(way.value, run(way, None))
        for name, trouble in struck.items():
            section.add(name, run(Way.ZONE, trouble))
    return section


def _ways(chosen: Sequence[Way]) -> list[Way]:
    return [way for way in (Way.OFF, Way.ZONE) if way in chosen]
