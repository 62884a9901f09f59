"""One run: bytes by all ways, then idle agents in a small cluster and in a large one."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benchmarks.footprint.members import make_members
from benchmarks.footprint.stage import raised
from benchmarks.lab.process import LabError
from benchmarks.node.measuring import IDLE, measure_idle, measure_moving
from benchmarks.node.stage import Tab, stage
from benchmarks.reporting.recorder import Recorder

_ZONES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``mib``: of one stream. ``members``: of the large cluster. ``seconds``: of each idle window.

    ``settled_s``: how long agents run before they are watched: they measure most in their first minute.
    """

    rounds: int = 5
    mib: int = 256
    members: int = 1000
    seconds: float = 3.0
    settled_s: float = 8.0

    @property
    def method(self) -> str:
        """In words."""
        return (
            f"Windows of {self.seconds:g} s, {self.settled_s:g} s after the start, with and without a tab "
            "that reads /api/events, in turn. The small cluster has three real agents. The large one has "
            f"one, and a process that answers and measures as {self.members:,} others (it does not know what "
            "a tab has them asked). Agents measure round trips and keep channels meanwhile, most in their "
            "first minute."
        )


QUICK = Options()
FULL = Options(rounds=15, mib=1024, members=5000, seconds=20.0, settled_s=90.0)


def measure(report: Recorder, options: Options = QUICK) -> None:
    """Measure it, and tell the report. Raises `LabError` if there can be no lab."""
    report.step("agents")
    with stage() as made:
        for problem in made.problems:
            report.problem(problem)
        measure_moving(report, made, rounds=options.rounds, mib=options.mib)
        report.begin(
            IDLE, question="What does an agent take when nobody asks for an image?", method=options.method
        )
        node = next(iter(made.nodes.values()))
        pids = {name: each.agent.pid for name, each in made.nodes.items()}
        time.sleep(options.settled_s)
        measure_idle(
            report,
            f"{len(pids)} nodes",
            pids,
            _tab(report, node.netns, node.loopback),
            rounds=options.rounds,
            seconds=options.seconds,
        )
    report.step(f"a cluster of {options.members:,}")
    everybody = make_members(range(options.members), _ZONES)
    with raised(everybody, everybody=everybody, blobs=2000, kubernetes=False) as large:
        time.sleep(options.settled_s)
        host, _, port = large.url.removeprefix("http://").rpartition(":")
        measure_idle(
            report,
            f"{options.members:,} nodes",
            {"agent": large.agent.pid},
            _tab(report, None, host, int(port)),
            rounds=options.rounds,
            seconds=options.seconds,
        )


def _tab(
    report: Recorder, netns: str | None, host: str, port: int = 9090
) -> Callable[[], AbstractContextManager[object]] | None:
    """What opens a tab. None: this agent has no events, which is said once."""
    try:
        with Tab(netns, host, port):
            pass
    except (LabError, OSError) as error:
        report.problem(f"the cost of a dashboard tab is not known: {error}")
        return None
    return lambda: Tab(netns, host, port)
