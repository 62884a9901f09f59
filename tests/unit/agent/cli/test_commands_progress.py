"""Every command that waits says so: after two seconds, on standard error, in a pipe and on a terminal."""

import contextlib
import fcntl
import os
import pty
import re
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.cli.progress import PROGRESS_VARIABLE

_COMMAND = str(Path(sys.executable).parent / "shorthaul")
_ASKING = {
    "topology": ["topology"],
    "explain": ["explain", "docker.io/library/x:1"],
    "claims": ["claims"],
    "requests": ["requests"],
    "index": ["index"],
    "scrub": ["scrub"],
}
"""The commands that ask an agent, each as a person types it."""

_DONE = b'{"code": "UNKNOWN", "message": "enough", "hint": "none"}'


class Reluctant:
    """An agent that answers only when it is told to, and then with an error."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._answers = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def answer(self) -> None:
        """Answer everything."""
        self._answers.set()

    def close(self) -> None:
        """Stop listening."""
        self.answer()
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        self._answers.wait()
        with contextlib.suppress(OSError), client:
            client.recv(65536)
            head = b"HTTP/1.1 500 no\r\nContent-Type: application/json\r\nConnection: close\r\n"
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(_DONE) + _DONE)


@pytest.fixture
def agent() -> Iterator[Reluctant]:
    reluctant = Reluctant()
    yield reluctant
    reluctant.close()


def environment(**more: str) -> Mapping[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in (PROGRESS_VARIABLE, "NO_COLOR")}
    return {**kept, "TERM": "xterm-256color", **more}


@contextmanager
def started(words: list[str], agent: Reluctant, **more: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [_COMMAND, *words, "--url", agent.url]
    process = subprocess.Popen(command, **{"env": environment(), **more})  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()


def test_every_command_that_asks_an_agent_says_in_a_pipe_that_it_waits(agent: Reluctant) -> None:
    with contextlib.ExitStack() as stack:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running = {
            name: stack.enter_context(started(words, agent, **pipes)) for name, words in _ASKING.items()
        }
        told = {
            name: process.stderr.readline().decode() for name, process in running.items() if process.stderr
        }
        agent.answer()
        ended = {name: process.communicate() for name, process in running.items()}
    for name, line in told.items():
        assert re.fullmatch(rf"shorthaul {name}, \d+ s so far\n", line), line
        out, err = ended[name]
        assert out == b""
        assert b"enough" in err
        assert b"\x1b" not in line.encode() + err


@pytest.mark.parametrize("colours", [True, False])
def test_terminal_has_a_bar_that_goes_when_the_answer_comes_and_colours_only_if_it_may(
    agent: Reluctant, colours: bool
) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x18\x00\x78\x00\x00\x00\x00\x00")  # 24 lines of 120
    variables = environment() if colours else environment(NO_COLOR="1")
    with started(
        ["topology"], agent, env=variables, stdout=subprocess.PIPE, stderr=theirs, close_fds=True
    ) as process:
        os.close(theirs)
        seen = b""
        while b"so far" not in seen:
            seen += os.read(ours, 65536)
        agent.answer()
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while part := os.read(ours, 65536):
                seen += part
        assert process.stdout is not None
        assert process.stdout.read() == b""
    os.close(ours)
    assert b"shorthaul topology" in seen
    assert b"enough" in seen
    assert b"\x1b[2K" in seen.rpartition(b"so far")[2]  # the bar's line is cleared
    assert (re.search(rb"\x1b\[(?:\d+;)*(?:3[0-8]|9\d)(?:;\d+)*m", seen) is not None) is colours


def test_nothing_is_said_where_it_is_switched_off(agent: Reluctant) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with (
        started(["claims"], agent, env=environment(), **pipes) as loud,
        started(["claims"], agent, env=environment(**{PROGRESS_VARIABLE: "off"}), **pipes) as quiet,
    ):
        assert loud.stderr is not None
        assert b"so far" in loud.stderr.readline()
        agent.answer()
        _, err = quiet.communicate()
    assert b"so far" not in err
    assert b"enough" in err
