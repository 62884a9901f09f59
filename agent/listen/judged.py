"""Finds the verdict on a request's connection: that of the flow that the probe reports with its cookie."""

import time
from collections.abc import Callable

from agent.flows.book import FlowBook
from agent.flows.verdicts import Verdict
from agent.listen.caller import Caller
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestRecord


class JudgedRequests:
    """Adds verdicts to the records of requests."""

    def __init__(self, book: FlowBook, metrics: Metrics) -> None:
        self._book = book
        self._metrics = metrics

    def judge(self, record: RequestRecord, caller: Caller, done: Callable[[RequestRecord], None]) -> None:
        """Add the verdict to the record, then call ``done``. For a new connection this may take a moment."""
        if not caller.is_judged or not caller.cookie:
            done(record)
            return

        def then(verdict: Verdict | None) -> None:
            if verdict is None and caller.is_local:
                verdict = Verdict.UNKNOWN  # the client is on this node, so its flow should be known
            if verdict is not None:  # otherwise the client is on another node, and that node's probe knows it
                record.verdict = verdict.value
                self._metrics.local_request(record.path.value, verdict.value)
            done(record)

        self._book.when_judged(caller.cookie, then, time.monotonic())
