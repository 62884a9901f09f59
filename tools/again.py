"""Runs the modules of the tests that failed once more, one after another, with nothing beside them.

A test that passes then depends on how busy the machine is. That is a defect of the test or of the product,
so it is named. But it says nothing about the change at hand, and the run passes. Many failures are never put
down to a busy machine.
"""

import json
import subprocess
import sys
from pathlib import Path

_FAILED = Path(".pytest_cache/v/cache/lastfailed")
_MOST = 8


def main() -> int:
    """Run them. Returns pytest's exit status, or 1 if too many failed or it is not known which."""
    failed = sorted(json.loads(_FAILED.read_text())) if _FAILED.exists() else []
    if not 0 < len(failed) <= _MOST:
        print(f"{len(failed)} tests failed; none is run again", file=sys.stderr)
        return 1
    modules = sorted({name.partition("::")[0] for name in failed})
    print("Failed beside others, and run again alone, each with its module:", *failed, sep="\n  ", flush=True)
    status = subprocess.run([sys.executable, "-m", "pytest", "-n", "0", *modules], check=False).returncode
    if status == 0:
        print("They pass alone, so they depend on how busy the machine is. Mend them:", *failed, sep="\n  ")
    return status


if __name__ == "__main__":
    sys.exit(main())
