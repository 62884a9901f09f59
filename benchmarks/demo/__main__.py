"""Runs the demo. Imports nothing of it before Ctrl-C is handled, so that it ends quietly at any moment."""

import sys


def main() -> int:
    """See `benchmarks.demo.run.main`."""
    try:
        from benchmarks.demo.run import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
