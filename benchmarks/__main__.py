"""The one entry to all benchmarks.

    python -m benchmarks                    what there is
    python -m benchmarks NAME [--quick] [--json FILE] [--html FILE] [--compare OLD.json]
    python -m benchmarks NAME --help        what NAME measures, and its own arguments
    python -m benchmarks compare OLD.json NEW.json
    python -m benchmarks page REPORT.json PAGE.html

`python -m benchmarks.NAME` does the same.
"""

import difflib
import runpy
import sys

from benchmarks.catalogue import CATALOGUE

_TOOLS = {
    "compare": "what changed between two reports, and what of it is larger than noise",
    "page": "a report as one HTML page, with its pictures beside it",
    "publish": "take a report over: into benchmarks/results/, README.md and docs/benchmarks.md",
}


def main() -> int:
    """List the benchmarks, or become the one that is named."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("", "-h", "--help"):
        print(__doc__)
        print(_listing())
        return 0
    if name not in CATALOGUE and name not in _TOOLS:
        near = difflib.get_close_matches(name, [*CATALOGUE, *_TOOLS], n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        print(f"there is no benchmark {name}{meant}\n\n{_listing()}", file=sys.stderr)
        return 2
    module = f"benchmarks.{name}"
    sys.argv = [f"python -m benchmarks {name}", *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0  # a module that ends without sys.exit


def _listing() -> str:
    width = max(map(len, (*CATALOGUE, *_TOOLS)))
    lines = [
        f"  {name:<{width}}  {entry.question}{'' if entry.needs_root else ' (no root)'}"
        for name, entry in CATALOGUE.items()
    ]
    return "\n".join([*lines, "", *(f"  {name:<{width}}  {words}" for name, words in _TOOLS.items())])


if __name__ == "__main__":
    sys.exit(main())
