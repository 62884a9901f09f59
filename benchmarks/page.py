"""A report as one page, and its pictures as PNG files beside it.

python -m benchmarks page REPORT.json PAGE.html [--compare OLD.json]
"""

import argparse
import sys
from pathlib import Path

from benchmarks.reading import read_report
from benchmarks.reporting.compare import Incomparable, compare
from benchmarks.reporting.page import write_page
from benchmarks.reporting.writing import WriteFailed


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("report", type=Path, metavar="REPORT.json")
    parser.add_argument("page", type=Path, metavar="PAGE.html")
    parser.add_argument(
        "--compare", type=Path, metavar="OLD.json", help="with what changed since this report"
    )
    arguments = parser.parse_args()
    report = read_report(parser, arguments.report)
    try:
        found = compare(read_report(parser, arguments.compare), report) if arguments.compare else None
        write_page(report, arguments.page, found)
    except (Incomparable, WriteFailed) as error:
        print(f"{error}; {error.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
