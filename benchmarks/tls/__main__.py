"""What encryption between agents costs, and what a rotation of certificates costs under load.

It needs root, and works in network namespaces. It measures relays in plain, signed and with TLS in one run,
new connections, and pulls by real containerds while every agent's certificate and its CA are renewed again
and again. ``--quick``: fewer rounds, smaller transfers.
"""

import sys

from benchmarks.arguments import finish, make_console, make_parser, parse
from benchmarks.report import Report
from benchmarks.tls.connections import report_connections
from benchmarks.tls.relays import report_relays
from benchmarks.tls.rotation import report_rotation


def main() -> int:
    """Measure, print a table, and write all figures as JSON with ``--json``."""
    parser = make_parser("benchmarks.tls", __doc__, quick="fewer rounds, smaller transfers")
    arguments = parse(parser, root_for="network namespaces and containerds")
    report = Report(make_console())
    quick = arguments.quick
    report_relays(report, rounds=3 if quick else 9, mib=256 if quick else 1024)
    report_connections(report, rounds=3 if quick else 9)
    report_rotation(report, seconds=20.0 if quick else 120.0)
    return finish(report, arguments)


if __name__ == "__main__":
    sys.exit(main())
