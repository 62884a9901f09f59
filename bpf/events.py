"""Decodes the events of the programs. The layout is in bpf/programs/event.h.

Addresses stay 16 bytes (IPv4 as ::ffff:a.b.c.d). So a v4-mapped socket and an IPv4 socket compare equal, and
no time is spent on formatting addresses that nobody reads.
"""

import ipaddress
import struct
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import NamedTuple

VERSION = 2
LAYOUT = struct.Struct("=HHBBBBQQQQQQQIII16s16sHH16sHH16sHH16sHH16sHH")
"""version, size, kind, flags, state, owner; time_ns, connect_ns, cookie, netns, cgroup, bytes_received,
bytes_acked; pid, mark, rtt_us; comm; intent; socket source and destination; wire source and destination."""

_INTENT, _DESTINATION = slice(92, 112), slice(132, 152)  # as bytes, with the port
_SOCKET, _WIRE = slice(112, 152), slice(152, 192)
_MAPPED = b"\0" * 10 + b"\xff\xff"


class Kind(IntEnum):
    """What an event is about."""

    FLOW = 1  # a packet showed what happens to this flow
    CLOSED = 2  # a client's socket closed
    RTT = 3  # the minimum round trip of the last second


class Flag(IntFlag):
    """What is known about a flow."""

    INTENT = 1  # connect() was seen: intent, pid, comm
    ESTABLISHED = 2
    WIRE = 4  # a packet was seen
    TRANSLATED = 8  # its addresses are not its socket's
    CLIENT = 16
    FIRST = 32  # intent was read in containerd's own cgroup
    BEGUN = 64  # its beginning was seen; without an intent, it connected to an address that is not watched
    TOLD = 128  # an earlier event told of this connection


class Owner(IntFlag):
    """Whose the socket is."""

    ROOT = 1  # the client's belongs to user 0
    AGENT = 2  # one of the agent's own listening sockets took this connection
    PROBE = 4  # the client's belongs to the probe's user, who is not user 0


class Address(NamedTuple):
    """An IP address, 16 bytes, and a port."""

    ip: bytes
    port: int

    def __str__(self) -> str:
        host = format_ip(self.ip)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class Tuple(NamedTuple):
    """The two ends of a TCP connection, as one of them sees them. The source is that end's own address."""

    source: Address
    destination: Address

    @property
    def mirrored(self) -> "Tuple":
        """As the other end sees it."""
        return Tuple(self.destination, self.source)


class Event(NamedTuple):
    """One event. Times in nanoseconds of CLOCK_MONOTONIC. ``netns``, ``cgroup`` and ``connect_ns`` are 0 if
    not known. ``owner``: of `Owner`.
    """

    kind: Kind
    flags: int
    state: int
    time_ns: int
    connect_ns: int
    cookie: int
    netns: int
    bytes_received: int
    bytes_acked: int
    pid: int
    mark: int
    rtt_us: int
    comm: str
    intent: Address
    socket: Tuple
    wire: Tuple
    cgroup: int = 0
    owner: int = 0


class EventInvalid(ValueError):
    """These bytes are not an event of this version."""


_KINDS = {int(kind): kind for kind in Kind}
_CLIENT = int(Flag.CLIENT)  # a plain number: an operation on a Flag makes another Flag


def decode(raw: bytes) -> Event:
    """Decode a record of the ring buffer. Raises `EventInvalid`.

    What many events have in common is one object for all of them, because thousands of events may be kept:
    an address, the server's end of their connections, a namespace and a cgroup.
    """
    if len(raw) < LAYOUT.size:
        raise EventInvalid(f"{len(raw)} bytes, not {LAYOUT.size}")
    (
        version, size, kind, flags, state, owner,
        time_ns, connect_ns, cookie, netns, cgroup, received, acked,
        pid, mark, rtt_us, comm,
        intent_ip, intent_port, _,
        source_ip, source_port, _, destination_ip, destination_port, _,
        wire_source_ip, wire_source_port, _, wire_destination_ip, wire_destination_port, _,
    ) = LAYOUT.unpack_from(raw)  # fmt: skip
    if version != VERSION or size != LAYOUT.size:
        raise EventInvalid(f"version {version}, {size} bytes; version {VERSION} has {LAYOUT.size}")
    if kind not in _KINDS:
        raise EventInvalid(f"an event of kind {kind}")
    at_source, at_destination = (Address, _server) if flags & _CLIENT else (_server, Address)
    destination = at_destination(_shared(destination_ip), destination_port)
    own = Tuple(at_source(_shared(source_ip), source_port), destination)
    if raw[_WIRE] == raw[_SOCKET]:
        wire = own
    else:
        wire = Tuple(
            Address(_shared(wire_source_ip), wire_source_port),
            Address(_shared(wire_destination_ip), wire_destination_port),
        )
    return Event(
        _KINDS[kind],
        flags,
        state,
        time_ns,
        connect_ns,
        cookie,
        _number(netns),
        received,
        acked,
        pid,
        mark,
        rtt_us,
        _words(comm.partition(b"\0")[0]),
        destination if raw[_INTENT] == raw[_DESTINATION] else Address(_shared(intent_ip), intent_port),
        own,
        wire,
        _number(cgroup),
        owner,
    )


@lru_cache(maxsize=1024)
def _shared(ip: bytes) -> bytes:
    """The same bytes, as one object for all events."""
    return ip


@lru_cache(maxsize=256)
def _server(ip: bytes, port: int) -> Address:
    """The server's end of a connection, as one object for all connections to it."""
    return Address(ip, port)


@lru_cache(maxsize=256)
def _number(number: int) -> int:
    """The same number, as one object for all events."""
    return number


@lru_cache(maxsize=1024)
def _words(comm: bytes) -> str:
    """A process's name that is safe to show. The kernel allows any bytes in it."""
    text = comm.decode("utf-8", "replace")
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def pack_ip(ip: str) -> bytes:
    """An address as 16 bytes. Raises ValueError."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    return address.packed if address.version == 6 else _MAPPED + address.packed


@lru_cache(maxsize=4096)
def format_ip(ip: bytes) -> str:
    """An address as text, from its 16 bytes. A v4-mapped address is shown as IPv4."""
    if ip.startswith(_MAPPED):
        return str(ipaddress.IPv4Address(ip[12:]))
    return str(ipaddress.IPv6Address(ip))


def is_loopback(ip: bytes) -> bool:
    """Whether this is 127.0.0.0/8 or ::1."""
    return (ip.startswith(_MAPPED) and ip[12] == 127) or ip == b"\0" * 15 + b"\1"
