"""Begins the record of a request, and passes the finished record on.

It goes to the metrics, the costs and the API's list of recent requests. It goes to the log once the
connection has its verdict.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from agent.listen.caller import Caller, CallerKind, Callers
from agent.listen.exchange import Exchange
from agent.listen.http import connection_caller
from agent.listen.judged import JudgedRequests
from agent.listen.traffic import Traffic
from agent.observe.exemplars import CURRENT
from agent.observe.metrics import Metrics
from agent.observe.pulls import ImagePulls
from agent.observe.requests import RecentRequests, RequestRecord, new_id
from agent.observe.steps import Steps
from agent.observe.tally import Tally
from agent.oci.digest import Digest
from agent.oci.reference import Addressed, Named
from agent.peering.redirects import without_proof

_log = logging.getLogger("shorthaul.request")

_GIVEN = (200, 206, 304)
_TARGET_MAX = 300  # characters of a path that goes into logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorder:
    """Begins and finishes the exchanges of all listeners. ``send_stall_s``: see `ClientSink`.

    ``asked``: is told which digest another agent asked for, and whether it was given.
    """

    callers: Callers
    metrics: Metrics
    traffic: Traffic
    recent: RecentRequests
    pulls: ImagePulls
    tally: Tally
    judged: JudgedRequests
    send_stall_s: float
    asked: Callable[[Digest, bool], None] = lambda _digest, _given: None
    clock: Callable[[], float] = time.perf_counter
    calendar: Callable[[], float] = time.time

    def caller_of(self, request: web.BaseRequest) -> Caller:
        """Who sent a request that came in."""
        connection = connection_caller(request)
        return self.callers.of(connection, request.method, request.raw_path, request.headers)

    def begin(self, request: web.BaseRequest, caller: Caller) -> Exchange:
        """Make the exchange of a request that may come in."""
        started_s = self.clock()
        record = RequestRecord(
            id=new_id(),
            unix_s=self.calendar(),
            path=caller.listener,
            method=request.method,
            target=without_proof(request.raw_path)[:_TARGET_MAX],
            steps=Steps(self.clock, started_s),
        )
        self.recent.begun(record)
        CURRENT.set(record)
        return Exchange(
            request=request,
            caller=caller,
            record=record,
            started_s=started_s,
            send_stall_s=self.send_stall_s,
            metrics=self.metrics,
            clock=self.clock,
        )

    def asks(self, exchange: Exchange, target: Named | Addressed) -> None:
        """A request asks for content by name. Another agent's is a part of a pull there, not here."""
        caller = exchange.caller
        if caller.kind is not CallerKind.AGENT:
            self.pulls.asked(exchange.record, target, caller.node or caller.address)

    def finish(self, exchange: Exchange) -> None:
        """Pass the record on: the request was answered, or its client left."""
        record = exchange.record
        record.seconds = self.clock() - exchange.started_s
        record.steps.close()
        CURRENT.set(None)
        self.recent.ended(record)
        self.pulls.ended(record)
        self.metrics.request(record)
        self.tally.request(record)
        if record.kind in ("holders", "latency"):
            return  # a peer's standing connection, not a pull
        if record.digest is not None and exchange.caller.kind is CallerKind.AGENT:
            self.asked(Digest(record.digest), record.status in _GIVEN)
        self.traffic.record_costs(record, exchange.caller)
        self.recent.add(record)
        self.judged.judge(record, exchange.caller, self._judged)

    def _judged(self, record: RequestRecord) -> None:
        self.pulls.judged(record)
        _log_request(record)


def _log_request(record: RequestRecord) -> None:
    if _log.isEnabledFor(logging.INFO):
        _log.info("request", extra={"fields": record.as_dict()})
