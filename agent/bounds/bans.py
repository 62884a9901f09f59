"""Which clients may not even connect for a while, and the kernel's filter that drops their connections.

Saying no to a connection costs some 30 µs. A client that connects again at once, thousands of times a second,
takes a part of the processor by that alone. So it is refused in the kernel: a filter on the listening
socket drops its SYNs, and its retries come after seconds. A refusal counts only when the client's address is
proven by the handshake, so nobody can have somebody else banned. Connections that are open go on.

Pure. Times are seconds of one clock. Sources: socket(7), SO_ATTACH_FILTER; linux/filter.h (classic BPF);
tcp_v4_rcv() in net/ipv4/tcp_ipv4.c, which runs a listening socket's filter on SYNs.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

_REFUSED_MAX, _WINDOW_S = 50, 1.0  # refusals; an agent waits after one
BANNED_S = 3.0
_BANNED_MAX = 64  # who comes after that costs its 30 µs
_COUNTED_MAX = 1024

_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NETWORK_HEADER = -0x100000  # SKF_NET_OFF
_SOURCE_AT = {4: 12, 6: 8}  # in the header of IPv4, IPv6
_ALL = 0xFFFFFFFF


@dataclass(slots=True, kw_only=True)
class _Count:
    since_s: float
    refused: int = 0


class Bans:
    """Who is banned. ``who``: an address, or an IPv6 network."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}
        self._until_s: dict[str, float] = {}

    def refused(self, who: str, now_s: float) -> bool:
        """A connection or a request of this client was refused. Whether it is banned now, and was not."""
        count = self._counts.get(who)
        if count is None or now_s - count.since_s > _WINDOW_S:
            if len(self._counts) >= _COUNTED_MAX:
                self._counts.clear()
            count = self._counts[who] = _Count(since_s=now_s)
        count.refused += 1
        if count.refused < _REFUSED_MAX or who in self._until_s or len(self._until_s) >= _BANNED_MAX:
            return False
        self._until_s[who] = now_s + BANNED_S
        return True

    def expire(self, now_s: float) -> bool:
        """End the bans whose time is over. Whether there was one."""
        over = [who for who, until_s in self._until_s.items() if until_s <= now_s]
        for who in over:
            del self._until_s[who]
        return bool(over)

    @property
    def banned(self) -> tuple[str, ...]:
        """Who is banned now."""
        return tuple(self._until_s)


def filter_program(banned: Iterable[str], version: int) -> bytes:
    """The filter for a listening socket of this IP version (4 or 6): it drops what comes from these."""
    program = b""
    for who in banned:
        words = _words(who, version)
        for place, word in enumerate(words):
            source_at = (_NETWORK_HEADER + _SOURCE_AT[version] + 4 * place) & _ALL
            program += _instruction(_LOAD_WORD, source_at)
            over = 2 * (len(words) - place - 1) + 1  # to the next client
            program += _instruction(_JUMP_IF_EQUAL, word, otherwise=over)
        if words:
            program += _instruction(_RETURN, 0)
    return program + _instruction(_RETURN, _ALL)


def _words(who: str, version: int) -> list[int]:
    """The words that the source has to be equal to. None for a client of another IP version."""
    network = ip_network(who) if "/" in who else ip_network(ip_address(who))
    if network.version != version:
        return []
    packed = network.network_address.packed[: network.prefixlen // 8]
    return [word for (word,) in struct.iter_unpack(">I", packed)]


def _instruction(code: int, value: int, *, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, 0, otherwise, value)
