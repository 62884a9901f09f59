"""Standard output that may fail, and how a command ends then: no traceback, and a status that tells why.

A reader that closes early (``| head -1``) is no error of the command: it ends as a program does that SIGPIPE
ends. A full disk or a closed output is an error with a reason. Ctrl-C ends a command with 130, as a shell
expects it.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from typing import Any, TextIO

INTERRUPTED, READER_GONE = 130, 141
"""128 + SIGINT, 128 + SIGPIPE."""


class OutputFailed(Exception):
    """Standard output takes no more. It is no OSError, so that nobody takes it for another file's."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.errno = error.errno


class Output(io.TextIOBase):
    """Standard output whose failures are `OutputFailed`. ``stream``: None if the process has none.

    ``before``: called before anything is written.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.before: Callable[[], None] = lambda: None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode gets a "?", not a traceback

    @property
    def encoding(self) -> str:  # type: ignore[override] # TextIOBase has a variable
        """The stream's."""
        return "utf-8" if self._stream is None else self._stream.encoding

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor. Raises OSError if it has none."""
        if self._stream is None:
            raise OSError(errno.EBADF, "standard output is closed")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """See `io.TextIOBase.write`. Raises `OutputFailed`."""
        self.before()
        try:
            if self._stream is None:
                raise OSError(errno.EBADF, "standard output is closed")
            return self._stream.write(text)
        except OSError as error:
            raise OutputFailed(error) from error

    def flush(self) -> None:
        """See `io.TextIOBase.flush`. Raises `OutputFailed`."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except OSError as error:
            raise OutputFailed(error) from error

    def give_up(self) -> None:
        """Drop what is not written yet. The interpreter would try again at its end, and complain."""
        try:
            descriptor = self.fileno()
        except OSError:  # also io.UnsupportedOperation: a test's own stream
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)


def run_command(command: Callable[[], int]) -> int:
    """Run a command; returns its exit status. Ctrl-C and an output that fails end it without a traceback."""
    output = Output(sys.stdout)
    stdout: Any = output
    with redirect_stdout(stdout):
        try:
            return _run_to_the_last_byte(command, output)
        except (KeyboardInterrupt, OutputFailed, BaseExceptionGroup, RuntimeError) as error:
            ending = _ending(error)
            if ending is None:
                raise
            output.give_up()
            return _report(ending)


def _run_to_the_last_byte(command: Callable[[], int], output: Output) -> int:
    try:
        status = command()
    except SystemExit:  # argparse, after its help or an error
        output.flush()
        raise
    output.flush()
    return status


def _ending(error: BaseException) -> KeyboardInterrupt | OutputFailed | None:
    """Why the command ends. Concurrent tasks may report it in a group. None: for another reason."""
    if isinstance(error, KeyboardInterrupt | OutputFailed):
        return error
    # Python 3.11 makes a RuntimeError of any exception while it makes an enum, in the middle of an import.
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, KeyboardInterrupt):
        return error.__cause__
    if isinstance(error, BaseExceptionGroup):
        found = [_ending(each) for each in error.exceptions]
        return found[0] if None not in found else None
    return None


def _report(ending: KeyboardInterrupt | OutputFailed) -> int:
    if isinstance(ending, KeyboardInterrupt):
        return INTERRUPTED
    if ending.errno == errno.EPIPE:
        return READER_GONE
    hint = "give it a terminal, or a file on a disk with room"
    with suppress(OSError):  # nor may anything else be
        print(f"shorthaul: the output can't be written: {ending}\n      hint: {hint}", file=sys.stderr)
    return 1
