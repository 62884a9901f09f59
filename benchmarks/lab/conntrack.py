"""What netfilter did to a connection, according to the conntrack of its namespace. The oracle for tests.

It knows nothing about kube-proxy or eBPF. It is read over ctnetlink (Linux, nfnetlink_conntrack.h) for TCP
over IPv4 and IPv6. Conntrack works only in a namespace where some rule needs it, such as a nat rule; see
`turn_on`.
"""

import enum
import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, nfct_msg  # type: ignore[import-untyped]

from benchmarks.lab.network import inside
from benchmarks.lab.process import LabError, run

_NETLINK_NETFILTER = 12
_CTNETLINK = 1 << 8  # the subsystem, in a message's type
_NEW, _GET = 0, 1
_MAPPED = "::ffff:"  # in front of the IPv4 addresses of a dual-stack socket
_ERROR, _DONE = 2, 3  # message types of netlink itself
_REQUEST, _DUMP = 0x1, 0x300
_GROUP_NEW = 1 << 0
_SO_RCVBUFFORCE = 33
_SHARE_BYTES = 65536
_BUFFER_BYTES = 8 << 20
_HEADER = struct.Struct("=IHHII")
_RULE = """\
add table inet shlab-conntrack
flush table inet shlab-conntrack
table inet shlab-conntrack {
	chain output {
		type filter hook output priority filter; policy accept;
		ct state new accept
	}
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One direction of a TCP connection. IPv4 addresses are never written with ``::ffff:``."""

    src: str
    src_port: int
    dst: str
    dst_port: int

    @classmethod
    def of(cls, connection: socket.socket) -> Self:
        """The direction in which this socket sends, from its own two addresses."""
        src, dst = connection.getsockname(), connection.getpeername()
        return cls(
            src=src[0].removeprefix(_MAPPED),
            src_port=src[1],
            dst=dst[0].removeprefix(_MAPPED),
            dst_port=dst[1],
        )

    @property
    def reverse(self) -> "Flow":
        """The other direction."""
        return Flow(src=self.dst, src_port=self.dst_port, dst=self.src, dst_port=self.src_port)


class Kind(enum.Enum):
    """Whether the destination was translated."""

    NONE = "none"
    DNAT = "dnat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A connection in conntrack.

    ``original``: the addresses of its first packet, which are those of the client's socket. ``reply``: the
    addresses of an answer, so its source is the one that really answers.
    """

    original: Flow
    reply: Flow

    @property
    def kind(self) -> Kind:
        """Whether the destination was translated."""
        return Kind.NONE if self.wire == (self.original.dst, self.original.dst_port) else Kind.DNAT

    @property
    def wire(self) -> tuple[str, int]:
        """The address and port to which the packets really go."""
        return (self.reply.src, self.reply.src_port)

    @property
    def wire_source(self) -> tuple[str, int]:
        """The address and port from which the packets come, as the other end sees it."""
        return (self.reply.dst, self.reply.dst_port)

    @property
    def snat(self) -> bool:
        """Whether the source was translated, even if only its port."""
        return self.wire_source != (self.original.src, self.original.src_port)


def turn_on(netns: str) -> None:
    """Turn conntrack on in a namespace whose rules do not need it. Does not change the path of any packet."""
    run(["nft", "-f", "-"], netns=netns, text=_RULE)


def lookup(netns: str, flow: Flow) -> Translation | None:
    """What happened to this flow of a client's socket. None if conntrack has no such entry.

    This is one question to the kernel, and nothing is lost. The entry stays for about two minutes after a
    connection's orderly end. A reset in answer to a SYN removes the entry, so only a `Watcher` sees that.
    """
    family = socket.AF_INET6 if ":" in flow.dst else socket.AF_INET
    request = nfct_msg.create_from(
        tuple_orig=NFCTAttrTuple(
            family=family,
            saddr=flow.src,
            daddr=flow.dst,
            proto=socket.IPPROTO_TCP,
            sport=flow.src_port,
            dport=flow.dst_port,
        )
    )
    # The kernel finds an entry by either direction.
    found = _ask(netns, request, family, _REQUEST)
    return next((one for one in found if one.original == flow), None)


def entries(netns: str) -> list[Translation]:
    """Every TCP connection in the namespace's conntrack."""
    return _ask(netns, nfct_msg(), socket.AF_UNSPEC, _REQUEST | _DUMP)


class Watcher:
    """Collects the connections that conntrack confirms from now on, also very short ones.

    A context manager. ``overruns``: how often the kernel dropped events because they were not read in time.
    If it is above 0, a missing connection means nothing. ``buffer_bytes``: how many bytes may wait to be
    read.
    """

    def __init__(self, netns: str, *, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self.overruns = 0
        self._found: dict[Flow, Translation] = {}
        self._changed = threading.Condition()
        self._netlink = inside(netns, lambda: _open(_GROUP_NEW, buffer_bytes))
        self._end, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._collect, name=f"conntrack of {netns}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop. What was collected stays. A second call does nothing."""
        self._end.close()
        self._thread.join()
        self._stop.close()
        self._netlink.close()

    def all(self) -> list[Translation]:
        """The connections that were collected so far."""
        with self._changed:
            return list(self._found.values())

    def find(self, flow: Flow, *, at_most_s: float = 60.0) -> Translation:
        """Wait until this flow of a client's socket was seen, and say what happened to it. Raises
        `LabError`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: flow in self._found, at_most_s):
                raise LabError(f"conntrack never told of {flow} ({self.overruns} overruns)")
            return self._found[flow]

    def _collect(self) -> None:
        while True:
            readable, _, _ = select.select([self._netlink, self._stop], [], [])
            if self._netlink not in readable:  # stopped, and nothing is left to read
                return
            try:
                share = self._netlink.recv(_SHARE_BYTES)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            with self._changed:
                for _, found in _messages(share):
                    if found is not None:
                        self._found[found.original] = found
                self._changed.notify_all()


def _ask(netns: str, request: Any, family: int, flags: int) -> list[Translation]:
    request["nfgen_family"] = family
    request["header"]["type"] = _CTNETLINK | _GET
    request["header"]["flags"] = flags
    request["header"]["sequence_number"] = 1
    request.encode()
    found: list[Translation] = []
    with inside(netns, lambda: _open(0)) as netlink:
        netlink.settimeout(5)
        netlink.send(bytes(request.data))
        while True:
            for kind, one in _messages(netlink.recv(_SHARE_BYTES)):
                if one is not None:
                    found.append(one)
                if kind == _DONE or not flags & _DUMP:
                    return found


def _open(groups: int, buffer_bytes: int = _BUFFER_BYTES) -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    netlink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes)
    netlink.bind((0, groups))
    return netlink


def _messages(share: bytes) -> Iterator[tuple[int, Translation | None]]:
    """The messages of one datagram: the type, and the connection if it is a TCP connection."""
    while len(share) >= _HEADER.size:
        size, kind, *_ = _HEADER.unpack_from(share)
        if kind == _ERROR:
            number = -struct.unpack_from("=i", share, _HEADER.size)[0]
            if number not in (0, errno.ENOENT):
                raise LabError(f"conntrack: {os.strerror(number)}")
        yield kind, _translation(share[:size]) if kind == _CTNETLINK | _NEW else None
        share = share[(size + 3) & ~3 :]


def _translation(data: bytes) -> Translation | None:
    message = nfct_msg(data)
    message.decode()
    original, reply = _flow(message, "CTA_TUPLE_ORIG"), _flow(message, "CTA_TUPLE_REPLY")
    return None if original is None or reply is None else Translation(original=original, reply=reply)


def _flow(message: Any, name: str) -> Flow | None:
    found = NFCTAttrTuple.from_netlink(message["nfgen_family"], message.get_attr(name))
    if found.proto != socket.IPPROTO_TCP:
        return None
    return Flow(src=found.saddr, src_port=found.sport, dst=found.daddr, dst_port=found.dport)
