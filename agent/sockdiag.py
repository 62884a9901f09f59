"""What the kernel tells of TCP sockets of this network namespace: whose they are (sock_diag(7)).

Of each socket it tells the user and the inode, and from Linux 5.9 on the cgroup (INET_DIAG_CGROUP_ID): those
of the process that *made* the socket. Whoever holds it now may be another one. No capability is needed.

Sources: linux/inet_diag.h, linux/sock_diag.h, netlink(7); net/ipv4/inet_diag.c for what is not told.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST, _DUMP = 1, 0x300
_DONE, _ERROR = 3, 2
_LISTENING, _TIME_WAIT = 10, 6  # enum in net/tcp_states.h
_LISTEN_BIT, _ANY_STATE = 1 << _LISTENING, 0xFFFFFFFF
_CGROUP_ID = 21
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_QUESTION = struct.Struct("=BBBxI2s2s16s16sIII")  # inet_diag_req_v2 with an inet_diag_sockid
_ANSWER = struct.Struct("=BBBB2s2s16s16sI8xIIIII")  # inet_diag_msg
_ATTRIBUTE = struct.Struct("=HH")
_NO_COOKIE = 0xFFFFFFFF
_PART_BYTES = 1 << 16
_TIMEOUT_S = 2.0
_MAPPED = b"\0" * 10 + b"\xff\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSocket:
    """A TCP socket of this network namespace. ``host``, ``port``: its own end; a v4-mapped address is IPv4.

    ``uid``: its maker's, as this process's user namespace numbers it. ``inode``: never 0. ``cgroup``: the id
    of its maker's; 0 if the kernel does not tell.
    """

    host: str
    port: int
    uid: int
    inode: int
    cgroup: int = 0


class SocketUnknown(Exception):
    """The kernel does not tell whose socket this is. The message says why.

    ``gone``: because nobody has it any more: it was closed. Else the kernel does not tell it here at all.
    """

    def __init__(self, message: str, *, gone: bool) -> None:
        super().__init__(message)
        self.gone = gone


class SocketAsker:
    """Asks the kernel for single sockets, over one netlink socket. Each question takes some 10 µs.

    The kernel answers within the question's system call: nothing here waits. The netlink socket is of the
    network namespace in which this is made.
    """

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        self._number = 0

    def close(self) -> None:
        """Ask no more."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def at(self, own: tuple[str, int], other: tuple[str, int]) -> TcpSocket:
        """The socket whose own end is ``own``, connected to ``other``. Raises `SocketUnknown`.

        A socket that was closed is nobody's. Its connection may live on for a minute, as an orphan or in
        TIME_WAIT, and the kernel then tells user 0: that must not pass for root.
        """
        source, target = _packed(own[0]), _packed(other[0])
        ports = _ports(own[1], other[1])
        family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
        identity = (*ports, source, target, 0, _NO_COOKIE, _NO_COOKIE)
        question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, _ANY_STATE, *identity)
        try:
            answer = self._ask(question)
        except FileNotFoundError as error:
            raise SocketUnknown("there is no such socket", gone=True) from error
        except OSError as error:
            self.close()
            raise SocketUnknown(error.strerror or str(error), gone=False) from error
        found, state, _, ends = _fields(answer)
        if state in (_LISTENING, _TIME_WAIT) or ends != (*ports, source, target) or found[1] == 0:
            raise SocketUnknown("it was closed", gone=True)
        uid, inode = found
        return TcpSocket(host=own[0], port=own[1], uid=uid, inode=inode, cgroup=_cgroup(answer))

    def _ask(self, question: bytes) -> bytes:
        if self._netlink is None:
            self._netlink = _open()
            self._netlink.setblocking(False)
        self._number = self._number % 0x7FFFFFFF + 1
        _send(self._netlink, question, _REQUEST, self._number)
        while True:
            part = self._netlink.recv(_PART_BYTES)
            length, kind, _, number, _ = _HEADER.unpack_from(part)
            if number != self._number:
                continue
            if kind == _ERROR:
                code = -struct.unpack_from("=i", part, _HEADER.size)[0]
                raise OSError(code, os.strerror(code))
            if kind != _SOCK_DIAG_BY_FAMILY or length < _HEADER.size + _ANSWER.size:
                raise OSError(errno.EPROTO, "an answer that is none")
            return part[_HEADER.size : length]


def listening_sockets() -> list[TcpSocket]:
    """All listening ones. Raises OSError if the kernel does not answer."""
    return [*_dump(socket.AF_INET), *_dump(socket.AF_INET6)]


def _open() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)


def _send(netlink: socket.socket, question: bytes, flags: int, number: int) -> None:
    size_bytes = _HEADER.size + len(question)
    netlink.send(_HEADER.pack(size_bytes, _SOCK_DIAG_BY_FAMILY, flags, number, 0) + question)


def _dump(family: int) -> Iterator[TcpSocket]:
    with _open() as netlink:
        netlink.settimeout(_TIMEOUT_S)
        nobody = (*_ports(0, 0), b"", b"", 0, 0, 0)
        _send(
            netlink, _QUESTION.pack(family, socket.IPPROTO_TCP, 0, _LISTEN_BIT, *nobody), _REQUEST | _DUMP, 1
        )
        while True:
            part = netlink.recv(_PART_BYTES)
            while part:
                length, kind, *_ = _HEADER.unpack_from(part)
                if kind == _DONE:
                    return
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError(f"sock_diag: error {part[16:20].hex()}")
                yield _read(part[_HEADER.size : length])
                part = part[(length + 3) & ~3 :]


def _read(message: bytes) -> TcpSocket:
    (uid, inode), _, family, (port, _, source, _) = _fields(message)
    host = socket.inet_ntop(socket.AF_INET if len(source) == 4 else family, source)
    number = int.from_bytes(port, "big")
    return TcpSocket(host=host, port=number, uid=uid, inode=inode, cgroup=_cgroup(message))


def _fields(message: bytes) -> tuple[tuple[int, int], int, int, tuple[bytes, bytes, bytes, bytes]]:
    """User and inode; the state; the family; both ends: own port, the other's, own address, the other's."""
    family, state, _, _, port, other_port, source, target, *_rest, uid, inode = _ANSWER.unpack_from(message)
    ends = (port, other_port, _plain(family, source), _plain(family, target))
    return (uid, inode), state, family, ends


def _cgroup(message: bytes) -> int:
    at = _ANSWER.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _CGROUP_ID and length >= _ATTRIBUTE.size + 8:
            return int.from_bytes(message[at + _ATTRIBUTE.size : at + _ATTRIBUTE.size + 8], sys.byteorder)
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
    return 0


def _packed(host: str) -> bytes:
    """The address in 4 bytes, or in 16. The kernel finds a v4-mapped one among the IPv4 ones."""
    if ":" not in host:
        return socket.inet_pton(socket.AF_INET, host)
    return _plain(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host.partition("%")[0]))


def _plain(family: int, address: bytes) -> bytes:
    """The same in 4 bytes if it is of IPv4, also if a socket for IPv6 has it."""
    if family == socket.AF_INET:
        return address[:4]
    return address[12:] if address.startswith(_MAPPED) else address


def _ports(own: int, other: int) -> tuple[bytes, bytes]:
    return own.to_bytes(2, "big"), other.to_bytes(2, "big")
