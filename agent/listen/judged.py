"""Which verdict a request's connection has: from the flows that the probe told of, by the socket's cookie."""

import time
from collections.abc import Callable

from aiohttp import web

from agent.flows.book import FlowBook
from agent.flows.verdicts import Verdict
from agent.listen.http import connection_cookie
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord


class JudgedRequests:
    """Completes the records of this node's clients; ``done`` is called once that is so, mostly at once."""

    def __init__(self, book: FlowBook, metrics: Metrics) -> None:
        self._book = book
        self._metrics = metrics

    def judge(
        self, record: RequestRecord, request: web.BaseRequest, done: Callable[[RequestRecord], None]
    ) -> None:
        """Find the verdict; a connection that was just made may wait a moment for it."""
        cookie = connection_cookie(request)
        if record.path is RequestPath.PEER or not cookie:
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
