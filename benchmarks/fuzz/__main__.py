"""Sends mutated requests to every listener of a node, and says what none of them may bring about.

It needs no root. Two agents run on loopback addresses: the attacked one, and a peer that holds what it lacks.
Nothing may happen but an answer below 500 or a closed connection: no 5xx (but 501, 503, 505), no traceback,
no connection that stays, no more responses than RFC 9112 counts requests, no growth, and a well-behaved
client is served all the while. A case depends on its number alone, but for the time and nonce of a signature:
``--only`` repeats one.
"""

import argparse
import os
import sys

from benchmarks.arguments import make_parser
from benchmarks.fuzz.listeners import NAMES, listener
from benchmarks.fuzz.run import Attacked, Verdict, attack
from benchmarks.fuzz.site import running
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

_NETWORK = f"127.98.{os.getpid() % 250}"  # several runs may go on at once
_ADDRESSES = (f"{_NETWORK}.1", f"{_NETWORK}.2")
_GROWTH_MIB = 20.0


def main() -> int:
    """Attack, print what was found, and write the report. 1 if anything was wrong."""
    parser = make_parser("benchmarks.fuzz", __doc__, quick="1,000 cases a listener instead of 100,000")
    parser.add_argument("--cases", type=int, default=100_000, help="cases for each listener")
    parser.add_argument("--seed", type=int, default=0, help="the first case's number")
    parser.add_argument("--listener", choices=NAMES, action="append", help="only this one; may be repeated")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="only the case of this number")
    return run(parser, _measure)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    cases = 1000 if arguments.quick else arguments.cases
    numbers = range(arguments.seed, arguments.seed + cases)
    if arguments.only is not None:
        numbers = range(arguments.only, arguments.only + 1)
    wrong = 0
    for name in arguments.listener or NAMES:
        report.begin(name)
        with running(*_ADDRESSES) as site, listener(name, site) as attacked:
            wrong += _tell(report, _attack(attacked, numbers))
    if wrong:
        report.problem(f"{wrong} cases were answered wrongly: see the lines above")


def _attack(attacked: Attacked, numbers: range) -> Verdict:
    waiting = attacked.name != "probe-metrics"  # which takes half a minute each, for a few at once
    return attack(attacked, numbers, warm=len(numbers) // 10, waiting=waiting)


def _tell(report: Recorder, verdict: Verdict) -> int:
    assert verdict.before is not None
    assert verdict.after is not None
    report.single("cases", "", verdict.cases)
    report.single("a second", "/s", verdict.cases / verdict.seconds)
    report.single("violations", "", len(verdict.wrong), target=0)
    report.single(
        "memory gained after a tenth",
        "MiB",
        verdict.after.rss_mib - verdict.before.rss_mib,
        target=_GROWTH_MIB,
    )
    report.single("descriptors gained", "", verdict.after.descriptors - verdict.before.descriptors, target=0)
    report.single("threads gained", "", verdict.after.threads - verdict.before.threads, target=0)
    report.single("requests of a well-behaved client", "", verdict.honest)
    report.single("the slowest of them", "s", verdict.honest_slowest_s)
    shown = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(verdict.responses.items()))
    report.console.print(f"  first answers: {shown}", highlight=False)
    for line in verdict.wrong[:20]:
        report.console.print(f"  WRONG {line}", highlight=False, markup=False)
    return len(verdict.wrong)


if __name__ == "__main__":
    sys.exit(main())
