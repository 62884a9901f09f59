"""The command line: ``shorthaul COMMAND``. One file a command.

Nothing is imported before `main` runs, so that Ctrl-C at any moment ends a command quietly.
"""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0 good, 1 failed, 2 wrong usage, 130 Ctrl-C, 141 the reader of the output closed it.
    """
    try:
        from agent.cli.commands import run
        from agent.cli.output import run_command

        return run_command(lambda: run(argv))
    except KeyboardInterrupt:
        return 130
