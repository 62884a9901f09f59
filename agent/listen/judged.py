"""Which verdict a request's connection has: from the flows that the probe told of, by the socket's cookie."""

import time
from collections.abc import Callable

from aiohttp import web

from agent.flows.book import FlowBook
from agent.flows.verdicts import Verdict
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord
from agent.probe.sockets import socket_cookie


class JudgedRequests:
    """Completes the records of this node's clients; ``done`` is called once that is so, mostly at once."""

    def __init__(self, book: FlowBook, metrics: Metrics) -> None:
        self._book = book
        self._metrics = metrics

    def judge(
        self, record: RequestRecord, request: web.BaseRequest, done: Callable[[RequestRecord], None]
    ) -> None:
        """Find the verdict; a connection that was just made may wait a moment for it."""
        cookie = _cookie(request)
        if record.path is RequestPath.PEER or cookie is None:
            done(record)
            return

        def then(verdict: Verdict | None) -> None:
            if verdict is None and record.path is RequestPath.HOSTPORT:
                verdict = Verdict.UNKNOWN  # the client is on this node: its flow should be known
            if verdict is not None:  # else a client of another node, whose own probe knows it
                record.verdict = verdict.value
                self._metrics.local_request(record.path.value, verdict.value)
            done(record)

        self._book.ask(cookie, then, time.monotonic())


def _cookie(request: web.BaseRequest) -> int | None:
    """A system call of some 0.3 µs; None once the connection is gone."""
    transport = request.transport
    sock = None if transport is None else transport.get_extra_info("socket")
    try:
        return None if sock is None else socket_cookie(sock)
    except OSError:
        return None
