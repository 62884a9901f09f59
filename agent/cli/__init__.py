"""The command line: ``shorthaul COMMAND``. One file a command.

Nothing is imported before `main` runs, so that Ctrl-C at any moment ends a command quietly, and SIGHUP never
ends the agent or the probe. What comes before the interpreter is here can't be helped.
"""

TYPE_CHECKING = False  # typing's own costs an import
if TYPE_CHECKING:
    from collections.abc import Sequence

_FOLLOW_HANGUPS = ("agent", "probe")


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run the command line; returns the exit status. ``argv``: None for this process's own.

    0 good, 1 failed, 2 wrong usage, 130 Ctrl-C, 141 the reader of the output closed it.
    """
    try:
        import sys

        words = sys.argv[1:] if argv is None else [*argv]
        if words[:1] == ["ready"]:
            from agent.cli.ready import only_asks, report

            health_socket = only_asks(words)
            if health_socket is not None:  # asked every second while an agent starts: imports nothing more
                return report(health_socket)
        return _run_process(words) if argv is None else _run(words)
    except KeyboardInterrupt:
        return 130


def _run_process(words: "list[str]") -> int:
    import _signal as signal  # type: ignore[import-not-found] # that of the library itself takes milliseconds

    # SIGHUP waits until the command says what it means (`agent.hangup`). Ctrl-C waits until the imports are
    # done, because an exception in the middle of one may come out as another one.
    interrupt, hangup = (signal.SIGINT,), (signal.SIGHUP,)
    follows = words[:1] and words[0] in _FOLLOW_HANGUPS
    signal.pthread_sigmask(signal.SIG_BLOCK, interrupt + hangup if follows else interrupt)
    try:
        import agent.cli.output  # noqa: F401 - `_run` uses it
        from agent.cli.commands import import_commands

        import_commands(words)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupt)
        return _run(words)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the interpreter's end has no use for an exception


def _run(words: "list[str]") -> int:
    from agent.cli.commands import run
    from agent.cli.output import run_command

    return run_command(lambda: run(words))
