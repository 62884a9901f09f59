"""Files, commands and HTTP servers of any kind are survived, and in bounded time."""

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.preflight.reading import Reading, http_get, read_file, run_command
from benchmarks.lab.process import run
from tests.unit.agent.preflight.samples import JUNK, server


def test_files_are_read_without_blocking_and_not_for_ever(tmp_path: Path) -> None:
    fifo, huge = tmp_path / "fifo", tmp_path / "huge"
    os.mkfifo(fifo)
    huge.touch()
    os.truncate(huge, 1 << 40)
    assert len(read_file(huge).text) == 1 << 20
    assert "VmRSS" in read_file(Path("/proc/self/status")).text
    assert read_file(fifo) == Reading(problem="not a regular file, but a fifo")
    devices = (Path("/dev/zero"), Path("/proc/self/mem"))
    for path in (tmp_path, tmp_path / "none", *devices, Path("x\0y")):
        found = read_file(path)
        assert found.problem
        assert not found.text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-command-here"], "is not installed"),
        (["sh", "-c", "echo denied >&2; exit 4"], "denied"),
        (["sh", "-c", "exit 4"], "exit status 4"),
        (["sh", "-c", "sleep 60 & sleep 60"], "did not end within"),
        (["sh", "-c", "sleep 60 >&2 2>&1 &"], "did not end within"),
        (["sh", "-c", "trap '' TERM; cat /dev/zero"], "printed more than"),
        (["cat", "/dev/zero"], "printed more than"),
    ],
)
def test_commands_fail_with_a_reason_and_in_time(command: list[str], words: str) -> None:
    began_s = time.monotonic()
    found = run_command(command, at_most_s=0.5, most_bytes=1 << 20)
    assert words in found.problem
    assert not found.text
    assert time.monotonic() - began_s < 30  # not the minute that they would sleep


def test_commands_in_directories_for_root_are_found() -> None:
    code = "from agent.preflight.reading import run_command\nprint(run_command(['iptables-save']).problem)"
    assert "is not installed" not in run([sys.executable, "-c", code], env={"PATH": "/usr/bin:/bin"})


def _hang(connection: socket.socket) -> None:
    connection.settimeout(30)
    connection.recv(1)


def _drip(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"H")
        time.sleep(0.02)


def _flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"iptables" * 1_000_000)


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (_hang, "does not answer within"),
        (_drip, "does not answer within"),
        (_flood, "answers more than 64 KiB"),
        (lambda one: one.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n"), "answers 404"),
        (lambda one: one.sendall(JUNK), "does not speak HTTP"),
        (lambda one: None, "does not speak HTTP"),
    ],
)
def test_http_servers_of_any_kind_are_survived(serve: Callable[[socket.socket], None], words: str) -> None:
    with server(serve) as url:
        found = http_get(url, at_most_s=0.3)
    assert words in found.problem
    assert not found.text


def test_http_bodies_are_read() -> None:
    with server(lambda one: one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\niptables")) as url:
        assert http_get(f"{url}/proxyMode") == Reading(text="iptables")
    assert "refused" in http_get(url).problem


@pytest.mark.parametrize(
    "url", ["", "x", "https://127.0.0.1:1", "http://kube.example:1", "http://[::1", "http://1:x"]
)
def test_addresses_that_would_need_more_than_a_socket_are_refused(url: str) -> None:
    assert "is no http://IP:PORT" in http_get(url).problem
