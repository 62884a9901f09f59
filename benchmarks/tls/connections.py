"""What a new connection costs: from the dialling to the head of the first answer, and in processor time.

The dialling end is Python's ssl module, as in an agent. What is answered is of no interest.
"""

import socket
import ssl
import time
from dataclasses import dataclass, field

from benchmarks.lab.network import inside
from benchmarks.reporting.recorder import Recorder
from benchmarks.tls.ways import SIGNED, Pair, pairs, spent_s

_AT_A_TIME = 50  # connections, one after the other


@dataclass(slots=True, kw_only=True)
class _Measured:
    pair: Pair
    context: ssl.SSLContext | None
    seconds: list[float] = field(default_factory=list)
    dialling: list[float] = field(default_factory=list)
    accepting: list[float] = field(default_factory=list)


def report_connections(report: Recorder, *, rounds: int) -> None:
    """Each round opens connections in each way, and begins with another way."""
    with pairs(rsa=True) as (_, made):
        ways = [_Measured(pair=pair, context=_context(pair)) for pair in made if pair.way != SIGNED]
        for way in ways:
            _measure(way)
            for figures in (way.seconds, way.dialling, way.accepting):
                figures.clear()
        for first in range(rounds):
            for number in range(len(ways)):
                _measure(ways[(first + number) % len(ways)])
        report.begin("a new connection, to the head of its first answer")
        for way in ways:
            report.spread(way.pair.way, "ms", way.seconds, scale=1000)
            report.spread(f"{way.pair.way}: the dialling end", "CPU-ms", way.dialling, scale=1000)
            report.spread(f"{way.pair.way}: the accepting end", "CPU-ms", way.accepting, scale=1000)


def _context(pair: Pair) -> ssl.SSLContext | None:
    if pair.tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_cert_chain(pair.tls / "tls.crt", pair.tls / "tls.key")
    context.load_verify_locations(pair.tls / "ca.crt")
    return context


def _measure(way: _Measured) -> None:
    holder = way.pair.holder
    before_s = spent_s(holder)

    def dial() -> None:
        for _ in range(_AT_A_TIME):
            started_s, spent_s = time.monotonic(), time.thread_time()
            _dial(way.context, holder.address, holder.peer_port)
            way.seconds.append(time.monotonic() - started_s)
            way.dialling.append(time.thread_time() - spent_s)

    inside(way.pair.asker.netns, dial)
    way.accepting.append((spent_s(holder) - before_s) / _AT_A_TIME)


def _dial(context: ssl.SSLContext | None, address: str, port: int) -> None:
    with socket.create_connection((address, port), timeout=20.0) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as an agent does
        own = plain if context is None else context.wrap_socket(plain)
        own.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {address}\r\nUser-Agent: shorthaul\r\n\r\n".encode())
        own.recv(4096)
        own.close()
