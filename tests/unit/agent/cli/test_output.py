"""How a command ends when its output fails, or at Ctrl-C: no traceback, a status that says why."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from agent.cli.output import Output, OutputFailed, run_command
from tests.unit.agent.cli.admin import admin, explanation, large, small
from tests.unit.agent.cli.terminal import CTRL_C, SHORTHAUL, terminal


def run_into(stdout: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command with this standard output."""
    return subprocess.run(
        [SHORTHAUL, *arguments], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("arguments", [["topology"], ["topology", "--json"], ["topology", "--dot", "--all"]])
def test_reader_that_closes_early_ends_the_command_quietly(arguments: list[str]) -> None:
    with admin(large(3000, 12)) as twin:
        reading, writing = os.pipe()
        os.close(reading)
        done = run_into(writing, *arguments, "--url", twin.url)
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_short_output_that_nobody_reads_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for arguments in (["--help"], ["--version"], ["explain", "--help"]):
        done = run_into(writing, *arguments)
        assert (done.returncode, done.stderr) == (141, "")
    os.close(writing)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("arguments", [["topology"], ["topology", "--json"], ["topology", "matrix"]])
def test_full_disk_is_an_error_with_a_hint(arguments: list[str], size: str) -> None:
    with admin(small() if size == "small" else large(3000, 12)) as twin, open("/dev/full", "w") as full:
        done = run_into(full.fileno(), *arguments, "--url", twin.url)
    assert done.returncode == 1
    assert done.stderr.startswith("shorthaul: the output can't be written: No space left on device\n")
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--version"], ["topology", "--json"], ["topology"], ["explain", "x:1"]]
)
def test_closed_standard_output_is_an_error_with_a_hint(arguments: list[str]) -> None:
    with admin(explanation() if "explain" in arguments else small()) as twin:
        url = [] if "--version" in arguments else ["--url", twin.url]
        done = subprocess.run(
            ["/bin/sh", "-c", 'exec "$@" >&-', "sh", SHORTHAUL, *arguments, *url],
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "standard output is closed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["topology"], ["explain", "docker.io/library/app:v1"], ["scrub"]])
def test_ctrl_c_while_the_agent_does_not_answer_ends_the_command_with_130(arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with terminal([SHORTHAUL, *arguments, "--url", url]) as opened:
            connection, _ = silent.accept()  # so it waits for an answer now
            with connection:
                assert connection.recv(1)
                opened.press(CTRL_C)
                assert opened.exit_status() == 130
    assert opened.shown.replace("^C", "").strip() == ""


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """``error``, raised from ``cause``."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (KeyboardInterrupt, 130),
        (lambda: ExceptionGroup("tasks", [OutputFailed(BrokenPipeError(32, "Broken pipe"))]), 141),
        (lambda: BaseExceptionGroup("tasks", [KeyboardInterrupt()]), 130),
        (lambda: caused(RuntimeError("__set_name__"), KeyboardInterrupt()), 130),
    ],
)
def test_ending_that_comes_out_inside_of_another_error_is_the_same(
    raised: Callable[[], BaseException], status: int
) -> None:
    def command() -> int:
        raise raised()

    assert run_command(command) == status


def test_other_errors_are_not_taken_for_a_failed_output() -> None:
    def command() -> int:
        raise ExceptionGroup("tasks", [KeyError("a bug"), OutputFailed(OSError(28, "full"))])

    with pytest.raises(ExceptionGroup):
        run_command(command)


def test_error_of_another_file_stays_what_it_is() -> None:
    def command() -> int:
        raise OSError(28, "No space left on device", "/var/lib/shorthaul/tag-ages.json")

    with pytest.raises(OSError, match="No space left"):
        run_command(command)


def test_standard_output_is_the_processs_own_again_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout

    def command() -> int:
        print("shown")
        assert isinstance(sys.stdout, Output)
        return 3

    assert run_command(command) == 3
    assert sys.stdout is before
    assert capsys.readouterr().out == "shown\n"
