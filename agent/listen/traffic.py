"""What goes over the wire between nodes: its cost, the load it is, and the round trips it shows."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from agent.latency.samples import take_sample
from agent.latency.tcpinfo import read_tcp_info
from agent.listen.http import is_first_look
from agent.members.neighbourhood import Neighbourhood
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord
from topology.ledger import CostLedger, Entry
from topology.placement import Locality


class Traffic:
    """Accounts the bodies that peers sent to this node, and watches those it sends to peers.

    ``young_s``: up to which age a connection's least round trip is taken, once, for one of now. The kernel
    keeps it for 300 s: taken later, it would outlive a change.
    """

    def __init__(
        self, *, ledger: CostLedger, neighbourhood: Neighbourhood, metrics: Metrics, young_s: float
    ) -> None:
        self._ledger = ledger
        self._neighbourhood = neighbourhood
        self._metrics = metrics
        self._young_s = young_s
        self.uploads = 0  # bodies that are being sent to peers now

    def entries(self) -> Iterator[Entry]:
        """Bytes and money by pair of zones."""
        yield from self._ledger.entries()

    def account(self, record: RequestRecord, request: web.BaseRequest) -> None:
        """A request was answered: if its bytes came from another node, or went to one, they cost.

        What peers fetch on the peer listener they account themselves.
        """
        if not record.body_bytes or record.path is RequestPath.PEER:
            return
        neighbourhood = self._neighbourhood
        snapshot = neighbourhood.snapshot
        own = snapshot.zone_of(neighbourhood.own)
        pairs = []
        if record.node is not None and record.locality is not Locality.NODE:
            pairs.append((snapshot.zone_of(record.node), own))
        if record.path is RequestPath.NODEPORT:
            client = neighbourhood.peer_at(request.remote or "")
            if client is not None:  # another node's containerd, by way of the fallback
                pairs.append((own, snapshot.zone_of(client)))
        for source, destination in pairs:
            entry = self._ledger.add(source, destination, record.body_bytes)
            self._metrics.received(entry.source, entry.destination, entry.size_bytes, entry.usd)

    @contextmanager
    def upload(self, request: web.BaseRequest, path: RequestPath) -> Iterator[None]:
        """A body is sent while this is entered; to a peer it counts as load and measures the way there."""
        if path is not RequestPath.PEER:
            yield
            return
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1
            self._measure(request)

    def _measure(self, request: web.BaseRequest) -> None:
        name = self._neighbourhood.peer_at(request.remote or "")
        if name is None or request.transport is None or not is_first_look(request, self._young_s):
            return
        info = read_tcp_info(request.transport.get_extra_info("socket"))
        if info is not None:
            take_sample(self._neighbourhood, self._metrics, name, info.min_rtt_us, "upload")
