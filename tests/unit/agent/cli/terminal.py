"""A terminal of a given width, with a command in it, as a person has it."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.unit.twins import REPOSITORY_ROOT

PYTHON = sys.executable
SHORTHAUL = str(Path(sys.executable).parent / "shorthaul")
CTRL_C = b"\x03"
_AT_MOST_S = 60.0


class Terminal:
    """The person's side. ``shown``: what the command wrote so far, with the terminal's own escapes."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor: int | None = descriptor
        self._status: int | None = None
        self.shown = ""

    def press(self, keys: bytes) -> None:
        """Type this."""
        assert self._descriptor is not None
        os.write(self._descriptor, keys)

    def hang_up(self) -> None:
        """Close the terminal."""
        assert self._descriptor is not None
        os.close(self._descriptor)
        self._descriptor = None

    def wait_for(self, text: str, *, at_most_s: float = _AT_MOST_S) -> None:
        """Return when the command has written this. Fails if it ends before."""
        until_s = time.monotonic() + at_most_s
        while text not in self.shown:
            assert time.monotonic() < until_s, f"never shown: {text!r}\n{self.shown}"
            assert self._read(0.1), f"ended without {text!r}:\n{self.shown}"

    def exit_status(self) -> int:
        """Wait for the end. Returns the exit status, or -N if signal N ended it."""
        until_s = time.monotonic() + _AT_MOST_S
        while self._read(0.1):
            assert time.monotonic() < until_s, f"does not end:\n{self.shown}"
        return self._wait()

    def _read(self, at_most_s: float) -> bool:
        """Read what there is. False: the command has ended, or its terminal is closed."""
        if self._descriptor is None:
            return False
        if not select.select([self._descriptor], [], [], at_most_s)[0]:
            return True
        try:
            part = os.read(self._descriptor, 65536)
        except OSError:  # EIO: nobody has the other side open any more
            return False
        self.shown += part.decode(errors="replace")
        return bool(part)

    def _wait(self) -> int:
        if self._status is None:
            _, status = os.waitpid(self.pid, 0)
            self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def close(self) -> None:
        """End the command, if it has not ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)
            self._wait()
        if self._descriptor is not None:
            os.close(self._descriptor)


@contextmanager
def terminal(command: Sequence[str], *, columns: int = 80, rows: int = 50) -> Iterator[Terminal]:
    """The command in a terminal of its own, of this size."""
    pid, descriptor = pty.fork()
    if pid == 0:  # the child: nothing of pytest may run here
        try:
            os.chdir(REPOSITORY_ROOT)
            environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
            environment.pop("COLUMNS", None)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(command[0], list(command), environment)
        finally:
            os._exit(127)
    opened = Terminal(pid, descriptor)
    try:
        yield opened
    finally:
        opened.close()
