"""WebSockets by hand (RFC 6455), for peers that ask agents."""

import base64
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent.holders.wire import PATH
from tests.frames import CLOSE, frame

from .agents import PEER
from .wire import Ending, connected, request_bytes


class Closed(Exception):
    """The other side sent a close frame (``code``), or closed the connection (0)."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


def read_frame(sock: socket.socket) -> bytes:
    """The payload of the next data frame. Raises `Closed`."""
    head = _exactly(sock, 2)
    opcode, length, masked = head[0] & 15, head[1] & 127, head[1] & 128
    if length == 126:
        (length,) = struct.unpack(">H", _exactly(sock, 2))
    elif length == 127:
        (length,) = struct.unpack(">Q", _exactly(sock, 8))
    mask = _exactly(sock, 4) if masked else bytes(4)
    payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(_exactly(sock, length)))
    if opcode == CLOSE:
        raise Closed(int.from_bytes(payload[:2], "big"))
    return payload


def read_to_the_end(sock: socket.socket) -> None:
    """Read frames, such as answers to pings. Raises `Closed`."""
    while True:
        read_frame(sock)


class Questioner:
    """A peer's standing connection to an agent, on which it asks who has what."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def ask(self, **question: Any) -> dict[str, Any]:
        """A question and its reply."""
        self.sock.sendall(frame(json.dumps({"number": 7, **question}).encode(), masked=True))
        reply: dict[str, Any] = json.loads(read_frame(self.sock))
        assert reply.pop("number") == 7
        return reply


@contextmanager
def upgraded(
    address: str, path: str, *, source: str | None = None, **headers: str
) -> Iterator[socket.socket]:
    """A WebSocket to an agent's peer listener, after the handshake. ``source``: the peer's address."""
    with connected(address, PEER, source=source) as sock:
        key = base64.b64encode(os.urandom(16)).decode()
        fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
        sock.sendall(request_bytes(path, method="GET", Sec_WebSocket_Key=key, **fields, **headers))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            received = sock.recv(1)
            assert received, f"{Ending.FIN} in the handshake: {head!r}"
            head += received
        assert head.startswith(b"HTTP/1.1 101 "), head
        yield sock


@contextmanager
def questioning(address: str) -> Iterator[Questioner]:
    """Connect to an agent as a peer that asks does."""
    with upgraded(address, PATH) as sock:
        yield Questioner(sock)


def _exactly(sock: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        try:
            more = sock.recv(length - len(received))
        except ConnectionError:
            more = b""
        if not more:
            raise Closed(0)
        received += more
    return bytes(received)
