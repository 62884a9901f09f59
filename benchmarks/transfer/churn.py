"""Pulls of an image while its holders are killed in turn and restarted.

Real containerds pull three layers at a time, as with CRI. containerd itself checks every pull, because it
hashes each layer before it commits it.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait

from benchmarks.lab.cluster import Cluster, Node, Place
from benchmarks.reporting.quantiles import at
from benchmarks.reporting.recorder import Recorder
from benchmarks.transfer.pulls import Pulled, Scene
from benchmarks.transfer.testbed import GIB, MIB, QUIET

_HOLDERS = ("one", "two", "three")
_LAYERS = 4
_KILL_INTERVAL_S = 2.0


def report_churn(report: Recorder, *, pulls: int, undisturbed: int, link_mbit_s: float) -> None:
    """Report how long pulls take undisturbed, and while a holder is killed every two seconds."""
    names = ("asker", *_HOLDERS)
    places = [Place(name=name, region="r", zone="z") for name in names]
    report.begin(
        f"1 GiB in {_LAYERS} layers, three holders behind {link_mbit_s:.0f} Mbit/s each, containerd 2.1"
    )
    with Cluster(places, versions=("2.1",)) as cluster:
        scene = Scene(cluster, [GIB // _LAYERS] * _LAYERS, _HOLDERS)
        for holder in scene.holders:
            cluster.shape(holder.name, link_mbit_s)
        asker = cluster.node("asker")
        _report(report, "undisturbed", [_pull(scene, asker) for _ in range(undisturbed)])
        scene.rest(asker)
        turns = itertools.cycle(scene.holders)
        resumed = asker.metric("shorthaul_resumes_total")
        kills, taken = 0, []
        for _ in range(pulls):
            with scene.pulling(asker) as pull:
                kills += _disturb(pull, turns)
            taken.append(pull.result())
        _report(report, "a holder killed every 2 s", taken)
        report.single("holders killed meanwhile", "", kills)
        report.single("bodies resumed meanwhile", "", asker.metric("shorthaul_resumes_total") - resumed)


def _pull(scene: Scene, asker: Node) -> Pulled:
    with scene.pulling(asker) as pull:
        pass
    return pull.result()


def _disturb(pull: "Future[Pulled]", turns: Iterator[Node]) -> int:
    """Kill a holder every two seconds and restart it, until the pull has ended. Returns the number of
    kills.
    """
    kills = 0
    next_s = time.monotonic() + _KILL_INTERVAL_S / 2
    while not wait([pull], timeout=max(0.0, next_s - time.monotonic())).done:
        holder = next(turns)
        holder.agent.kill()
        holder.start_agent(**QUIET)
        kills += 1
        next_s += _KILL_INTERVAL_S
    return kills


def _report(report: Recorder, what: str, taken: Sequence[Pulled]) -> None:
    whole = sorted(each.seconds for each in taken if not each.failure)
    report.share(f"{what}: pulls that ended whole", len(whole), len(taken), 100)
    report.spread(f"{what}: a pull", "s", whole)
    report.single(f"{what}: p99", "s", at(whole, 0.99))
    asked_mib = sum(each.registry_bytes for each in taken) / MIB
    report.single(f"{what}: bytes of blobs from the registry", "MiB", asked_mib, 0)
    for failure in {each.failure for each in taken if each.failure}:
        report.console.print(f"  failed: {failure}", highlight=False)
