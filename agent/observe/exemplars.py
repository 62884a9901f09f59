"""Exemplars: which request stands for a bucket of a histogram, so that a slow bucket leads to its steps.

A request that an exemplar names is remembered as long as the exemplar is exposed: ``/api/requests?id=`` finds
it, however many requests came since. Both are bounded.
"""

from bisect import bisect_left
from collections.abc import Sequence
from contextvars import ContextVar
from math import inf

from prometheus_client import Histogram

from agent.observe.requests import RequestRecord

LABEL = "request_id"

KEPT_MAX = 256
"""So many requests are remembered for exemplars, at about 2 kB each. Agents rarely need a quarter of it."""

EVERY_S = 1.0
"""So often at most a bucket gets another exemplar. It costs more than a count, and scrapes are rarer."""

CURRENT: ContextVar[RequestRecord | None] = ContextVar("CURRENT", default=None)
"""The request that the present task answers, for what is counted far from where requests are known."""


class Exemplars:
    """The requests that exemplars name."""

    def __init__(self) -> None:
        self._records: dict[object, RequestRecord] = {}

    def keep(self, bucket: object, record: RequestRecord) -> bool:
        """Remember the request for this bucket, in place of the one before. False: there is no room."""
        if len(self._records) >= KEPT_MAX and bucket not in self._records:
            return False
        self._records[bucket] = record
        return True

    def find(self, request_id: str) -> RequestRecord | None:
        """The request with this id, if an exemplar names it."""
        return next((record for record in self._records.values() if record.id == request_id), None)


class LinkedHistogram:
    """A histogram whose buckets name a request each. ``bounds``: the upper bounds of its buckets."""

    def __init__(self, histogram: Histogram, bounds: Sequence[float], exemplars: Exemplars) -> None:
        self._histogram = histogram
        self._bounds = tuple(bounds)
        self._exemplars = exemplars
        self._children: dict[tuple[str, ...], tuple[Histogram, list[float]]] = {}

    def observe(self, amount: float, record: RequestRecord | None, *labels: str) -> None:
        """Count this. ``record``: the request that it is about, if it is known."""
        child, linked_s = self._children.get(labels) or self._child(labels)
        if record is not None:
            bucket, now_s = bisect_left(self._bounds, amount), record.steps.began_s
            if now_s - linked_s[bucket] >= EVERY_S:
                linked_s[bucket] = now_s
                if self._exemplars.keep((self, labels, bucket), record):
                    child.observe(amount, {LABEL: record.id})
                    return
        child.observe(amount)

    def _child(self, labels: tuple[str, ...]) -> tuple[Histogram, list[float]]:
        child = self._histogram.labels(*labels) if labels else self._histogram
        made = self._children[labels] = child, [-inf] * (len(self._bounds) + 1)
        return made
