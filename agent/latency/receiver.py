"""Receives the latency reports of peers. The other end of ``latency/measurer.py``.

This node never sends anything on these connections. The peer measures how soon this node's kernel
acknowledges, and a message from here would carry the acknowledgement. The number of connections and of
messages is bounded. A peer that exceeds a bound is disconnected.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from socket import SOL_TCP, TCP_QUICKACK
from typing import Any

from agent.heartbeat import Heartbeat
from agent.latency.wire import REPORT_MAX_BYTES, NodeReport, ReportInvalid, decode_report
from agent.members.identities import Identities
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.peering.accept import (
    AcceptLimits,
    Acceptor,
    Guarded,
    Introduce,
    PeerRequest,
    PeerResponse,
    Stays,
    Upgraded,
    introduce_nothing,
    none_stays,
)
from agent.peering.websocket import PeerSocket, Unbounded
from agent.pull.regard import Regard
from topology.placement import NodeName, Placement

_log = logging.getLogger(__name__)

_IDLE_S = 2 * 3600.0  # longer than any interval that can be configured
_LIMITS = AcceptLimits(
    total_max=2048,  # each costs some 40 kB; a node of 5,000 is measured by about 60 others
    address_max=4,  # a peer uses one; after a restart its old connection may still be open
    message_max_bytes=REPORT_MAX_BYTES,
)
_BURST_MAX, _BURST_S = 40, 5.0  # messages; a peer sends four a second at most


class ReportDesk:
    """Holds the connections of the peers that measure, and passes their reports on.

    ``received``: is called with each report, the address that it came from, and the node that proved to send
    it; None: it proved nothing. ``invalid``: is called for each message that is no report. ``upgraded``,
    ``guarded``: see `agent.peering.accept`. ``introduction``: see `Acceptor`.
    """

    def __init__(
        self,
        received: Callable[[NodeReport, str, NodeName | None], None],
        invalid: Callable[[], None],
        *,
        upgraded: Upgraded = lambda _request: None,
        guarded: Guarded = lambda _request, _message_max_bytes: Unbounded(),
        heartbeat: Heartbeat | None = None,
        introduction: Introduce = introduce_nothing,
    ) -> None:
        self._received = received
        self._invalid = invalid
        self._acceptor = Acceptor(
            purpose="reports about latency",
            limits=_LIMITS,
            sends=False,
            upgraded=upgraded,
            guarded=guarded,
            heartbeat=heartbeat,
            introduction=introduction,
        )

    def __len__(self) -> int:
        """How many peers are connected."""
        return len(self._acceptor)

    async def serve(self, request: PeerRequest, address: str, proved: NodeName | None = None) -> PeerResponse:
        """Receive reports from the peer at this address until it leaves. ``proved``: the name that it proved.

        Raises what `Acceptor.serve` raises.
        """
        return await self._acceptor.serve(request, address, partial(self._receive, proved))

    async def close(self, stays: Stays = none_stays) -> None:
        """End all connections but those that stay, without a message to the peers."""
        await self._acceptor.close(stays)

    async def _receive(self, proved: NodeName | None, socket: PeerSocket, address: str) -> None:
        """Pass reports on until the peer leaves or breaks a rule."""
        _acknowledge_at_once(socket.kernel_socket)
        started_s, messages = time.monotonic(), 0
        try:
            while (message := await socket.receive(_IDLE_S)) is not None:
                now_s = time.monotonic()
                if now_s - started_s > _BURST_S:
                    started_s, messages = now_s, 0
                messages += 1
                if messages > _BURST_MAX:
                    raise ReportInvalid(f"more than {_BURST_MAX} messages in {_BURST_S:g} s")
                if message:
                    began_s = time.thread_time()
                    self._received(decode_report(message), address, proved)
                    await socket.pay(time.thread_time() - began_s)
                del message  # a thousand peers wait here: none of their last reports is kept
        except ReportInvalid as error:
            self._invalid()
            _log.warning("not a report: %s", error, extra={"fields": {"remote": address}})


def receive_report(
    roster: Roster,
    identities: Identities,
    regard: Regard,
    metrics: Metrics,
    returned: Callable[[NodeName], None],
    placed: Callable[[Peer, Placement], None],
    received: NodeReport,
    address: str,
    proved: NodeName | None,
) -> None:
    """Use a peer's report. It is ignored if it names another node than the one that proved to send it.

    Where nothing is proved, its address has to be that of the node that it names.
    ``returned``: is called with a peer that reports although it did not answer before.
    ``placed``: see `Membership.placed`.
    """
    absurd = None
    if proved in (None, received.node):
        from_address = address if proved is None else None
        absurd = roster.receive_report(received.node, received.report, address=from_address)
    if absurd is None:
        metrics.report("stranger")
        identities.reported(received.node, address)
        return
    peer = roster.peer(received.node)
    if peer is not None and received.placement is not None:
        placed(peer, received.placement)
    regard.reported_load(received.node, received.report.load, time.monotonic())
    metrics.report("taken", absurd=absurd)
    if regard.silence(received.node) is not None:
        returned(received.node)


def _acknowledge_at_once(sock: Any) -> None:
    """Take the connection out of the kernel's interactive mode, which delays acknowledgements.

    The answer to the WebSocket handshake put the connection into that mode. It does not come back, because
    this node sends nothing else. After a pause of more than the retransmission time-out (0.2 s) the kernel
    then acknowledges each message at once. Sources: net/ipv4/tcp_input.c, tcp_event_data_recv(); tcp(7),
    TCP_QUICKACK.
    """
    with suppress(OSError, ValueError, AttributeError):  # closed meanwhile
        sock.setsockopt(SOL_TCP, TCP_QUICKACK, 1)
