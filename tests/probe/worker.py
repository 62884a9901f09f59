"""A client and a server in a cgroup and a network namespace of the tests. Run as a process of its own.

Orders come as JSON, one a line, and so do the answers; it ends with its input. Run with the path of a probe's
socket and a node's name: its server is that node's agent in the eyes of the probe, whenever there is one.
"""

import contextlib
import ctypes
import errno
import http.client
import json
import os
import resource
import select
import selectors
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.lab.vouching import Voucher

_SO_ATTACH_FILTER, _SO_COOKIE = 26, 57
_ACCEPT_ALL = 0x06, 0, 0, 0xFFFFFFFF
_NOTHING = 0x00, 0, 0, 0
_FILTER_MAX = 4096


class Worker:
    """What can be ordered; the names are those of the orders."""

    def __init__(self) -> None:
        self._kept: list[socket.socket] = []

    def listen(self, host: str, port: int, *, ours: bool = True) -> None:
        """Take connections, and send back what comes. ``ours``: tell the probe that an agent does."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host, port), family=family, backlog=4096)
        taken: set[int] = set()
        threading.Thread(target=_serve, args=(server, taken), daemon=True).start()
        if ours:
            threading.Thread(target=_vouch, args=(server, taken), daemon=True).start()

    def open(self, number: int, host: str, port: int, *, fill: bool = False) -> list[int]:
        """Connections that stay; the cookies of their sockets. ``fill``: without memory for more options."""
        made = [_connect(host, port, fill=fill) for _ in range(number)]
        self._kept += made
        return [_cookie(sock) for sock in made]

    def pulse(self) -> int:
        """A byte there and back on every one that stayed; how many there are."""
        for sock in self._kept:
            _talk(sock)
        return len(self._kept)

    def drop(self) -> None:
        """Close them all."""
        while self._kept:
            self._kept.pop().close()

    def many(self, number: int, host: str, port: int) -> int:
        """So many connections, one after the other, a byte there and back on each."""
        for _ in range(number):
            _connect(host, port).close()
        return number

    def refused(self, host: str, port: int) -> int:
        """The cookie of a socket that tried to connect in vain."""
        with socket.socket() as sock:
            assert sock.connect_ex((host, port)) != 0
            return _cookie(sock)

    def get(self, host: str, port: int, path: str) -> int:
        """The status of a GET on a connection of its own."""
        connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def count_until_told(self, host: str, port: int) -> int:
        """Connect up to 500 times a second until the next order is there; how often."""
        number = 0
        while not select.select([sys.stdin.fileno()], [], [], 0.002)[0]:
            _connect(host, port).close()
            number += 1
        return number


def _connect(host: str, port: int, *, fill: bool = False) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if fill:
        _fill(sock)
    sock.connect((host, port))
    _talk(sock)
    return sock


def _talk(sock: socket.socket) -> None:
    sock.sendall(b"?")
    assert sock.recv(1) == b"?"


def _cookie(sock: socket.socket) -> int:
    cookie: int = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))[0]
    return cookie


def _fill(sock: socket.socket) -> None:
    """Take all the memory that the kernel allows a socket's options (net.core.optmem_max), but some bytes.

    A filter that accepts everything is such memory, and disturbs nothing.
    """
    fits, too_many = 1, _FILTER_MAX + 1
    while too_many - fits > 1:
        length = (fits + too_many) // 2
        with socket.socket(sock.family) as other:
            if _attach(other, length):
                fits = length
            else:
                too_many = length
    assert too_many <= _FILTER_MAX, "the largest filter fits: make net.core.optmem_max smaller"
    assert _attach(sock, fits)


def _attach(sock: socket.socket, length: int) -> bool:
    code = b"".join(struct.pack("HBBI", *_NOTHING) for _ in range(length - 1)) + struct.pack(
        "HBBI", *_ACCEPT_ALL
    )
    buffer = ctypes.create_string_buffer(code)
    try:
        sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", length, ctypes.addressof(buffer))
        )
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        return False
    return True


def _vouch(server: socket.socket, taken: set[int]) -> None:
    path, node = Path(sys.argv[1]), sys.argv[2]
    while True:
        with (
            contextlib.suppress(OSError),
            Voucher(path, node=node, listeners=[server], cookies=lambda: tuple(taken)) as voucher,
        ):
            voucher.gone.wait()
        time.sleep(0.02)


def _serve(server: socket.socket, taken: set[int]) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is server:
                    accepted, _ = server.accept()
                    taken.add(_cookie(accepted))
                    selector.register(accepted, selectors.EVENT_READ)
                    continue
                said = b""
                with contextlib.suppress(OSError):  # a canary reads no more than it wants to
                    said = sock.recv(1)
                    sock.sendall(said)
                if not said:
                    selector.unregister(sock)
                    sock.close()


def main() -> None:
    """Take orders."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    worker = Worker()
    while line := _next_line():
        order: dict[str, Any] = json.loads(line)
        try:
            answer = {"answer": getattr(worker, order["do"])(*order["with"], **order["and"])}
        except (OSError, AssertionError) as error:
            answer = {"failed": repr(error)}
        print(json.dumps(answer), flush=True)


def _next_line() -> bytes:
    """Without reading ahead, so that select() tells whether there is another order."""
    line = b""
    while byte := os.read(sys.stdin.fileno(), 1):
        line += byte
        if byte == b"\n":
            break
    return line


if __name__ == "__main__":
    main()
