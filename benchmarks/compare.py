"""What changed between two reports, and what of it is larger than noise.

python -m benchmarks compare OLD.json NEW.json
"""

import argparse
import sys
from pathlib import Path

from benchmarks.arguments import make_console
from benchmarks.reading import read_report
from benchmarks.reporting.compare import Incomparable, compare
from benchmarks.reporting.tables import print_comparison


def main() -> int:
    """Print it. 0 whatever changed: a comparison judges nothing."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", type=Path, metavar="OLD.json")
    parser.add_argument("new", type=Path, metavar="NEW.json")
    arguments = parser.parse_args()
    old, new = (read_report(parser, path) for path in (arguments.old, arguments.new))
    try:
        found = compare(old, new)
    except Incomparable as error:
        print(f"{error}; {error.hint}", file=sys.stderr)
        return 1
    print_comparison(make_console(), found, str(arguments.old))
    return 0


if __name__ == "__main__":
    sys.exit(main())
