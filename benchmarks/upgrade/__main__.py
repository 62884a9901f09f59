"""What an upgrade of the agents costs their clients.

It needs root, and works in network namespaces. It replaces a listener in three ways and counts the clients
that are lost, and then upgrades six agents in turn, as the chart does it, under pulls and requests, for two
minutes. ``--quick``: for 30 seconds.
"""

import sys

from benchmarks.arguments import finish, make_console, make_parser, parse
from benchmarks.report import Report
from benchmarks.upgrade.contenders import report_contenders
from benchmarks.upgrade.rolling import report_rolling


def main() -> int:
    """Measure, print a table, and write all figures as JSON with ``--json``."""
    parser = make_parser("benchmarks.upgrade", __doc__, quick="30 seconds instead of 120")
    arguments = parse(parser, root_for="network namespaces, containerds and eBPF")
    report = Report(make_console())
    report_contenders(report)
    seconds = 30.0 if arguments.quick else 120.0
    report_rolling(report, seconds=seconds, pulls_per_s=4.0, requests_per_s=50.0)
    return finish(report, arguments)


if __name__ == "__main__":
    sys.exit(main())
