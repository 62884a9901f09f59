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
from agent.oci.errors import OciError, SharedWithOthers
from agent.oci.ranges import ByteRange
from agent.pull.admission import Admission, Refused, Upload
from agent.pull.arrival import FOLLOW_HEADER, shared_headers
from agent.pull.fanout import Admitted, Fanout, Shared, is_shared_out
from topology.ledger import CostLedger
from topology.placement import NodeName


class Traffic:
    """Counts the costs of bodies between this node and others. Limits and measures its uploads to them.

    ``fanout``: which of the nodes that want the same are sent to each other; None: none of them.
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
        fanout: Fanout | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger
        self._roster = roster
        self._metrics = metrics
        self._young_s = young_s
        self._clock = clock
        self.admission = admission
        self.fanout = fanout

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

    @property
    def followers(self) -> int:
        """How many nodes are given content that still arrives here; each once for each content."""
        return 0 if self.fanout is None else len(self.fanout)

    @contextmanager
    def upload(
        self,
        caller: Caller,
        request: web.BaseRequest,
        size_bytes: int,
        *,
        digest: Digest | None = None,
        selected: ByteRange | None = None,
        in_flight: bool = False,
    ) -> Iterator[Callable[[int], None]]:
        """Enter this while a body of this size is sent. Yields a function to call with the size of each part.

        ``selected``: the range of the blob ``digest`` that the body is; None: all of it. ``in_flight``: the
        blob still arrives here.

        A body for another node counts as load. Its connection is used to measure the round trip. Raises
        `OciError` if there is no room, or if the caller is to take it from another node.
        """
        if not caller.is_upload:
            yield lambda _: None
            return
        admitted = None
        shareable = is_shared_out(size_bytes, part=selected is not None, in_flight=in_flight)
        if shareable and digest is not None and FOLLOW_HEADER in request.headers:
            admitted = self._shared_out(caller, digest, in_flight=in_flight)
        upload: Upload | None = None
        try:
            upload = self._admitted(caller, size_bytes, digest, selected)
            yield partial(self.admission.sent, upload)
        finally:
            now_s = self._clock()
            if upload is not None:
                self.admission.ended(upload, now_s)
                self._measure(caller, request)
            if self.fanout is not None and admitted is not None:
                self.fanout.ended(admitted, now_s, whole=upload is not None and upload.left_bytes == 0)

    def _shared_out(self, caller: Caller, digest: Digest, *, in_flight: bool) -> Admitted | None:
        """Raises `SharedWithOthers` if the caller is to take the blob from another node."""
        fanout, node = self.fanout, caller.node
        if fanout is None or node is None:
            return None
        zone = self._roster.snapshot.zone_of(node)
        asked = fanout.ask(digest, node, zone, self._clock(), in_flight=in_flight)
        if isinstance(asked, Shared):
            self._metrics.shared()
            raise SharedWithOthers(
                "other nodes are given it now, and pass it on", told=shared_headers(asked.nodes)
            )
        return asked

    def _admitted(
        self, caller: Caller, size_bytes: int, digest: Digest | None, selected: ByteRange | None
    ) -> Upload:
        """Raises `OciError` if there is no room."""
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
        return upload

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
