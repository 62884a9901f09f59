"""Writes many commands to a server, as cheaply as Python can: for what is not measured itself."""

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self


def part(value: str | bytes | int) -> bytes:
    """One word of a command, as the protocol has it (RESP, bulk string)."""
    raw = value if isinstance(value, bytes) else str(value).encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def command(*words: str | bytes | int) -> bytes:
    """A command, as the protocol has it (RESP, array of bulk strings)."""
    return b"*%d\r\n%b" % (len(words), b"".join(map(part, words)))


class WriteError(Exception):
    """The server answered with an error, or closed the connection."""


class Writer:
    """One connection to a server at loopback. Use as a context manager."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, commands: Sequence[bytes]) -> None:
        """Send commands that each answer with one line, and read as many. Raises `WriteError`."""
        self._socket.sendall(b"".join(commands))
        lines, last = 0, b""
        while lines < len(commands):
            received = self._socket.recv(1 << 16)
            if not received or received.startswith(b"-") or b"\n-" in last + received:
                raise WriteError(received[:100].decode(errors="replace"))
            lines, last = lines + received.count(b"\n"), received[-1:]
