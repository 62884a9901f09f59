"""Take a report over: into benchmarks/results/, and its figures into README.md and docs/benchmarks.md.

    python -m benchmarks publish [dist/bench/report.json]

It refuses a report that lacks something, or of a machine that was busy: README.md says of its figures that
they were measured, and a reader takes them for this project's.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.reading import read_report
from benchmarks.reporting import markdown
from benchmarks.reporting.format import Report, to_json
from benchmarks.reporting.marks import fill
from benchmarks.reporting.page import write_page
from benchmarks.reporting.writing import WriteFailed, write_whole

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
REPORT = RESULTS / "report.json"
PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")
_MADE = ROOT / "dist" / "bench" / "report.json"


def main() -> int:
    """Publish it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "report", type=Path, nargs="?", default=_MADE, help="what make bench wrote (%(default)s)"
    )
    parser.add_argument(
        "--incomplete",
        action="store_true",
        help="also one that lacks something, or of a busy machine; it is said there",
    )
    arguments = parser.parse_args()
    report = read_report(parser, arguments.report)
    if (why := unfit(report)) and not arguments.incomplete:
        parser.error(f"{arguments.report}: {why}; make bench again, or publish it with --incomplete")
    try:
        publish(report)
    except WriteFailed as error:
        print(f"{error}; {error.hint}", file=sys.stderr)
        return 1
    print(f"published in {RESULTS.relative_to(ROOT)}, README.md and docs/benchmarks.md: look at git diff")
    return 0


def unfit(report: Report) -> str:
    """Why the report should not be published. Empty: nothing speaks against it."""
    lacking = "" if report.complete else f"It lacks something: {'; '.join(report.problems)}"
    return ". ".join(filter(None, (lacking, markdown.busy_words(report.machine))))


def publish(report: Report) -> None:
    """Write the report, its page and pictures, and the parts of the pages. Raises `WriteFailed`."""
    RESULTS.mkdir(exist_ok=True)
    for older in RESULTS.glob("report*"):
        older.unlink()
    write_whole(REPORT, to_json(report))
    write_page(report, RESULTS / "report.html")
    write_pages(markdown.parts(report))


def write_pages(parts: Mapping[str, str]) -> None:
    """Write the parts into README.md and docs/benchmarks.md."""
    for page in PAGES:
        write_whole(page, fill(page.read_text(), markdown.KIND, parts))


if __name__ == "__main__":
    sys.exit(main())
