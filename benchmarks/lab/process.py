"""Child processes that end with their parent, and that are ended by their pid."""

import ctypes
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def undisturbed() -> Iterator[None]:
    """A context that ignores Ctrl-C, SIGTERM and SIGHUP, so that a clean-up is not interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """A context that lets these signals wait. Around a fork: Python drops what a handler raises in its hooks,
    so a Ctrl-C at that moment would be lost. `die_with_parent` lets the child have them again.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class LabError(Exception):
    """Something in the lab did not start. The message says what, with the end of its output."""


def die_with_parent() -> None:
    """In the child, before it becomes another program."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prepare(cgroup: Path | None) -> None:
    """In the child: die with the parent, and belong to a cgroup before any socket is made.

    A shell's background job ignores Ctrl-C, and so would all its children.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if cgroup is not None:
        (cgroup / "cgroup.procs").write_text("0")


class Process:
    """A child process that logs to a file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        netns: str | None = None,
        env: dict[str, str] | None = None,
        cgroup: Path | None = None,
    ) -> None:
        self.log = log
        self._command = [*enter(netns), *command]
        with log.open("ab") as output, held_back():
            # The child must end even if the parent is killed by SIGKILL.
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,
                preexec_fn=lambda: _prepare(cgroup),
            )

    @property
    def pid(self) -> int:
        """The pid of the command, because nsenter replaces itself by it."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.running:
            self._child.send_signal(number)

    def stop(self, *, at_most_s: float = 30.0) -> int:
        """Send SIGTERM, then SIGKILL. Returns the exit status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self._child.wait(at_most_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Send SIGKILL. Returns the exit status."""
        self.signal(signal.SIGKILL)
        return self._child.wait(10)

    def wait(self, at_most_s: float = 30.0) -> int:
        """Wait until it has ended. Returns the exit status. Raises `LabError`."""
        try:
            return self._child.wait(at_most_s)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"did not end within {at_most_s:g} s: {' '.join(self._command)}") from error

    def wait_until(self, ready: Callable[[], bool], what: str, *, at_most_s: float = 120.0) -> None:
        """Wait for a condition that this process causes. Raises `LabError` if it ends or takes too long."""
        until_s = time.monotonic() + at_most_s
        while not ready():
            if not self.running or time.monotonic() > until_s:
                last = self.log.read_text(errors="replace")[-1500:]
                raise LabError(f"{what} did not come up: {' '.join(self._command)}\n{last}")
            time.sleep(0.02)


def enter(netns: str | None) -> list[str]:
    """The arguments before a command that run it in a network namespace.

    They use nsenter, because ``ip netns exec`` remounts /sys, which breaks runc.
    """
    return [] if netns is None else ["nsenter", f"--net=/run/netns/{netns}", "--"]


def run(
    command: Sequence[str],
    *,
    netns: str | None = None,
    at_most_s: float = 120.0,
    env: dict[str, str] | None = None,
    text: str = "",
) -> str:
    """Run a command to its end, with this text as its input. Returns its output.

    Raises `LabError` with its error output.
    """
    with held_back():
        child = subprocess.Popen(
            [*enter(netns), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            preexec_fn=die_with_parent,
        )
    with child:
        try:
            output, errors = child.communicate(text, timeout=at_most_s)
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise LabError(f"{' '.join(command)}: {(errors or output).strip()[-1500:]}")
    return output
