"""Tells a probe that sockets are its node's agent's, for processes that do not do so themselves."""

import contextlib
import ctypes
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from agent.flows.messages import Claims, Introduced, decode, encode_request
from agent.flows.sockets import AcceptedSockets
from agent.probe.reader import OwnSockets, introduce
from agent.probe.sockets import socket_cookie

_QUEUED_S = 1.0  # what waited to be accepted is accepted by then
_PART_BYTES = 65536
_PIDFD_GETFD = 438  # Linux 5.6, on every architecture
_SYSCALL = ctypes.CDLL(None, use_errno=True).syscall


class Voucher:
    """An agent in the probe's eyes for as long as it is open. ``cookies``: of sockets that it accepted."""

    def __init__(
        self,
        path: Path,
        *,
        node: str,
        listeners: Sequence[socket.socket],
        cookies: Callable[[], Sequence[int]] = tuple,
    ) -> None:
        self._cookies = cookies
        self._known = threading.Event()
        self.gone = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
            introduce(self._socket, OwnSockets(node=node, listeners=listeners, accepted=AcceptedSockets()))
        except OSError:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._follow, name="voucher", daemon=True)
        self._thread.start()
        self._known.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """It is no agent any more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def _follow(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                if isinstance(decode(line), Introduced):
                    self._claim(complete=False)
                    self._known.set()
                    time.sleep(_QUEUED_S)
                    self._claim(complete=True)
                    break
            while self._socket.recv(_PART_BYTES):  # flows, which are not its concern
                pass
        self._known.set()
        self.gone.set()

    def _claim(self, *, complete: bool) -> None:
        claims = Claims(cookies=tuple(self._cookies()), complete=complete)
        self._socket.sendall(encode_request(claims))


class Borrowed:
    """The TCP sockets of another process: duplicates, which its probe can't tell from its own. Needs root."""

    def __init__(self, pid: int) -> None:
        self._all = _sockets(pid)
        self.listeners = [one for one in self._all if _listens(one)]

    def accepted(self) -> list[int]:
        """The cookies of the sockets that are connected."""
        return [socket_cookie(one) for one in self._all if one not in self.listeners]

    def close(self) -> None:
        """Close the duplicates: a listener must end with its own process."""
        for one in self._all:
            one.close()


@contextlib.contextmanager
def vouched(path: Path, *, node: str, pid: int) -> Iterator[None]:
    """A context in which a process is the node's agent in the eyes of the probe at ``path``."""
    borrowed = Borrowed(pid)
    accepted = functools.cache(lambda: tuple(borrowed.accepted()))  # once: then they are given back
    voucher = Voucher(path, node=node, listeners=borrowed.listeners, cookies=accepted)
    borrowed.close()
    with voucher:
        yield


def _sockets(pid: int) -> list[socket.socket]:
    pidfd = os.pidfd_open(pid)
    found = []
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()).startswith("socket:"):
                    fd = _SYSCALL(_PIDFD_GETFD, pidfd, int(entry.name), 0)
                    if fd >= 0:
                        found.append(socket.socket(fileno=fd))
    finally:
        os.close(pidfd)
    tcp = [one for one in found if one.family in (socket.AF_INET, socket.AF_INET6)]
    for one in found:
        if one not in tcp:
            one.close()
    return tcp


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
