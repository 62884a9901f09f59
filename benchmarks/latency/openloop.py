"""A client that asks when it is due, whatever became of earlier requests: an open loop, on its own sockets.

Each latency counts from the moment at which the request was *due*: if all connections are busy, or this
client itself is late, the wait is part of it. One thread and one epoll for all connections; Python's own HTTP
clients cost more than a local answer. How often the client itself began late is counted, and said.
"""

import errno
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram

from benchmarks.latency.answers import Answer, AnswerInvalid
from benchmarks.reporting.histogram import new_histogram, record

LATE_S = 0.001
"""A start so much behind its time is this client's own fault, if a connection was free."""

_SPIN_S = 150e-6
"""The last part of a wait is spent looking at the clock: a wake-up takes about as long."""

_WARM = 4  # connections that are open before the clock runs
_OVERDUE_EACH_S = 0.1
_BUFFER_BYTES = 1 << 20
_TURN_BYTES = 4 << 20  # of one connection before the others have their turn
_GIVE_UP = 20  # failures in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request. ``target``: path and query. ``status``: what a good answer has.

    ``first_bytes``: ask for so many of its first bytes alone; a good answer has the status 206 then.
    """

    target: str
    status: int = 200
    first_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Whom to ask. ``make_socket``: gives an unconnected TCP socket, in the network that asks."""

    host: str
    port: int
    make_socket: Callable[[], socket.socket] = lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``deadline_s``: for one answer. ``connections``: so many at once. ``bytes``: of bodies; None: any."""

    deadline_s: float = 10.0
    connections: int = 256
    bytes: int | None = None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    ``first``: until the first byte of the body, or the end of an answer without one. ``whole``: until the
    last byte. Both only of answers with the expected status; the others are counted in ``failed``.
    ``due``: how many were to be asked; ``skipped``: those that were not, because the bytes were spent or
    nobody answered any more. ``late``: starts that this client delayed; ``latest_s``: by how much.
    ``waited``: requests for which all connections were busy. ``gone``: it gave up, because nothing answers.
    """

    due: int
    first: HdrHistogram = field(default_factory=new_histogram)
    whole: HdrHistogram = field(default_factory=new_histogram)
    failed: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    late: int = 0
    latest_s: float = 0.0
    waited: int = 0
    connections: int = 0
    bytes: int = 0
    seconds: float = 0.0
    gone: bool = False

    @property
    def answered(self) -> int:
        """How many answers were good."""
        return int(self.whole.get_total_count())

    @property
    def late_share(self) -> float:
        """The share of starts that this client delayed."""
        begun = self.due - self.skipped
        return self.late / begun if begun else 0.0


def run_open_loop(
    server: Server,
    asks: Sequence[Ask],
    starts: Sequence[float],
    *,
    warm: bool,
    limits: Limits | None = None,
) -> Outcome:
    """Ask for each of ``asks`` at its time in ``starts`` (seconds from now), and wait for all answers.

    ``warm``: requests use connections that are open, one more is opened only if none is free. Otherwise each
    request has its own, and connecting is part of its latency.
    """
    loop = _Loop(server, asks, starts, warm=warm, limits=limits or Limits())
    try:
        return loop.run()
    finally:
        loop.close()


@dataclass(slots=True, eq=False)
class _Exchange:
    """One request on its connection. ``due_s``: when it was to begin."""

    connection: socket.socket
    ask: Ask | None = None
    due_s: float = 0.0
    unsent: bytes = b""
    answer: Answer = field(default_factory=Answer)
    began: bool = False
    used: bool = False


class _Loop:
    def __init__(
        self, server: Server, asks: Sequence[Ask], starts: Sequence[float], *, warm: bool, limits: Limits
    ) -> None:
        self._server, self._warm, self._limits = server, warm, limits
        self._due = deque(zip(starts, asks, strict=True))
        self._outcome = Outcome(due=len(asks))
        self._epoll = select.epoll()
        self._spare: deque[socket.socket] = deque()
        self._open: dict[int, _Exchange] = {}
        self._free: list[_Exchange] = []
        self._waiting: deque[tuple[float, Ask]] = deque()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._in_a_row = 0
        self._began_s = self._look_s = 0.0

    def run(self) -> Outcome:
        """Ask, and wait for the answers."""
        self._prepare()
        self._began_s = time.monotonic()
        while self._due or self._waiting or len(self._open) > len(self._free):
            self._begin_what_is_due()
            self._wait()
            self._end_what_is_overdue()
            if self._outcome.gone:
                self._leave()
                break
        self._outcome.seconds = time.monotonic() - self._began_s
        return self._outcome

    def close(self) -> None:
        """Close all connections."""
        for each in [*self._open.values()]:
            each.connection.close()
        for spare in self._spare:
            spare.close()
        self._epoll.close()

    def _prepare(self) -> None:
        """Make sockets before the clock runs: where they are made in another network, that takes long."""
        wanted = len(self._due) if not self._warm else min(16, len(self._due))
        for _ in range(min(wanted, 512)):
            self._spare.append(self._server.make_socket())
        if self._warm:
            with suppress(OSError):  # what cannot connect is told when it is due
                for _ in range(min(_WARM, len(self._spare), self._limits.connections)):
                    self._free.append(self._connect())
                self._epoll.poll(1.0)

    def _connect(self) -> _Exchange:
        """A connection that is being opened. Raises OSError."""
        connection = self._spare.popleft() if self._spare else self._server.make_socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._outcome.connections += 1
        found = connection.connect_ex((self._server.host, self._server.port))
        if found not in (0, errno.EINPROGRESS):
            connection.close()
            raise OSError(found, errno.errorcode.get(found, str(found)))
        exchange = _Exchange(connection)
        self._open[connection.fileno()] = exchange
        self._epoll.register(connection.fileno(), select.EPOLLOUT)
        return exchange

    # Beginning

    def _begin_what_is_due(self) -> None:
        now_s = time.monotonic() - self._began_s
        while self._due and self._due[0][0] <= now_s:
            due_s, ask = self._due.popleft()
            if self._spent:
                self._outcome.skipped += 1 + len(self._due)
                self._due.clear()
                return
            if now_s - due_s > LATE_S:
                self._outcome.late += 1
            self._outcome.latest_s = max(self._outcome.latest_s, now_s - due_s)
            self._begin(due_s, ask)
            now_s = time.monotonic() - self._began_s
        while self._waiting and len(self._open) < self._limits.connections:
            self._begin(*self._waiting.popleft())

    @property
    def _spent(self) -> bool:
        return self._limits.bytes is not None and self._outcome.bytes >= self._limits.bytes

    def _begin(self, due_s: float, ask: Ask) -> None:
        exchange = self._free.pop() if self._warm and self._free else None
        if exchange is None:
            if len(self._open) >= self._limits.connections:
                self._outcome.waited += 1
                self._waiting.append((due_s, ask))
                return
            try:
                exchange = self._connect()
            except OSError as error:
                self._fail(_words(error))
                return
        exchange.ask, exchange.due_s = ask, due_s
        exchange.answer, exchange.began = Answer(), False
        exchange.unsent = self._request(ask)
        self._send(exchange)

    def _request(self, ask: Ask) -> bytes:
        lines = [f"GET {ask.target} HTTP/1.1", f"Host: {self._server.host}:{self._server.port}"]
        lines += ["User-Agent: shorthaul-bench", *self._server.headers]
        lines += [] if self._warm else ["Connection: close"]
        lines += [] if ask.first_bytes is None else [f"Range: bytes=0-{ask.first_bytes - 1}"]
        return "\r\n".join([*lines, "", ""]).encode()

    def _send(self, exchange: _Exchange) -> None:
        try:
            sent = exchange.connection.send(exchange.unsent)
        except BlockingIOError:
            sent = 0  # it is still connecting: epoll says when
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                sent = 0
            else:
                self._end(exchange, _words(error))
                return
        exchange.unsent = exchange.unsent[sent:]
        waits_for = select.EPOLLOUT if exchange.unsent else select.EPOLLIN
        self._epoll.modify(exchange.connection.fileno(), waits_for)

    # Waiting

    def _wait(self) -> None:
        """Wait for what comes, or until the next request is due: to the microsecond, which epoll can't."""
        left_s = self._due[0][0] - (time.monotonic() - self._began_s) if self._due else 0.05
        if left_s > _SPIN_S:
            select.select([self._epoll], [], [], min(left_s - _SPIN_S, 0.05))
        for fd, events in self._epoll.poll(0):
            exchange = self._open.get(fd)
            if exchange is not None:
                self._on(exchange, events)

    def _on(self, exchange: _Exchange, events: int) -> None:
        if exchange.ask is None and not events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLIN):
            self._epoll.modify(exchange.connection.fileno(), select.EPOLLIN)  # open, and nothing to send yet
        elif exchange.ask is None:
            self._drop(exchange)  # a free connection that the server closed
        elif exchange.unsent:
            problem = exchange.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if problem:
                self._end(exchange, _words(OSError(problem, "")))
            else:
                self._send(exchange)
        else:
            self._receive(exchange)

    def _receive(self, exchange: _Exchange) -> None:
        taken = 0
        while taken < _TURN_BYTES:
            try:
                received = exchange.connection.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                self._end(exchange, _words(error))
                return
            if not received:
                self._end(exchange, "closed before the end of the answer")
                return
            taken += received
            if self._take(exchange, received):
                return

    def _take(self, exchange: _Exchange, received: int) -> bool:
        """Take a part of the answer. Whether that was its end."""
        before = exchange.answer.body_bytes
        try:
            exchange.answer.take(self._buffer[:received])
        except AnswerInvalid as error:
            self._end(exchange, str(error))
            return True
        self._outcome.bytes += exchange.answer.body_bytes - before
        answer, ask = exchange.answer, exchange.ask
        assert ask is not None
        if answer.began and not exchange.began:
            exchange.began = True
            if answer.status == ask.status:
                record(self._outcome.first, time.monotonic() - self._began_s - exchange.due_s)
        if answer.complete:
            good = answer.status == ask.status
            if good:
                record(self._outcome.whole, time.monotonic() - self._began_s - exchange.due_s)
            self._end(exchange, "" if good else f"status {answer.status}")
            return True
        return False

    def _end_what_is_overdue(self) -> None:
        """End what takes too long."""
        now_s = time.monotonic() - self._began_s
        if now_s < self._look_s:
            return
        self._look_s = now_s + _OVERDUE_EACH_S
        for exchange in [*self._open.values()]:
            if exchange.ask is not None and now_s - exchange.due_s > self._limits.deadline_s:
                self._end(exchange, f"no whole answer within {self._limits.deadline_s:g} s")

    # Ending

    def _end(self, exchange: _Exchange, problem: str) -> None:
        keeps = self._warm and exchange.answer.complete and exchange.answer.keeps
        exchange.ask = None
        if keeps:
            self._free.append(exchange)
        else:
            self._drop(exchange)
        if problem:
            self._fail(problem)
        else:
            self._in_a_row = 0
        if self._waiting and keeps:
            self._begin(*self._waiting.popleft())

    def _drop(self, exchange: _Exchange) -> None:
        self._open.pop(exchange.connection.fileno(), None)
        if exchange in self._free:
            self._free.remove(exchange)
        exchange.connection.close()

    def _leave(self) -> None:
        """Give up what is under way: each request is answered, failed or skipped, and none of them twice."""
        for exchange in [*self._open.values()]:
            if exchange.ask is not None:
                self._end(exchange, "under way when this client gave up")

    def _fail(self, problem: str) -> None:
        self._outcome.failed[problem] += 1
        self._in_a_row += not problem.startswith("status")  # who answers anything is there
        if self._in_a_row >= _GIVE_UP and not self._outcome.gone:
            self._outcome.gone = True
            self._outcome.skipped += len(self._due) + len(self._waiting)
            self._due.clear()
            self._waiting.clear()


def _words(error: OSError) -> str:
    return {
        errno.ECONNREFUSED: "refused: nobody listens there",
        errno.ECONNRESET: "reset by the other end",
        errno.EPIPE: "reset by the other end",
        errno.EHOSTUNREACH: "no way there",
        errno.ENETUNREACH: "no way there",
        errno.ETIMEDOUT: "timed out",
        errno.EMFILE: "this process may open no more files",
    }.get(error.errno or 0, f"failed: {error.strerror or error.errno}")
