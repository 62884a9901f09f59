"""One request while it is answered: its caller, its record, and the sink for the body."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from agent.listen.caller import Caller
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestRecord, Result
from agent.observe.steps import Outcome
from agent.oci.errors import OciError, Overloaded, TooManyRequests
from agent.pull.bucket import TokenBucket
from agent.transfer.sink import ClientSink
from topology.placement import NodeName, Tier


@dataclass(slots=True, kw_only=True)
class Exchange:
    """A request, its caller, and its record. The `Recorder` begins and finishes it."""

    request: web.BaseRequest
    caller: Caller
    record: RequestRecord
    started_s: float
    send_stall_s: float
    metrics: Metrics
    clock: Callable[[], float]

    @property
    def is_head(self) -> bool:
        """Whether only the head of the response is wanted."""
        return self.request.method == "HEAD"

    def header(self, name: str) -> str | None:
        """A header of the request."""
        return self.request.headers.get(name)

    def credit(self, node: NodeName, tier: Tier, reason: str) -> None:
        """Record which node has the content, and why that one was chosen."""
        self.record.node, self.record.tier, self.record.reason = node, tier, reason

    def discredit(self) -> None:
        """The credited node turned out not to have the content."""
        self.record.node = self.record.tier = None

    def failed(self, error: OciError) -> None:
        """Record that the request ended with this error."""
        self.record.result = _result_of(error)
        self.record.status, self.record.reason = error.status, error.message
        self.record.left_to_registry, self.record.fault = error.left_to_registry, error.fault
        missing = error.status == 404
        self.record.steps.close(Outcome.NONE if missing else Outcome.FAILED, error.message)

    def client_left(self, *, stopping: bool) -> None:
        """Record that the client is gone, or that this agent stops and ends the request.

        A client may close as soon as it has the last byte, before the handler has ended: that is no failure.
        """
        record = self.record
        if record.status and record.body_bytes == record.body_length:
            record.result = Result.OK
        else:
            record.result = Result.CUT if stopping else Result.CLIENT_GONE

    @asynccontextmanager
    async def sink(
        self,
        response: web.StreamResponse,
        *,
        limit: TokenBucket,
        uploaded: Callable[[int], None] = lambda _: None,
    ) -> AsyncIterator[ClientSink]:
        """The sink for the response's body. What was sent is added to the record.

        ``uploaded``: is called with the size of each part that was sent.
        """
        record = self.record

        def sent(size_bytes: int) -> None:
            if record.first_byte_s is None:
                record.first_byte_s = self.clock() - self.started_s
            record.body_bytes += size_bytes
            uploaded(size_bytes)

        sink = ClientSink(self.request, response, stall_s=self.send_stall_s, limit=limit, sent=sent)
        try:
            yield sink
        finally:
            sink.close()
            record.held_s += sink.held_s
            record.way = max(sink.ways, key=sink.ways.__getitem__, default=None)
            self.metrics.sent(sink.ways)


def _result_of(error: OciError) -> Result:
    if error.status == 404:
        return Result.NOT_FOUND
    if isinstance(error, TooManyRequests | Overloaded):
        return Result.BUSY
    if error.status == 503:
        return Result.UNAVAILABLE
    return Result.REJECTED if error.status < 500 else Result.ERROR
