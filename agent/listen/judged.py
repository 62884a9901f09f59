"""Which verdict the connection of a request has: the flow that the probe reports with the same cookie."""

import time
from collections.abc import Callable

from agent.flows.book import FlowBook
from agent.flows.verdicts import Verdict
from agent.listen.caller import Caller
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestRecord


class JudgedRequests:
    """Adds verdicts to the records of local clients. ``done`` follows, mostly at once."""

    def __init__(self, book: FlowBook, metrics: Metrics) -> None:
        self._book = book
        self._metrics = metrics

    def judge(self, record: RequestRecord, caller: Caller, done: Callable[[RequestRecord], None]) -> None:
        """Find the verdict. A connection that was just made may wait a moment for it."""
        if not caller.is_judged or not caller.cookie:
            done(record)
            return

        def then(verdict: Verdict | None) -> None:
            if verdict is None and caller.is_local:
                verdict = Verdict.UNKNOWN  # the client is on this node: its flow should be known
            if verdict is not None:  # else a client of another node, whose own probe knows it
                record.verdict = verdict.value
                self._metrics.local_request(record.path.value, verdict.value)
            done(record)

        self._book.when_judged(caller.cookie, then, time.monotonic())
