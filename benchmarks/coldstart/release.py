"""Six nodes in three zones pull a release at once: through a link to the registry that is limited, or not."""

import argparse
from collections.abc import Mapping, Sequence

from benchmarks.chunks.stage import MIB
from benchmarks.coldstart.fleet import Fleet
from benchmarks.coldstart.rows import Client, Way
from benchmarks.coldstart.table import ALL_WHOLE, Bound, Section, middle, rate, slowness
from benchmarks.lab.cluster import Cluster, places
from benchmarks.reporting.recorder import Recorder

_ZONES = {"r1": ["a", "b"], "r2": ["c"]}
_LAYERS = 4
_SETTLED_S = 10.0
_THREE_COPIES, _ONE_COPY, _TWO_COPIES = 3.027, 1.035, 2.05  # with heads, and what TCP sends again


def measure_limited(arguments: argparse.Namespace, report: Recorder) -> None:
    """Through a limited link."""
    size_bytes = arguments.release_mib * MIB
    bounds = {
        Way.ZONE.value: (ALL_WHOLE, _registry(_THREE_COPIES * size_bytes), _slower(0.6)),
        Way.CLUSTER.value: (ALL_WHOLE, _registry(_ONE_COPY * size_bytes), _slower(0.45)),
    }
    _measure(arguments, report, link_mbit_s=arguments.link, bounds=bounds)


def measure_unlimited(arguments: argparse.Namespace, report: Recorder) -> None:
    """Through a link that is as fast as the machine."""
    size_bytes = arguments.release_mib * MIB
    common = (ALL_WHOLE, _slower(1.1), _cpu(6.0), _rss(90.0), _kept(1e6))
    bounds = {
        Way.ZONE.value: (*common, _crossed(0.01 * size_bytes)),
        Way.CLUSTER.value: (*common, _crossed(_TWO_COPIES * size_bytes)),
    }
    _measure(arguments, report, link_mbit_s=None, bounds=bounds)


def _measure(
    arguments: argparse.Namespace,
    report: Recorder,
    *,
    link_mbit_s: float | None,
    bounds: Mapping[str, Sequence[Bound]],
) -> None:
    client = Client(version="2.1", chunks=arguments.release_chunks)
    with Cluster(places(_ZONES, 2), versions=(client.version,)) as cluster:
        fleet = Fleet.of(cluster, arguments, settled_s=_SETTLED_S)
        release = fleet.release("release", [arguments.release_mib * MIB // _LAYERS] * _LAYERS)
        cluster.shape("registry", link_mbit_s)
        section = Section(
            title=f"containerd {client}: 6 nodes in 3 zones at once, "
            f"{release.image.size_bytes / 1e6:.0f} MB, registry {rate(link_mbit_s)}",
            report=report,
            nodes=len(fleet.nodes),
            bounds=bounds,
        )
        for _ in range(arguments.rounds):
            for way in arguments.ways:
                with fleet.ready(way, client.chunks):
                    section.add(way.value, fleet.pull_all(release))
    section.show()


def _registry(most_bytes: float) -> Bound:
    return Bound(
        what=f"registry ≤ {most_bytes / 1e6:.0f} MB",
        kept=lambda these, _: middle(these, lambda one: one.registry_bytes) <= most_bytes,
    )


def _slower(most: float) -> Bound:
    return Bound(what=f"≤ {most} × the first row", kept=lambda these, first: slowness(these, first) <= most)


def _cpu(most_s: float) -> Bound:
    return Bound(
        what=f"≤ {most_s:.1f} CPU-s", kept=lambda these, _: middle(these, lambda one: one.cpu_s) <= most_s
    )


def _rss(most_mib: float) -> Bound:
    return Bound(
        what=f"≤ {most_mib:.0f} MiB", kept=lambda these, _: all(one.peak_mib <= most_mib for one in these)
    )


def _kept(most_bytes: float) -> Bound:
    return Bound(
        what="nothing kept", kept=lambda these, _: all(one.kept_bytes <= most_bytes for one in these)
    )


def _crossed(most_bytes: float) -> Bound:
    return Bound(
        what=f"across ≤ {most_bytes / 1e6:.0f} MB",
        kept=lambda these, _: middle(these, lambda one: one.crossed_bytes) <= most_bytes,
    )
