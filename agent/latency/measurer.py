"""Measures round trips to peers: opens, uses, rotates and closes the measuring connections.

Each connection sends an empty message every `interval_s`. The peer's kernel acknowledges it. At the next turn
this node's kernel says how long that took. Every `report_s` the message is a report. `topology.measuring`
chooses the peers. If a peer can't be measured, pulls still use it, and a new connection is tried from time to
time.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from agent.config import LatencySettings
from agent.latency.samples import add_sample
from agent.latency.tcpinfo import TcpInfo, newest_sample_us, read_tcp_info
from agent.latency.wire import PATH, encode_report
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.peering.dial import Dialer, OwnFault, Refused, Unreachable
from agent.peering.websocket import PeerSocket
from agent.pull.regard import Regard
from agent.tasks import end_all
from topology.measuring import MeasureLimits, choose_measured
from topology.placement import NodeName, ZoneKey

_log = logging.getLogger(__name__)

MEASURE_CONNECT_S = 3.0
"""A measuring connection is given up if it is not open after this time."""

_MESSAGE_MAX_BYTES = 1024  # the peer should send nothing at all
_OPENING_MAX = 8  # connections that open at once, so that a rotation is no burst
_LOST_MAX = 3  # a connection is given up after this many messages in a row without an acknowledgement
_RETRY_LEAST_S, _RETRY_MOST_S = 1.0, 60.0
_SOON_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Retry:
    """When a peer is tried again at this address. ``waits_s``: the wait before that.

    ``is_silent``: it did not answer.
    """

    authority: str
    at_s: float
    waits_s: float
    is_silent: bool = False


class _Connection:
    """One open connection."""

    def __init__(self, peer: Peer, socket: PeerSocket, info: TcpInfo | None) -> None:
        self.peer = peer
        self._socket = socket
        self._before = info
        self._lost = 0
        self.reported_s = float("-inf")
        # A peer sends nothing here. So what arrives is the end of the connection, or the peer is no agent.
        self._watch = asyncio.create_task(socket.receive(), name="watch a measuring connection")

    @property
    def dead(self) -> bool:
        return self._watch.done() or self._lost >= _LOST_MAX

    def measure(self) -> float | None:
        """The round trip of the last message, in microseconds. None if it was not acknowledged."""
        info = read_tcp_info(self._socket.kernel_socket)
        sample_us = None
        if info is not None and self._before is not None:
            sample_us = newest_sample_us(self._before, info)
        self._before = info
        self._lost = 0 if sample_us is not None else self._lost + 1
        return sample_us

    async def send(self, message: bytes) -> None:
        """Send a message. Its acknowledgement is measured. Raises ConnectionError and TimeoutError."""
        await self._socket.send(message, MEASURE_CONNECT_S)

    async def close(self) -> None:
        """Close the connection. The peer can't delay this."""
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)
        await self._socket.close()


class Measurer:
    """Keeps the roster's latencies measured. Use as an async context manager, and `run` it.

    ``regard``: is told which peers answer, and how those fail that do not. ``load``: returns how many bodies
    this node sends to peers now. ``dialer``: opens the measuring connections. It should connect from this
    node's own address: peers recognise the reporter by it.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        regard: Regard,
        settings: LatencySettings,
        metrics: Metrics,
        load: Callable[[], int],
        dialer: Dialer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster = roster
        self._regard = regard
        self._settings = settings
        self._metrics = metrics
        self._load = load
        self._dialer = dialer
        self._clock = clock
        self._connections: dict[NodeName, _Connection] = {}
        self._opening: dict[NodeName, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._retry: dict[NodeName, _Retry] = {}  # of the peers whose connection did not open, or ended
        self._planned: tuple[int, int] | None = None
        self._wanted: tuple[NodeName, ...] = ()
        self._last_report = float("-inf"), b""  # when it was made, and the message

    @property
    def measured(self) -> tuple[NodeName, ...]:
        """The peers that have a connection now."""
        return tuple(self._connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end_all(self._opening.values())
        for connection in [*self._connections.values()]:
            self._drop(connection)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def run(self) -> None:
        """Measure until cancelled. The messages are spread over the interval."""
        if not self._settings.measure:
            return
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._plan(tasks)
                started_s = self._clock()
                connections = [*self._connections.values()]
                for number, connection in enumerate(connections, start=1):
                    await self._turn(connection)
                    due_s = started_s + self._settings.interval_s * number / len(connections)
                    await asyncio.sleep(max(0.0, due_s - self._clock()))
                if not connections:
                    await asyncio.sleep(_SOON_S)

    def _plan(self, tasks: asyncio.TaskGroup) -> None:
        """Decide which peers are measured now. Close the other connections, and open the missing ones."""
        now_s = self._clock()
        turn = int(now_s / self._settings.rotate_s)
        plan = (self._roster.snapshot.generation, turn)
        if plan != self._planned:
            self._planned = plan
            self._wanted = self._choose(turn)
        wanted = frozenset(self._wanted)
        for name, connection in list(self._connections.items()):
            peer = self._roster.peer(name)
            moved = peer is None or peer.base_url != connection.peer.base_url
            if name not in wanted or connection.dead or moved:
                if connection.dead:
                    authority, waits_s = connection.peer.authority, _RETRY_LEAST_S
                    self._retry[name] = _Retry(authority=authority, at_s=now_s + waits_s, waits_s=waits_s)
                self._drop(connection)
        for name in self._wanted:
            if len(self._opening) >= _OPENING_MAX:
                break
            peer = self._roster.peer(name)
            if peer is None or name in self._connections or name in self._opening:
                continue
            if not self._is_due(peer, now_s):
                continue
            task = tasks.create_task(self._open(peer), name="open a measuring connection")
            self._opening[name] = task
            task.add_done_callback(lambda _, name=name: self._opening.pop(name, None))  # type: ignore[misc]

    def _is_due(self, peer: Peer, now_s: float) -> bool:
        """Whether a peer may be tried now. One that was silent is not waited for once it answered others."""
        retry = self._retry.get(peer.name)
        if retry is None or now_s >= retry.at_s or retry.authority != peer.authority:
            return True
        failed_s = retry.at_s - retry.waits_s
        answers = retry.is_silent and self._regard.silence(peer.name) is None
        return answers and now_s >= failed_s + _RETRY_LEAST_S

    def _choose(self, turn: int) -> tuple[NodeName, ...]:
        snapshot = self._roster.snapshot
        zones: dict[ZoneKey | None, list[NodeName]] = {}
        for name in self._roster.peers:
            zones.setdefault(snapshot.zone_of(name), []).append(name)
        settings = self._settings
        self._retry = {name: retry for name, retry in self._retry.items() if self._roster.peer(name)}
        return choose_measured(
            zones,
            own=self._roster.own,
            own_zone=snapshot.zone_of(self._roster.own),
            limits=MeasureLimits(
                own_zone=settings.own_zone, other_zones=settings.other_zones, total=settings.connections_max
            ),
            turn=turn,
        )

    async def _open(self, peer: Peer) -> None:
        try:
            socket = await self._dialer.open_websocket(
                peer,
                PATH,
                timeout_s=MEASURE_CONNECT_S,
                message_max_bytes=_MESSAGE_MAX_BYTES,
                answers_pings=False,
            )
        except (Unreachable, OwnFault) as error:
            self._failed(peer, error)
            return
        self._retry.pop(peer.name, None)
        self._regard.heard(peer.name, self._clock())
        info = read_tcp_info(socket.kernel_socket)
        if info is not None and info.handshake_us is not None:
            self._add_sample(peer.name, info.handshake_us)
        self._connections[peer.name] = _Connection(peer, socket, info)

    def _failed(self, peer: Peer, error: Unreachable | OwnFault) -> None:
        """The connection did not open. It is tried again after a wait that doubles each time."""
        name = peer.name
        self._metrics.measurement("unreachable")
        _log.debug("can't measure: %s", error, extra={"fields": {"node": name}})
        now_s, before = self._clock(), self._retry.get(name)
        waited_s = 0.0 if before is None or before.authority != peer.authority else before.waits_s
        waits_s = min(_RETRY_MOST_S, max(_RETRY_LEAST_S, 2 * waited_s))
        is_silent = isinstance(error, Unreachable) and not isinstance(error, Refused)
        self._retry[name] = _Retry(
            authority=peer.authority, at_s=now_s + waits_s, waits_s=waits_s, is_silent=is_silent
        )
        if isinstance(error, OwnFault):
            return  # that is no news of the peer
        if is_silent:
            self._regard.noted(name, str(error), now_s, silent=True)
        else:
            self._regard.refused(name, str(error), now_s)

    async def _turn(self, connection: _Connection) -> None:
        name = connection.peer.name
        if self._connections.get(name) is not connection:
            return
        sample_us = connection.measure() if connection.reported_s > float("-inf") else None
        if sample_us is not None:
            self._add_sample(name, sample_us)
        elif connection.reported_s > float("-inf"):
            self._metrics.measurement("lost")
        message = b""
        now_s = self._clock()
        if now_s - connection.reported_s >= self._settings.report_s:
            connection.reported_s = now_s
            message = self._report(now_s)
        try:
            await connection.send(message)
        except (ConnectionError, TimeoutError):
            self._drop(connection)

    def _report(self, now_s: float) -> bytes:
        """The report as a message. It is made once a second at most, for all peers."""
        made_s, message = self._last_report
        if now_s - made_s >= 1.0 or not message:
            report = self._roster.topology.report(now_s, load=self._load())
            message = encode_report(self._roster.own, report, self._roster.placement)
            self._last_report = now_s, message
        return message

    def _add_sample(self, name: NodeName, sample_us: float) -> None:
        plausible = add_sample(self._roster, self._metrics, name, sample_us, "measurement")
        self._metrics.measurement("measured" if plausible else "absurd")

    def _drop(self, connection: _Connection) -> None:
        task = asyncio.create_task(connection.close(), name="close a measuring connection")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        if self._connections.get(connection.peer.name) is connection:
            del self._connections[connection.peer.name]
