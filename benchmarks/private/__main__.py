"""Who gets private images through the mirror, and from where.

    python -m benchmarks.private [--pulls 1000] [--open] [--json FILE]

It needs root. Real containerds 1.6, 1.7 and 2.1 pull over CRI, one after another on each node, the nodes at
once. First those that may not: without credentials, with a wrong password, and as another tenant; by tag, by
digest and by other names; while only a peer has the images, then while the node itself has them. Then those
that may, by tag and by digest; after each pull the image is removed, and its content is seen to be gone.
``--open`` shows the same with a mirror that decides itself.
"""

import argparse
import concurrent.futures
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.arguments import make_parser
from benchmarks.lab.accounts import TENANT
from benchmarks.lab.cluster import Node
from benchmarks.private.stage import Attempt, Private, Stage, attempts, pull, stage
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What came of pulls that must fail. ``succeeded``, ``leaked``: (version, attempt) of those that did."""

    tried: int
    seconds: float
    succeeded: list[tuple[str, Attempt]]
    leaked: list[tuple[str, Attempt]]
    errors: Counter[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What came of pulls that must succeed. Bytes are those of bodies.

    ``from_agents``: what the agents gave their containerds, none of which had any of it. ``asked``: requests
    to the registries, those included that they answered with a 401.
    """

    pulled: int
    seconds: float
    from_agents: int
    from_registries: int
    asked: int

    @property
    def from_peers(self) -> float:
        """The share of the bytes that came from peers."""
        return self.from_agents / (self.from_agents + self.from_registries)


def refuse(made: Stage, pulls: int, *, seed: int = 1) -> Refused:
    """Make so many pulls that must fail. Each node goes on in the list where the one before it ends."""
    began_s = time.monotonic()
    shares = [_share(pulls, number, len(made.pullers)) for number in range(len(made.pullers))]
    succeeded: list[tuple[str, Attempt]] = []
    leaked: list[tuple[str, Attempt]] = []
    errors: Counter[tuple[str, str]] = Counter()

    def work(version: str, node: Node, share: int, first: int) -> None:
        for attempt in itertools.islice(attempts(made.images, seed), first, first + share):
            outcome = made.try_to_pull(node, attempt)
            if outcome.leaked:
                leaked.append((version, attempt))
            if outcome.error is None:
                succeeded.append((version, attempt))
            else:
                errors[version, attempt.who] += 1
            if outcome.leaked:
                made.clear(node)

    with concurrent.futures.ThreadPoolExecutor(len(shares)) as pool:
        firsts = itertools.accumulate(shares, initial=0)
        jobs = [
            pool.submit(work, version, node, share, first)
            for (version, node), share, first in zip(made.pullers.items(), shares, firsts, strict=False)
        ]
        for job in jobs:
            job.result()
    return Refused(
        tried=pulls,
        seconds=time.monotonic() - began_s,
        succeeded=succeeded,
        leaked=leaked,
        errors=errors,
    )


def grant(made: Stage, pulls: int) -> Granted:
    """Make so many pulls that must succeed, spread over the nodes. Each begins without any of the content."""
    before = _given(made), _asked(made)
    began_s = time.monotonic()

    def work(node: Node, share: int) -> None:
        for private, reference in itertools.islice(_rightful(made.images), share):
            pull(node, reference, TENANT)
            made.remove(node, private)

    with concurrent.futures.ThreadPoolExecutor(len(made.pullers)) as pool:
        jobs = [
            pool.submit(work, node, _share(pulls, number, len(made.pullers)))
            for number, node in enumerate(made.pullers.values())
        ]
        for job in jobs:
            job.result()
    given, asked = _given(made), _asked(made)
    return Granted(
        pulled=pulls,
        seconds=time.monotonic() - began_s,
        from_agents=given - before[0],
        from_registries=asked[0] - before[1][0],
        asked=asked[1] - before[1][1],
    )


def _rightful(images: Sequence[Private]) -> Iterable[tuple[Private, str]]:
    """Each image by tag and by digest, again and again."""
    while True:
        for private in images:
            yield private, f"{private.name}:v1"
            yield private, f"{private.name}@{private.top}"


def _share(total: int, number: int, of: int) -> int:
    return total // of + (number < total % of)


def _given(made: Stage) -> int:
    """The bytes of bodies that the pulling nodes' agents have given to their containerds."""
    name = "shorthaul_registry_saved_bytes_total"
    return sum(int(node.metric(name, path="hostport")) for node in made.pullers.values())


def _asked(made: Stage) -> tuple[int, int]:
    """(bytes of bodies, requests) that the private registries have answered to the pulling nodes."""
    addresses = {node.address for node in made.pullers.values()}
    answers = [
        answer
        for registry in made.registries.values()
        for answer in registry.answers()
        if answer.client in addresses
    ]
    sent = sum(answer.body_bytes for answer in answers if answer.method == "GET")
    return sent, len(answers)


def report_refused(report: Recorder, refused: Refused, target: int | None) -> None:
    """Add the figures, and say which got through."""
    report.single("pulls without the right", "", refused.tried)
    report.single("succeeded", "", len(refused.succeeded), target)
    report.single("brought private content into the node's store", "", len(refused.leaked), target)
    report.single("seconds", "s", refused.seconds)
    through = Counter((version, each.way, each.who) for version, each in refused.succeeded + refused.leaked)
    for (version, way, who), number in sorted(through.items()):
        report.console.print(f"    containerd {version}, {way}, {who}: {number}", highlight=False)


def report_granted(report: Recorder, granted: Granted) -> None:
    """Add the figures."""
    report.single("pulls with the right, all succeeded", "", granted.pulled)
    report.share("bytes from peers", granted.from_agents, granted.from_agents + granted.from_registries, 99)
    report.single("bytes from peers", "MB", granted.from_agents / 1e6)
    report.single("bytes from the registries", "MB", granted.from_registries / 1e6)
    report.single("requests to the registries, per pull", "", granted.asked / granted.pulled)
    report.single("seconds", "s", granted.seconds)


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.private", __doc__)
    parser.add_argument("--pulls", type=int, default=1000, help="pulls of each kind (default 1000)")
    parser.add_argument("--open", action="store_true", help="the mirror decides: authorize is mirror")
    return run(parser, _measure, root_for="network namespaces and containerd")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    target = None if arguments.open else 0
    with stage(authorize=not arguments.open) as made:
        made.fill(made.holder)
        report.begin("only a peer has the images")
        report_refused(report, refuse(made, arguments.pulls - arguments.pulls // 2), target)
        report.begin("with credentials")
        report_granted(report, grant(made, arguments.pulls))
        for node in made.pullers.values():
            made.fill(node)
        report.begin("the pulling node has the images itself")
        report_refused(report, refuse(made, arguments.pulls // 2, seed=2), target)


if __name__ == "__main__":
    sys.exit(main())
