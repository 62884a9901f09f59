"""The index's server dies, hangs, slows down or loses everything, while a node pulls what two others have.

    python -m benchmarks.index.outage [--rounds N] [--layers-mib 60,30,10] [--json FILE]

It needs root. Each round pulls the image once undisturbed and once with each trouble, with a fresh agent that
has nothing and remembers nothing. The registry's own log says what came from it.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from benchmarks.arguments import listed, make_parser
from benchmarks.chunks.stage import MIB, daemon, wait_until
from benchmarks.coldstart.fleet import Fleet, Outcome, Release
from benchmarks.coldstart.rows import Way
from benchmarks.lab.cluster import ADMIN_PORT, Cluster, Index, Node, places
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

HOLDERS, ASKER = ("a1", "a2"), "a3"
_LATE_S = 0.2
_SOURCES = ("cache", "server", "fallback")


class Trouble(Enum):
    """What happens to the server, before the pull begins."""

    NONE = "undisturbed"
    KILLED = "killed"
    FROZEN = "frozen (SIGSTOP)"
    SLOW = "slow (200 ms)"
    EMPTIED = "emptied"
    ABSENT = "down since before the agent began"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One pull with its trouble. ``sources``: how often the node's look-ups were answered from where."""

    outcome: Outcome
    sources: Mapping[str, int]

    @property
    def seconds(self) -> float:
        """How long it took; NaN: it failed."""
        return self.outcome.slowest_s


class Stage:
    """Two nodes of a zone that hold an image, a third one that pulls it, and the server of their index."""

    def __init__(self, fleet: Fleet, index: Index, release: Release) -> None:
        self._fleet = fleet
        self._index = index
        self._release = release
        self._asker = fleet.cluster.node(ASKER)

    def pull(self, trouble: Trouble) -> Pull:
        """Make the third node a new one, make trouble, and pull. In the end the server is well again."""
        node = self._asker
        node.stop_agent()
        self._forget_image()
        with ExitStack() as troubled:
            if trouble is Trouble.ABSENT:
                troubled.enter_context(self._in(trouble))
            node.start_agent(**self._fleet.settings)
            self._wait_until_known()
            if trouble is not Trouble.ABSENT:
                wait_until(lambda: is_up(node), f"{node.name} does not use the index")
                troubled.enter_context(self._in(trouble))
            before = sources_of(node)
            outcome = self._fleet.pull_all(self._release, names=[ASKER])
            after = sources_of(node)
        self.wait_until_well()
        return Pull(outcome=outcome, sources={name: after[name] - before[name] for name in _SOURCES})

    def wait_until_well(self) -> None:
        """Wait until all agents use the server, and have told it what they have."""
        for node in self._fleet.nodes:
            wait_until(lambda node=node: is_up(node), f"{node.name} does not use the index")  # type: ignore[misc]

    @contextmanager
    def _in(self, trouble: Trouble) -> Iterator[None]:
        server, relay = self._index.server, self._index.relay
        strike, mend = {
            Trouble.NONE: (_nothing, _nothing),
            Trouble.KILLED: (server.kill, server.start),
            Trouble.ABSENT: (server.kill, server.start),
            Trouble.FROZEN: (server.freeze, server.thaw),
            Trouble.SLOW: (lambda: relay.make_late(_LATE_S), lambda: relay.make_late(0.0)),
            Trouble.EMPTIED: (lambda: server.cli("FLUSHALL"), _nothing),
        }[trouble]
        strike()
        try:
            yield
        finally:
            mend()

    def _forget_image(self) -> None:
        containerd = daemon(self._asker)
        containerd.remove(self._release.reference)
        containerd.collect_garbage()
        wait_until(
            lambda: not any((containerd.blobs / digest[7:]).exists() for digest in self._release.image.blobs),
            "containerd keeps the image",
        )

    def _wait_until_known(self) -> None:
        def known() -> bool:
            entries = self._asker.get("/api/topology", port=ADMIN_PORT).json()["nodes"]
            return sum(1 for entry in entries if entry["rtt"] is not None) >= len(self._fleet.nodes) - 1

        wait_until(known, f"{ASKER} does not know the others")


def _nothing() -> None:
    """There is nothing to do."""


def is_up(node: Node) -> bool:
    """Whether the node's agent uses the server, and has told it all that it has."""
    status = node.get("/api/index", port=ADMIN_PORT).json()
    return status["state"] in ("server", "warming") and not status["pending"]


def sources_of(node: Node) -> dict[str, int]:
    """How often the node's look-ups were answered from where."""
    return {name: int(node.metric("shorthaul_index_lookups_total", source=name)) for name in _SOURCES}


@contextmanager
def staged(layer_bytes: list[int], settings: Mapping[str, Any], *, version: str = "2.1") -> Iterator[Stage]:
    """Three nodes of a zone, of which two hold an image of these layers."""
    with Cluster(places({"r1": ["a"]}, 3), versions=(version,)) as cluster:
        index = cluster.add_index()
        fleet = Fleet(cluster, settings, pull_s=120.0)
        release = fleet.release("outage", layer_bytes)
        with fleet.ready(Way.ZONE):
            stage = Stage(fleet, index, release)
            stage.wait_until_well()
            for name in HOLDERS:
                fleet.hold(cluster.node(name), release)
            stage.wait_until_well()
            yield stage


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.index.outage", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is pulled (%(default)s)")
    parser.add_argument("--layers-mib", type=listed(int), default="60,30,10", help="%(default)s")
    return run(parser, _measure, root_for="network namespaces and containerds")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    pulls: dict[Trouble, list[Pull]] = {trouble: [] for trouble in Trouble}
    with staged([each * MIB for each in arguments.layers_mib], {"scrub": {"bytes_per_s": 0}}) as stage:
        for number in range(arguments.rounds):
            for trouble in Trouble:
                pull = stage.pull(trouble)
                pulls[trouble].append(pull)
                report.console.print(
                    f"[dim]{number + 1}/{arguments.rounds} {trouble.value}: {pull.seconds:.2f} s, "
                    f"{pull.outcome.fetches.gets} GETs at the registry, {dict(pull.sources)}[/dim]"
                )
    report.begin(f"{sum(arguments.layers_mib)} MiB, two holders, the index's server in trouble")
    usual_s = statistics.median(pull.seconds for pull in pulls[Trouble.NONE])
    for trouble, those in pulls.items():
        _report(report, trouble, those, usual_s)


def _report(report: Recorder, trouble: Trouble, pulls: list[Pull], usual_s: float) -> None:
    middle: Callable[[Callable[[Pull], float]], float] = lambda of: statistics.median(map(of, pulls))  # noqa: E731
    report.single(f"{trouble.value}: pull", "s", middle(lambda pull: pull.seconds), usual_s + 1.0)
    gets = max(pull.outcome.fetches.gets for pull in pulls)
    report.single(f"{trouble.value}: GETs at the registry, most", "", gets, 0.0)


if __name__ == "__main__":
    sys.exit(main())
