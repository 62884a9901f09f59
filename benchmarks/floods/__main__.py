"""What one client that floods an agent costs the others.

Two real agents on loopback, a well-behaved local client, and one attacker, each a process of its own. For
each flood: what the client saw before it, while the same flood went to a server that is no agent (what the
attacker's own work costs on this machine), during it and after it; the agent's memory, descriptors and CPU
time. It needs root for the limit of descriptors. ``--quick``: three seconds a phase instead of eight.
"""

import argparse
import sys

from rich.table import Table

from benchmarks.arguments import make_parser
from benchmarks.floods.kinds import FLOODS
from benchmarks.floods.measuring import Outcome, measure
from benchmarks.floods.stage import raised
from benchmarks.reporting.format import Better
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

_PER_FLOOD = 300  # contents that only the peer has
_FEW_DESCRIPTORS = 1024


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.floods", __doc__, quick="three seconds a phase instead of eight")
    parser.add_argument(
        "--only", metavar="WORDS", default="", help="only the floods with these words in the name"
    )
    return run(parser, _measure)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    outcomes: list[Outcome] = []
    for flood in FLOODS:
        if arguments.only not in flood.name:
            continue
        report.begin(flood.name)
        limit = _FEW_DESCRIPTORS if "idle" in flood.name else None
        with raised(at_peer=_PER_FLOOD, is_open=flood.member, descriptors=limit) as stage:
            outcome = measure(
                stage,
                flood,
                member=flood.member,
                phase_s=3.0 if arguments.quick else 8.0,
                at_peer=stage.at_peer,
            )
        outcomes.append(outcome)
        report.console.print(_line(outcome), highlight=False, soft_wrap=True)
        _record(report, outcome)
    report.console.print(_table(outcomes))


def _record(report: Recorder, outcome: Outcome) -> None:
    phases = {"before": outcome.before, "beside": outcome.beside, "during": outcome.during}
    for phase, seen in (phases | {"after": outcome.after}).items():
        report.value("local pull, p50", "ms", seen.local_p50_ms, way=phase, baseline="beside")
        report.value("local pull, p99", "ms", seen.local_p99_ms, way=phase, baseline="beside")
        report.value("requests that failed", "", float(seen.failed), way=phase, better=Better.LOWER)
    report.single("livez during it, p99", "ms", outcome.during.livez_p99_ms)
    report.share("contents of the peer that were had", outcome.during.peer_ok, outcome.during.peer_asked)
    report.single("memory at rest", "MiB", outcome.rss_before_mib)
    report.single("memory, the most", "MiB", outcome.rss_most_mib)
    report.single("memory at the end", "MiB", outcome.rss_after_mib)
    report.single("descriptors, the most", "", outcome.descriptors_most, better=Better.LOWER)
    report.single("processor", "% of a core", 100 * outcome.cpu)


def _line(outcome: Outcome) -> str:
    return " | ".join(_row(outcome)) + f" | {outcome.attacker}"


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title="measured on this machine just now; ms p50 / p99")
    for name in (
        "flood",
        "who",
        "before",
        "beside",
        "during",
        "after",
        "livez p99",
        "peer",
        "RSS, MiB",
        "fds",
        "CPU",
    ):
        table.add_column(name)
    for outcome in outcomes:
        table.add_row(*_row(outcome))
    return table


def _row(outcome: Outcome) -> list[str]:
    local = [
        f"{seen.local_p50_ms:.1f} / {seen.local_p99_ms:.1f}"
        for seen in (outcome.before, outcome.beside, outcome.during, outcome.after)
    ]
    during = outcome.during
    lost = f" ({during.failed} failed)" if during.failed else ""
    return [
        outcome.flood,
        outcome.who,
        local[0],
        local[1],
        local[2] + lost,
        local[3],
        f"{during.livez_p99_ms:.1f}",
        f"{during.peer_ok}/{during.peer_asked}",
        f"{outcome.rss_before_mib:.0f} / {outcome.rss_most_mib:.0f} / {outcome.rss_after_mib:.0f}",
        str(outcome.descriptors_most),
        f"{outcome.cpu:.0%}",
    ]


if __name__ == "__main__":
    sys.exit(main())
