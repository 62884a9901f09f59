"""What one node pays while it has no index: it looks for content among the peers of its zone.

    python -m benchmarks.index.nearby [--members 5000] [--zones 10] [--lookups 2000] [--json FILE]

A real agent, and a crowd of all other agents on loopback. It reports the questions that the agent asks, and
its processor time for each, when every connection has to be opened first, when they are open, and when far
more is looked up than it may ask. As all nodes of a zone ask alike, each is asked as often as it asks.
"""

import argparse
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from agent.pull.nearby import BURST, QUESTIONS_PER_S
from benchmarks.arguments import make_parser
from benchmarks.footprint.members import make_members
from benchmarks.footprint.stage import Stage, raised
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

_SETTLED_S = 15.0


class Counted:
    """What happened since it was made."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._questions, self._cpu_s = self._now()
        self._began_s = time.monotonic()

    def _now(self) -> tuple[int, float]:
        return self._stage.crowd.do("counts")["answered"], self._stage.cpu_s

    def report(self, report: Recorder, what: str) -> None:
        """Add the figures."""
        took_s = time.monotonic() - self._began_s
        questions, cpu_s = self._now()
        asked, used_s = questions - self._questions, cpu_s - self._cpu_s
        report.single(f"{what}: took", "s", took_s)
        report.single(f"{what}: questions", "", asked)
        report.single(f"{what}: questions at most", "", BURST + QUESTIONS_PER_S * took_s, None)
        report.single(f"{what}: processor for each", "ms", 1000 * used_s / max(1, asked))
        report.single(f"{what}: processor", "% of a core", 100 * used_s / took_s)
        report.single(f"{what}: memory", "MiB", self._stage.rss_mib)


def measure(report: Recorder, stage: Stage, lookups: int) -> None:
    """All rows."""
    time.sleep(_SETTLED_S)
    for what in ("first look-up of what nobody has", "the next one"):
        counted = Counted(stage)
        _look_up(stage)
        counted.report(report, what)
    time.sleep(BURST / QUESTIONS_PER_S)
    counted = Counted(stage)
    slowest_s = 0.0
    with ThreadPoolExecutor(32) as clients:
        for took_s in clients.map(lambda _: _look_up(stage), range(lookups)):
            slowest_s = max(slowest_s, took_s)
    counted.report(report, f"{lookups} look-ups, 32 at a time")
    report.single("the slowest of them", "s", slowest_s)


def _look_up(stage: Stage) -> float:
    began_s = time.monotonic()
    stage.pull(f"sha256:{secrets.token_hex(32)}")
    return time.monotonic() - began_s


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.index.nearby", __doc__)
    parser.add_argument("--members", type=int, default=5000)
    parser.add_argument("--zones", type=int, default=10)
    parser.add_argument("--lookups", type=int, default=500)
    return run(parser, _measure)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    everybody = make_members(range(arguments.members), arguments.zones)
    report.begin(f"{arguments.members} members in {arguments.zones} zones, no index")
    more = {"cold_start": {"mode": "off"}}  # a claim is another question, to one node
    with raised(everybody, everybody=everybody, blobs=10, kubernetes=False, more=more) as stage:
        measure(report, stage, arguments.lookups)


if __name__ == "__main__":
    sys.exit(main())
