"""One layer of 1 GiB from two holders: undisturbed, with the source killed, with the source frozen.

The source is the holder that sends more at that moment. Each round measures each kind once.
"""

import signal
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack

from benchmarks.lab.cluster import Cluster, Node, Place
from benchmarks.reporting.recorder import Recorder
from benchmarks.transfer.pulls import Pulled, Scene
from benchmarks.transfer.testbed import MIB, QUIET

_HOLDERS = ("one", "two")
_FREEZE_AFTER_S = 3.0
_LOOK_S = 0.3
_ASKERS = {"2.1": "new", "1.6": "old"}

Trouble = Callable[[Scene, "Future[Pulled]"], Callable[[], None]]
"""Makes trouble while a pull goes on; what it returns mends it."""


def report_failing(report: Recorder, *, rounds: int, mib: int, link_mbit_s: float) -> None:
    """Report one section for each version of containerd."""
    names = (*_HOLDERS, *_ASKERS.values())
    places = [Place(name=name, region="r", zone="z") for name in names]
    with Cluster(places, versions=("2.1", "2.1", *_ASKERS)) as cluster:
        scene = Scene(cluster, [mib * MIB], _HOLDERS)
        for name in names:
            cluster.shape(name, link_mbit_s)
        for version, name in _ASKERS.items():
            report.begin(
                f"a layer of {mib} MiB, two holders, links of {link_mbit_s:.0f} Mbit/s, containerd {version}"
            )
            _report_version(report, scene, cluster.node(name), rounds)


def _report_version(report: Recorder, scene: Scene, asker: Node, rounds: int) -> None:
    kinds: dict[str, Trouble] = {
        "undisturbed": _none,
        "source killed halfway": _kill,
        "source frozen after 3 s": _freeze,
    }
    taken: dict[str, list[Pulled]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, trouble in kinds.items():
            taken[kind].append(_pull(scene, asker, trouble))
    usual_s = statistics.median(pull.blobs_s for pull in taken["undisturbed"])
    for kind, pulls in taken.items():
        _report_kind(report, kind, pulls, usual_s)


def _report_kind(report: Recorder, kind: str, pulls: Sequence[Pulled], usual_s: float) -> None:
    whole = [pull for pull in pulls if not pull.failure]
    report.share(f"{kind}: ended whole", len(whole), len(pulls), 100)
    report.spread(f"{kind}: the pull", "s", [pull.seconds for pull in whole])
    report.spread(f"{kind}: its blobs", "s", [pull.blobs_s for pull in whole])
    if kind != "undisturbed":
        more_s = [pull.blobs_s - usual_s for pull in whole]
        report.spread(f"{kind}: its blobs, more than undisturbed", "s", more_s)
    asked_mib = sum(pull.registry_bytes for pull in pulls) / MIB
    report.single(f"{kind}: bytes of blobs from the registry", "MiB", asked_mib, 0)
    for failure in {pull.failure for pull in pulls if pull.failure}:
        report.console.print(f"  failed: {failure}", highlight=False)


def _pull(scene: Scene, asker: Node, trouble: Trouble) -> Pulled:
    scene.rest(asker)
    with ExitStack() as mending:
        with scene.pulling(asker) as pull:
            mending.callback(trouble(scene, pull))
        return pull.result()


def _none(_scene: Scene, _pull: "Future[Pulled]") -> Callable[[], None]:
    return lambda: None


def _kill(scene: Scene, pull: "Future[Pulled]") -> Callable[[], None]:
    half = scene.image.size_bytes / 2
    before = sum(holder.sent_bytes() for holder in scene.holders)
    while sum(holder.sent_bytes() for holder in scene.holders) - before < half and not pull.done():
        time.sleep(0.02)
    source = _source(scene)
    source.agent.kill()
    return lambda: source.start_agent(**QUIET)


def _freeze(scene: Scene, _pull: "Future[Pulled]") -> Callable[[], None]:
    time.sleep(_FREEZE_AFTER_S - _LOOK_S)
    source = _source(scene)
    source.agent.signal(signal.SIGSTOP)
    return lambda: source.agent.signal(signal.SIGCONT)


def _source(scene: Scene) -> Node:
    """The holder that sends more now."""
    before = [holder.sent_bytes() for holder in scene.holders]
    time.sleep(_LOOK_S)
    sent = [holder.sent_bytes() - was for holder, was in zip(scene.holders, before, strict=True)]
    return scene.holders[sent.index(max(sent))]
