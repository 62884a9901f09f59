"""Reads files, commands and one HTTP server for the preflight, bounded in size and in time.

Nothing here raises for what it finds. A reading has a text, or the problem that prevented it.
"""

import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.files import read_beginning
from agent.preflight.check import shown

_FILE_MAX_BYTES = 1 << 20
_COMMAND_MAX_BYTES = 32 << 20  # iptables-save of some 20,000 Services
_ANSWER_MAX_BYTES = 64 << 10
_TIMEOUT_S = 2.0
_GRACE_S = 0.5  # how long a killed child may take to end
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"  # for iptables and nft; not on every user's PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A text, or why there is none. ``problem`` is empty if the text was read."""

    text: str = ""
    problem: str = ""


def read_file(path: Path, *, most_bytes: int = _FILE_MAX_BYTES) -> Reading:
    """The beginning of a file. Bytes that are not UTF-8 are replaced."""
    try:
        return Reading(text=read_beginning(path, most_bytes=most_bytes).decode(errors="replace"))
    except (OSError, ValueError) as error:
        return Reading(problem=_reason(error))


def run_command(
    command: Sequence[str], *, at_most_s: float = _TIMEOUT_S, most_bytes: int = _COMMAND_MAX_BYTES
) -> Reading:
    """The output of a command. A problem if it fails, takes too long or prints too much."""
    name = Path(command[0]).name
    path = shutil.which(command[0], path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}")
    if path is None:
        return Reading(problem=f"{name} is not installed")
    until_s = time.monotonic() + at_most_s
    try:
        child = subprocess.Popen(
            [path, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        return Reading(problem=f"{name}: {_reason(error)}")
    try:
        said, complained = _drain(child, until_s, most_bytes)
        status = child.wait(max(until_s - time.monotonic(), 0.01))
    except (subprocess.TimeoutExpired, TimeoutError):
        return Reading(problem=f"{name} did not end within {at_most_s:g} s")
    except OverflowError:
        return Reading(problem=f"{name} printed more than {most_bytes >> 20} MiB")
    finally:
        _end(child)
    if status != 0:
        reason = complained.decode(errors="replace").strip() or f"exit status {status}"
        return Reading(problem=f"{name}: {shown(reason)}")
    return Reading(text=said.decode(errors="replace"))


def _drain(child: subprocess.Popen[bytes], until_s: float, most_bytes: int) -> tuple[bytearray, bytearray]:
    """Standard output and standard error. Raises TimeoutError, and OverflowError if there is too much."""
    found: list[bytearray] = []
    with selectors.DefaultSelector() as selector:
        for pipe in (child.stdout, child.stderr):
            assert pipe is not None
            found.append(bytearray())
            selector.register(pipe, selectors.EVENT_READ, found[-1])
        while selector.get_map():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            for key, _ in selector.select(left_s):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
                if len(key.data) > most_bytes:
                    raise OverflowError
    return found[0], found[1]


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and what it started, and wait for it only a moment."""
    if child.returncode is None:  # not reaped yet, so the pid still belongs to it
        os.killpg(child.pid, signal.SIGKILL)
        # A child that hangs in the kernel is left alone, because a person is waiting.
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_S)
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def http_get(url: str, *, at_most_s: float = _TIMEOUT_S, most_bytes: int = _ANSWER_MAX_BYTES) -> Reading:
    """The body of a 200 from an http:// address with a numeric host.

    The request blocks, because there is nothing else to do meanwhile. It does not use urllib: its time-out
    applies to each read separately, so a server that sends slowly could hold it for ever, and it obeys
    http_proxy. It uses HTTP/1.0, so that the body is everything after the head.
    """
    try:
        parts = urlsplit(url)
        port = 80 if parts.port is None else parts.port
        host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
        # Numeric hosts only, because a resolver has time-outs of its own.
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
    except (ValueError, OSError):
        return Reading(problem=f"{shown(url)} is no http://IP:PORT")
    if parts.scheme != "http":
        return Reading(problem=f"{shown(url)} is no http://IP:PORT")
    until_s = time.monotonic() + at_most_s
    request = f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n"
    data = bytearray()
    try:
        with socket.socket(family, kind) as connection:
            connection.settimeout(at_most_s)
            connection.connect(address)
            connection.sendall(request.encode())
            while True:
                connection.settimeout(max(until_s - time.monotonic(), 0.001))
                chunk = connection.recv(1 << 14)
                if not chunk:
                    break
                data += chunk
                if len(data) > most_bytes:
                    return Reading(problem=f"answers more than {most_bytes >> 10} KiB")
                if time.monotonic() > until_s:
                    return Reading(problem=f"does not answer within {at_most_s:g} s")
    except TimeoutError:
        return Reading(problem=f"does not answer within {at_most_s:g} s")
    except (OSError, ValueError) as error:
        return Reading(problem=_reason(error))
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})\b", head)
    if status is None:
        return Reading(problem="does not speak HTTP")
    if status[1] != b"200":
        return Reading(problem=f"answers {status[1].decode()}")
    return Reading(text=body.decode(errors="replace"))


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return shown(reason).lower()
