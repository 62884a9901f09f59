"""What one agent costs in a large cluster, with a list of members and content of its own.

    python -m benchmarks.footprint [--members 5000] [--blobs 2000] [--membership static|kubernetes] …

A real agent with the ordinary settings, and a crowd of all other agents on loopback, which answer, measure
and ask as real ones do. It reports the agent's memory (RSS), the seconds of its start, its processor time,
the size and time of its pages, and for how long ``/livez`` had to wait meanwhile, for each of the things that
happen to an agent. A busy machine makes times longer. Memory hardly depends on it.
"""

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.arguments import make_parser
from benchmarks.footprint.members import Member, make_members
from benchmarks.footprint.stage import HELD, Lateness, Stage, raised
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

_RSS_MAX_MIB, _START_MAX_S, _HELD_MAX_MS = 128.0, 3.0, 50.0
_SETTLED_S = 10.0
_PAGES = (
    "/metrics",
    "/readyz?verbose",
    "/api/overview",
    "/api/map",
    "/api/history?step=60",
    "/api/cluster",
    "/api/topology",
    "/api/latency",
    "/api/transfers",
    "/api/claims",
    "/api/index",
    "/api/registries",
    "/api/costs",
    "/api/flows",
    "/api/requests",
    "/api/reach",
    f"/api/explain?digest={HELD}",
)


class Footprint:
    """One agent, and the things that happen to it, one after the other."""

    def __init__(self, report: Recorder, stage: Stage, zones: int) -> None:
        self._report = report
        self._stage = stage
        self._zones = zones

    def run(self) -> None:
        """All of them."""
        stage, report = self._stage, self._report
        report.single("start until ready", "s", stage.ready_s, _START_MAX_S)
        report.single("start until the first look-up is answered", "s", stage.first_s, _START_MAX_S)
        time.sleep(_SETTLED_S)
        self._memory("settled: standing channels and measurements")
        self._idle(20.0)
        self._tabs(1, 20.0)
        self._tabs(50, 20.0)
        counts = stage.crowd.do("counts")
        report.single("channels that it keeps to peers", "", counts["channels"])
        report.single("connections with which it measures", "", counts["measuring"])
        members = stage.members
        self._happen("every member reports its zones", lambda: self._reports(len(members)))
        self._happen("a thousand members ask", lambda: self._asked(1000))
        stage.crowd.do("stop asking")
        tenth = len(members) // 10
        new = make_members(range(len(members), len(members) + tenth), self._zones)
        self._happen("10 % replaced", lambda: self._list([*new, *members[tenth:]], come=tenth))
        zone = members[1].zone
        left = [member for member in members if member.zone != zone]
        self._happen("a zone goes", lambda: self._list(left))
        self._happen("the zone comes back", lambda: self._list(members))
        self._happen("nobody is left but ten", lambda: self._list(members[:10]))
        self._happen("all come at once", lambda: self._list(members))
        self._happen("one goes", lambda: self._list(members[:-1]))
        self._happen("and comes back", lambda: self._list(members))
        self._pages()
        self._commands()
        time.sleep(3)
        self._memory("at the end")
        report.single("at the most", "MiB", stage.peak_mib)

    def _memory(self, what: str) -> None:
        self._report.single(f"memory, {what}", "MiB", self._stage.rss_mib, _RSS_MAX_MIB)

    def _idle(self, seconds: float) -> None:
        before_s = self._stage.cpu_s
        time.sleep(seconds)
        share = (self._stage.cpu_s - before_s) / seconds
        self._report.single("processor, idle", "% of a core", 100 * share)

    def _tabs(self, count: int, seconds: float) -> None:
        """Pages at the admin port that stay open, on a cluster in which nothing happens."""
        stage, what = self._stage, f"{count} open page" + "s" * (count > 1)
        with Lateness() as late, stage.looked_at(count) as read_bytes:
            time.sleep(_SETTLED_S)  # the whole picture, and the first questions to other nodes
            self._report.single(
                f"{what}: a page opens, /livez waited at most", "ms", late.worst_ms, _HELD_MAX_MS
            )
            before_s, before_bytes = stage.cpu_s, read_bytes()
            time.sleep(seconds)
            share = (stage.cpu_s - before_s) / seconds
            self._report.single(f"{what}: processor", "% of a core", 100 * share)
            sent = (read_bytes() - before_bytes) / seconds / count
            self._report.single(f"{what}: each is sent", "kB/s", sent / 1000)
            self._memory(what)

    def _happen(self, what: str, work: Callable[[], object]) -> None:
        stage, before_s, began_s = self._stage, self._stage.cpu_s, time.monotonic()
        with Lateness() as late:
            work()
            took_s = time.monotonic() - began_s
            time.sleep(1.5)
        self._report.single(f"{what}: until it is done", "s", took_s)
        self._report.single(f"{what}: processor", "s", stage.cpu_s - before_s)
        self._report.single(f"{what}: /livez waited at most", "ms", late.worst_ms, _HELD_MAX_MS)
        self._memory(what)

    def _reports(self, number: int) -> None:
        done = self._stage.crowd.do("report", members=number)
        self._report.single("reports that did not arrive", "", done["failed"])

    def _asked(self, number: int) -> None:
        done = self._stage.crowd.do("ask", first=0, connections=number, questions=3)
        self._report.single("questions without an answer", "", done["failed"])

    def _list(self, members: Sequence[Member], *, come: int = 0) -> None:
        """List these members, and wait until the agent uses the list. ``come``: how many of them are new."""
        stage = self._stage
        known = stage.came + come
        stage.list_members(members)
        stage.until(lambda: stage.knows(len(members)) and stage.came >= known, "the list")

    def _pages(self) -> None:
        for page in _PAGES:
            with Lateness() as late:
                time.sleep(0.05)
                began_s, before_s = time.monotonic(), self._stage.cpu_s
                status, body = self._stage.get(page)
                took_s = time.monotonic() - began_s
            name = page.partition("=")[0]
            self._report.single(f"{name}: {status}, size", "kB", len(body) / 1000)
            self._report.single(f"{name}: took", "ms", took_s * 1000)
            self._report.single(f"{name}: processor", "ms", (self._stage.cpu_s - before_s) * 1000)
            self._report.single(f"{name}: /livez waited at most", "ms", late.worst_ms, _HELD_MAX_MS)

    def _commands(self) -> None:
        shorthaul = str(Path(sys.executable).parent / "shorthaul")
        for command in ("topology", "doctor", "explain"):
            more = [HELD] if command == "explain" else []
            more += (
                ["--config", str(self._stage.config)] if command == "doctor" else ["--url", self._stage.url]
            )
            began_s = time.monotonic()
            done = subprocess.run([shorthaul, command, *more], capture_output=True, check=False)
            self._report.single(f"shorthaul {command}: status", "", done.returncode)
            self._report.single(f"shorthaul {command}: took", "s", time.monotonic() - began_s)
            self._report.single(f"shorthaul {command}: prints", "lines", len(done.stdout.splitlines()))


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.footprint", __doc__)
    parser.add_argument("--members", type=int, default=5000)
    parser.add_argument("--blobs", type=int, default=2000)
    parser.add_argument("--zones", type=int, default=10)
    parser.add_argument("--membership", choices=("static", "kubernetes"), action="append")
    parser.add_argument("--index", choices=("scatter", "valkey"), action="append")
    return run(parser, _measure)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    everybody = make_members(range(arguments.members + arguments.members // 10), arguments.zones)
    for membership, index in itertools.product(
        arguments.membership or ("static", "kubernetes"), arguments.index or ("scatter", "valkey")
    ):
        report.begin(f"{arguments.members} members by {membership}, {arguments.blobs} blobs, {index}")
        with raised(
            everybody[: arguments.members],
            everybody=everybody,
            blobs=arguments.blobs,
            kubernetes=membership == "kubernetes",
            by_server=index == "valkey",
        ) as stage:
            Footprint(report, stage, arguments.zones).run()


if __name__ == "__main__":
    sys.exit(main())
