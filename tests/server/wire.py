"""HTTP by hand: requests that no library would send, and replies watched to their very end."""

import http.client
import io
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum


class Ending(Enum):
    """How a reply ended."""

    WHOLE = "whole"  # as many bytes as Content-Length promised
    FIN = "fin"  # the other side closed before
    RST = "rst"
    SILENT = "silent"  # nothing came any more, and nobody closed


@dataclass(frozen=True, slots=True, kw_only=True)
class RawReply:
    """A reply as it came. ``status`` 0: no head came at all."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    ending: Ending

    @property
    def promised_bytes(self) -> int:
        """Content-Length."""
        return int(self.headers["Content-Length"])


@contextmanager
def connected(
    address: str,
    port: int,
    *,
    timeout_s: float = 60.0,
    receive_bytes: int | None = None,
    source: str | None = None,
) -> Iterator[socket.socket]:
    """A connection; ``receive_bytes`` bounds what the kernel takes before we read.

    ``source``: the address it comes from.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if source is not None:
            sock.bind((source, 0))
        sock.connect((address, port))
        yield sock


def request_bytes(path: str, *, method: str = "GET", **headers: str) -> bytes:
    """A request's head; ``If_Range`` becomes ``If-Range``."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def read_reply(sock: socket.socket, *, head_only: bool = False) -> RawReply:
    """One reply from a connection, which may be kept open behind it."""
    received = b""
    while b"\r\n\r\n" not in received:
        more, ending = _receive(sock)
        if ending is not None:
            return RawReply(status=0, headers=http.client.HTTPMessage(), body=received, ending=ending)
        received += more
    head, _, first = received.partition(b"\r\n\r\n")
    status_line, _, lines = head.partition(b"\r\n")
    headers = http.client.parse_headers(io.BytesIO(lines + b"\r\n\r\n"))
    status = int(status_line.split()[1])
    length = 0 if head_only or status in (101, 304) else int(headers["Content-Length"])
    body = bytearray(first)
    end = Ending.WHOLE
    while len(body) < length:
        more, ending = _receive(sock)
        if ending is not None:
            end = ending
            break
        body += more
    return RawReply(status=status, headers=headers, body=bytes(body), ending=end)


def read_to_end(sock: socket.socket) -> tuple[bytes, Ending]:
    """Everything until the other side closes (or stays silent for the socket's timeout)."""
    received = bytearray()
    while True:
        more, ending = _receive(sock)
        if ending is not None:
            return bytes(received), ending
        received += more


def raw_get(address: str, port: int, path: str, *, timeout_s: float = 60.0, **headers: str) -> RawReply:
    """One GET, and how its reply ended."""
    with connected(address, port, timeout_s=timeout_s) as sock:
        sock.sendall(request_bytes(path, **headers))
        return read_reply(sock)


def reset(sock: socket.socket) -> None:
    """Close with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _receive(sock: socket.socket) -> tuple[bytes, Ending | None]:
    try:
        received = sock.recv(1 << 18)
    except TimeoutError:
        return b"", Ending.SILENT
    except ConnectionError:
        return b"", Ending.RST
    return received, None if received else Ending.FIN
