"""Bodies between nodes: what their bytes cost, the load that they are, and the round trips that they show."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from aiohttp import web

from agent.latency.samples import add_sample
from agent.latency.tcpinfo import read_tcp_info
from agent.listen.caller import Caller
from agent.listen.http import is_first_call_for_connection
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestRecord
from agent.oci.digest import Digest
from agent.oci.errors import OciError
from agent.oci.ranges import ByteRange
from agent.pull.admission import Admission, Refused
from topology.ledger import CostLedger
from topology.placement import NodeName


class Traffic:
    """Counts the costs of bodies between this node and others. Limits and measures its uploads to them.

    ``young_s``: the least round trip of a connection is used only up to this age. The kernel keeps that value
    for 300 s, so in an older connection it could be outdated.
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
        self.ledger = ledger
        self._roster = roster
        self._metrics = metrics
        self._young_s = young_s
        self._clock = clock
        self.admission = admission

    def record_costs(self, record: RequestRecord, caller: Caller) -> None:
        """Count the costs of an answered request, if its bytes came from another node or went to one.

        Count what it saves at the registry, too.
        """
        if record.body_bytes and caller.spares_registry:
            saved = self.ledger.save(record.body_bytes)
            self._metrics.saved(record.path.value, saved.size_bytes, saved.usd)
        for part in record.sources:
            self.fetched(part.node, max(part.received_bytes, part.size_bytes))
        if record.body_bytes and caller.costs_count_here and caller.node is not None:
            # Another node's containerd: by the NodePort, or redirected here.
            self._crossed(self._roster.own, caller.node, record.body_bytes)

    def fetched(self, node: NodeName, size_bytes: int) -> None:
        """Count the costs of bytes that came from another node, also if no client asked for them."""
        self._crossed(node, self._roster.own, size_bytes)

    def _crossed(self, source: NodeName, destination: NodeName, size_bytes: int) -> None:
        zone_of = self._roster.snapshot.zone_of
        entry = self.ledger.add(zone_of(source), zone_of(destination), size_bytes)
        self._metrics.received(entry.source, entry.destination, entry.size_bytes, entry.usd)

    @property
    def uploads(self) -> int:
        """How many bodies are being sent to peers now."""
        return len(self.admission)

    @contextmanager
    def upload(
        self,
        caller: Caller,
        request: web.BaseRequest,
        size_bytes: int,
        *,
        digest: Digest | None = None,
        selected: ByteRange | None = None,
    ) -> Iterator[Callable[[int], None]]:
        """Enter this while a body of this size is sent. Yields a function to call with the size of each part.

        ``selected``: the range of the blob ``digest`` that the body is; None: all of it.

        A body for another node counts as load. Its connection is used to measure the round trip. Raises
        `OciError` if there is no room.
        """
        if not caller.is_upload:
            yield lambda _: None
            return
        admission = self.admission
        upload = admission.admit(
            caller.admission_key,
            size_bytes,
            self._clock(),
            blob=digest,
            start=selected.start if selected else 0,
            part=selected is not None,
        )
        if isinstance(upload, Refused):
            raise self._refusal(caller, upload)
        try:
            yield partial(admission.sent, upload)
        finally:
            admission.ended(upload, self._clock())
            self._measure(caller, request)

    def check_room(self, caller: Caller) -> None:
        """Raises `OciError` if the caller could not be sent a body now."""
        if not caller.is_upload:
            return
        refused = self.admission.would_refuse(caller.admission_key, self._clock())
        if refused is not None:
            raise self._refusal(caller, refused)

    def _refusal(self, caller: Caller, refused: Refused) -> OciError:
        self._metrics.refused()
        return caller.busy_error(
            "as many uploads as this node may have at once",
            wait_s=refused.wait_s,
            hint="transfer.uploads_max and .upload_bytes_max decide",
        )

    def _measure(self, caller: Caller, request: web.BaseRequest) -> None:
        """Sample the round trip to the caller's node, once per connection, while it is young."""
        name = caller.node
        if name is None or request.transport is None or not is_first_call_for_connection(request):
            return
        if self._clock() - caller.connected_s > self._young_s:
            return
        info = read_tcp_info(request.transport.get_extra_info("socket"))
        if info is not None:
            add_sample(self._roster, self._metrics, name, info.min_rtt_us, "upload")
