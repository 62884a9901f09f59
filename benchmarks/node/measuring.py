"""Moves bytes by each way in turn, and watches agents that nobody asks. Tells the report."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from benchmarks.lab.process import LabError
from benchmarks.node.spending import Used, used
from benchmarks.node.stage import COPY, ENCRYPTED, LOCAL, NGINX_LOCAL, NGINX_RELAY, SPLICE, Stage
from benchmarks.reporting.format import Better
from benchmarks.reporting.losses import losses
from benchmarks.reporting.recorder import Recorder
from benchmarks.transfer.relays import Way, take
from benchmarks.transfer.spending import rss_mib
from benchmarks.transfer.testbed import MIB, blob_path, put_blob

MOVING, IDLE = "node: moving bytes", "node: idle"
NOBODY, TAB = "nobody asks", "one dashboard tab"
_FIRST_MIB = 1
_TAB_MOST = 1.0
"""Per cent of a core that a dashboard may cost the agent that serves it."""


def measure_moving(report: Recorder, stage: Stage, *, rounds: int, mib: int) -> None:
    """A blob of so many MiB by each way, in so many rounds."""
    report.begin(
        MOVING,
        question="What does a byte cost on its way through an agent, beside nginx?",
        method=f"One stream of {mib} MiB at a time, from memory, over a bridge without limits; the "
        "client costs almost nothing. Each round begins with another way. CPU is that of the process that "
        "relays and of the one that serves, with what the kernel does for them.",
    )
    report.step("blobs")
    for way in stage.ways:  # what is done once per agent is done before
        _moved(report, way, put_blob(stage.folders, _FIRST_MIB * MIB))
    path = put_blob(stage.folders, mib * MIB)
    for first in range(rounds):
        for number in range(len(stage.ways)):
            way = stage.ways[(first + number) % len(stage.ways)]
            report.step(f"round {first + 1} of {rounds}: {way.name}")
            rate, cpu = _moved(report, way, path) or (None, None)
            what, beside = ("local", NGINX_LOCAL) if way.relays is None else ("relay", NGINX_RELAY)
            report.value(f"{what}: CPU", "CPU-s/GiB", cpu, way=way.name, baseline=beside)
            report.value(f"{what}: rate", "GB/s", rate, way=way.name, baseline=beside)
    for name, pid in {name: pid for way in stage.ways for name, pid in way.agents.items()}.items():
        if (rss := _rss(pid)) is not None:
            report.value("memory of an agent afterwards", "MiB", rss, way=name)
    _judge(report, MOVING, {LOCAL: NGINX_LOCAL, SPLICE: NGINX_RELAY, COPY: SPLICE, ENCRYPTED: SPLICE})


def _moved(report: Recorder, way: Way, digest: str) -> tuple[float, float] | None:
    """The rate in GB/s and the CPU in s/GiB. None: it failed, which is said."""
    try:
        cost = take(way, [blob_path(digest)])
    except (LabError, OSError) as error:
        report.problem(f"{way.name}: {error}")
        return None
    return cost.gb_s, cost.relaying + cost.serving


def measure_idle(
    report: Recorder,
    what: str,
    pids: Mapping[str, int],
    tab: Callable[[], AbstractContextManager[object]] | None,
    *,
    rounds: int,
    seconds: float,
) -> None:
    """What agents do when nobody asks for content. ``what``: which cluster, in words.

    ``pids``: theirs, the first one's first. ``tab``: opens a dashboard tab on the first one, in every second
    window.
    """
    for name, pid in pids.items():
        if (rss := _rss(pid)) is not None:
            report.value(f"{what}: memory of an agent", "MiB", rss, way=name if len(pids) > 1 else "")
    pid = next(iter(pids.values()))
    for number in range(rounds):
        spent: dict[str, Used | None] = {}
        for way in (NOBODY, TAB) if tab is not None else (NOBODY,):
            report.step(f"{what}, round {number + 1} of {rounds}: {way}")
            try:
                with tab() if tab is not None and way == TAB else nullcontext():
                    spent[way] = _window(pid, seconds)
            except (LabError, OSError) as error:
                report.problem(f"{what}, {way}: {error}")
                spent[way] = None
            _tell_idle(report, what, way, spent[way], seconds)
        alone, watched = spent[NOBODY], spent.get(TAB)
        if alone is not None and watched is not None:
            added = 100 * (watched.cpu_s - alone.cpu_s) / seconds
            report.value(f"{what}: processor that a tab adds", "% of a core", added, target=_TAB_MOST)


def _window(pid: int, seconds: float) -> Used:
    before = used(pid)
    time.sleep(seconds)
    return used(pid).since(before)


def _tell_idle(report: Recorder, what: str, way: str, spent: Used | None, seconds: float) -> None:
    cpu, wakes = (None, None) if spent is None else (100 * spent.cpu_s / seconds, spent.wakes / seconds)
    report.value(f"{what}: processor", "% of a core", cpu, way=way, baseline=NOBODY)
    report.value(f"{what}: wake-ups", "/s", wakes, way=way, baseline=NOBODY, better=Better.LOWER)


def _rss(pid: int) -> float | None:
    try:
        return rss_mib(pid)
    except (OSError, ValueError):  # it ended
        return None


def _judge(report: Recorder, name: str, beside: Mapping[str, str]) -> None:
    section = next((each for each in report.sections if each.name == name), None)
    if section is None:
        return
    for ours, theirs in beside.items():
        for words in losses(section, [ours], [theirs]):
            report.loss(words)
