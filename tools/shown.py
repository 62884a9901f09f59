"""Runs a command that says nothing while it works, and shows how far it is about.

    python -m tools.shown NAME SECONDS COMMAND…

SECONDS: how long it takes as a rule on two idle cores. What it prints comes at its end. `make` uses this for
linters and the resolver.
"""

import subprocess
import sys

from agent.cli.progress import Course, shown

_USAGE = 2
_NAMED = 3


def main(words: list[str]) -> int:
    """Run it. Returns its exit status."""
    if len(words) < _NAMED or not words[1].isdecimal():
        print(__doc__, file=sys.stderr)
        return _USAGE
    name, about_s, *command = words
    with shown(Course(name, about_s=float(about_s))):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.flush()
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
