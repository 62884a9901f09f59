"""Writes, or checks, the dashboards' files."""

import argparse
import json
import sys
from pathlib import Path

from tools.dashboards import DASHBOARDS

FOLDER = Path(__file__).resolve().parents[2] / "helm" / "shorthaul" / "files" / "dashboards"


def made() -> dict[Path, str]:
    """The text of each file."""
    return {
        FOLDER / f"{each.name}.json": json.dumps(each.json(), indent=1, ensure_ascii=False) + "\n"
        for each in DASHBOARDS
    }


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(prog="python -m tools.dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file differs")
    arguments = parser.parse_args()
    files = made()
    strange = {path for path in FOLDER.glob("*.json") if path not in files}
    stale = {path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text}
    for path in sorted(strange | stale):
        print(f"{path.name}: {'out of date: make chart-docs' if arguments.check else 'written'}")
    if not arguments.check:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for path in strange:
            path.unlink()
        for path in stale:
            path.write_text(files[path], "utf-8")
    return 1 if arguments.check and strange | stale else 0


if __name__ == "__main__":
    sys.exit(main())
