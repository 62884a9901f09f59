"""What goes over the wire between nodes: its cost, the load it is, and the round trips it shows."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from aiohttp import web

from agent.latency.samples import add_sample
from agent.latency.tcpinfo import read_tcp_info
from agent.listen.http import is_first_look
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord
from agent.oci.errors import OciError, Overloaded, TooManyRequests
from agent.pull.admission import Admission, Refused
from topology.ledger import CostLedger, Entry


def is_agent(request: web.BaseRequest) -> bool:
    """Whether another agent asks: it knows what a 429 means."""
    return request.headers.get("User-Agent", "").startswith("shorthaul")


class Traffic:
    """Accounts the bodies that peers sent to this node, and bounds and watches those it sends to peers.

    ``young_s``: up to which age a connection's least round trip is taken, once, for one of now. The kernel
    keeps it for 300 s: taken later, it would outlive a change.
    """

    def __init__(
        self,
        *,
        ledger: CostLedger,
        roster: Roster,
        metrics: Metrics,
        admission: Admission,
        young_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._roster = roster
        self._metrics = metrics
        self._young_s = young_s
        self._clock = clock
        self.admission = admission

    def entries(self) -> Iterator[Entry]:
        """Bytes and money by pair of zones."""
        yield from self._ledger.entries()

    def account(self, record: RequestRecord, request: web.BaseRequest) -> None:
        """A request was answered: if its bytes came from another node, or went to one, they cost.

        What agents fetch on the peer listener they account themselves.
        """
        if not record.body_bytes or (record.path is RequestPath.PEER and is_agent(request)):
            return
        roster = self._roster
        snapshot = roster.snapshot
        own = snapshot.zone_of(roster.own)
        ways = [(snapshot.zone_of(part.node), own, part.size_bytes) for part in record.given]
        if record.path is not RequestPath.HOSTPORT:
            client = roster.peer_at(request.remote or "")
            if client is not None:  # another node's containerd, by way of the fallback or redirected
                ways.append((own, snapshot.zone_of(client), record.body_bytes))
        for source, destination, size_bytes in ways:
            entry = self._ledger.add(source, destination, size_bytes)
            self._metrics.received(entry.source, entry.destination, entry.size_bytes, entry.usd)

    @property
    def uploads(self) -> int:
        """How many bodies are being sent to peers now."""
        return len(self.admission)

    @contextmanager
    def upload(
        self, request: web.BaseRequest, path: RequestPath, size_bytes: int
    ) -> Iterator[Callable[[int], None]]:
        """A body of this size is sent while this is entered; yields whom to tell of each of its parts.

        To a peer it counts as load and measures the way there. Raises `OciError` where there is no room.
        """
        if path is not RequestPath.PEER:
            yield lambda _: None
            return
        admission = self.admission
        upload = admission.ask(request.remote or "", size_bytes, self._clock())
        if isinstance(upload, Refused):
            raise self._refusal(request, upload)
        try:
            yield partial(admission.sent, upload)
        finally:
            admission.ended(upload)
            self._measure(request)

    def check_room(self, request: web.BaseRequest) -> None:
        """For a peer that asks whether it could have a body. Raises `OciError` if it could not."""
        refused = self.admission.would_refuse(request.remote or "", self._clock())
        if refused is not None:
            raise self._refusal(request, refused)

    def _refusal(self, request: web.BaseRequest, refused: Refused) -> OciError:
        self._metrics.refused()
        kind = TooManyRequests if is_agent(request) else Overloaded
        return kind(
            "as many uploads as this node may have at once",
            wait_s=refused.wait_s,
            hint="transfer.uploads_max and .upload_bytes_max decide",
        )

    def _measure(self, request: web.BaseRequest) -> None:
        name = self._roster.peer_at(request.remote or "")
        if name is None or request.transport is None or not is_first_look(request, self._young_s):
            return
        info = read_tcp_info(request.transport.get_extra_info("socket"))
        if info is not None:
            add_sample(self._roster, self._metrics, name, info.min_rtt_us, "upload")
