"""What this node's clients got: since the start, in the last quarter of an hour, and step by step for a day.

Counts each request of a client once, when it ends. Keeps fixed arrays, so that a busy day takes the memory of
a quiet one. Steps run on the monotonic clock: a clock of the day that jumps makes no hole. While this process
is stopped, nothing is served, and the steps that it missed are empty.
"""

import asyncio
import time
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from agent.observe.mirror_metrics import Outcome, outcome_of
from agent.observe.quantiles import Durations, joined
from agent.observe.requests import RequestPath, RequestRecord, Result
from topology.ledger import CostLedger
from topology.placement import Tier

STEP_S = 5.0
WINDOW_S = 900.0
MINUTE_S, DAY_S = 60.0, 86_400.0
_STEPS = int(WINDOW_S / STEP_S)
_MINUTES = int(WINDOW_S / MINUTE_S)
_STEPS_A_MINUTE = int(MINUTE_S / STEP_S)

_CONTENT_KINDS = frozenset({"manifest", "blob"})


class Sum(IntEnum):
    """The columns that are summed. The first five are bytes by tier, in the order of `Tier`."""

    NODE = 0
    RACK = 1
    ZONE = 2
    REGION = 3
    REMOTE = 4
    SAVED = 5
    CROSSING = 6
    USD = 7
    USD_SAVED = 8
    REQUESTS = 9
    SERVED = 10
    FAILED = 11


Sums = tuple[float, ...]
"""One value for each `Sum`."""


class Track:
    """Steps of one length, the oldest first. ``places``: how many are kept."""

    def __init__(self, step_s: float, places: int) -> None:
        self.step_s = step_s
        self._places = places
        self._columns = [array("d", bytes(8 * places)) for _ in Sum]
        self._p50, self._p95 = array("d", bytes(8 * places)), array("d", bytes(8 * places))
        self._next = 0
        self.points = 0
        self.added = 0

    def add(self, sums: Sums, p50_s: float | None, p95_s: float | None) -> None:
        """Another step ended."""
        place = self._next
        for column, value in zip(self._columns, sums, strict=True):
            column[place] = value
        self._p50[place] = -1.0 if p50_s is None else p50_s
        self._p95[place] = -1.0 if p95_s is None else p95_s
        self._next = (place + 1) % self._places
        self.points = min(self._places, self.points + 1)
        self.added += 1

    def column(self, which: Sum, last: int) -> list[float]:
        """The values of the last so many steps."""
        return self._last(self._columns[which], last)

    def quantiles(self, last: int) -> tuple[list[float | None], list[float | None]]:
        """p50 and p95 of the last so many steps, in seconds."""
        middle, high = self._last(self._p50, last), self._last(self._p95, last)
        return [None if s < 0 else s for s in middle], [None if s < 0 else s for s in high]

    def sums(self) -> Sums:
        """All steps together. Empty steps are zeros."""
        return tuple(sum(column) for column in self._columns)

    def _last(self, column: "array[float]", last: int) -> list[float]:
        count = min(last, self.points)
        start = (self._next - count) % self._places
        rows = column[start : start + count]
        return [*rows, *column[: count - len(rows)]]


@dataclass(slots=True)
class _Counts:
    """How often something came: since the start, and in each step of the window."""

    total: int = 0
    at_step: int = 0
    steps: "array[int]" = field(default_factory=lambda: array("I", bytes(4 * _STEPS)))

    @property
    def in_window(self) -> int:
        """In the steps of the window, and in the one that is not over."""
        return sum(self.steps) + self.total - self.at_step


class Tally:
    """Counts. `run` ends the steps. ``ledger``: what bytes between zones cost. O(1) for each request."""

    def __init__(self, ledger: CostLedger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._bytes = [0] * len(Tier)
        self._requests = self._served = self._failed = 0
        self._results: defaultdict[tuple[RequestPath, Result], _Counts] = defaultdict(_Counts)
        self._outcomes: defaultdict[tuple[RequestPath, Outcome], _Counts] = defaultdict(_Counts)
        self._step = Durations()
        self._minute = Durations()
        self._by_tier: deque[dict[Tier, Durations]] = deque([{}], maxlen=_MINUTES)
        self._lookups: deque[Durations] = deque([Durations()], maxlen=_MINUTES)
        self.began_s = self.ended_s = clock()  # ended_s: when the last step ended
        self._before = self.total()
        self._minute_sums = [0.0] * len(Sum)
        self.steps, self.minutes = Track(STEP_S, _STEPS), Track(MINUTE_S, int(DAY_S / MINUTE_S))

    def request(self, record: RequestRecord) -> None:
        """A request ended. Only clients' requests for content count."""
        if record.path is RequestPath.PEER or record.kind not in _CONTENT_KINDS:
            return
        for part in record.sources:
            self._bytes[part.tier] += part.size_bytes
        if record.body_bytes and not record.sources:
            self._bytes[Tier.REMOTE if record.tier is None else record.tier] += record.body_bytes
        self._results[record.path, record.result].total += 1
        outcome = outcome_of(record)
        if outcome is not None and outcome is not Outcome.LEFT:
            self._outcomes[record.path, outcome].total += 1
            self._requests += 1
            self._served += outcome is Outcome.SERVED
            self._failed += outcome is Outcome.FAILED
        if record.first_byte_s is not None and record.tier is not None and record.body_bytes:
            self._step.add(record.first_byte_s)
            by_tier = self._by_tier[-1]
            if record.tier not in by_tier:
                by_tier[record.tier] = Durations()
            by_tier[record.tier].add(record.first_byte_s)

    def lookup(self, seconds: float) -> None:
        """A look-up of a content's holders ended."""
        self._lookups[-1].add(seconds)

    def total(self) -> Sums:
        """Since the start."""
        ledger = self._ledger
        return (
            *map(float, self._bytes),
            float(ledger.savings.size_bytes),
            float(ledger.crossing_bytes),
            ledger.usd,
            ledger.savings.usd,
            float(self._requests),
            float(self._served),
            float(self._failed),
        )

    def window(self) -> Sums:
        """In the last `WINDOW_S`, and in the step that is not over."""
        now = self.total()
        return tuple(
            done + new - before
            for done, new, before in zip(self.steps.sums(), now, self._before, strict=True)
        )

    def window_s(self, now_s: float) -> float:
        """Over how long the window counts by now."""
        return min(WINDOW_S, max(0.0, now_s - self.began_s))

    def results(self) -> Iterator[tuple[RequestPath, Result, int, int]]:
        """How often each result came: in the window, and since the start. Those that ever came."""
        for (path, result), counts in sorted(
            self._results.items(), key=lambda item: (item[0][0].value, item[0][1].value)
        ):
            yield path, result, counts.in_window, counts.total

    def outcomes(self, path: RequestPath) -> dict[Outcome, int]:
        """How often each came on this listener in the window. What the settings leave alone is left out."""
        return {outcome: counts.in_window for (at, outcome), counts in self._outcomes.items() if at is path}

    def first_bytes(self) -> dict[Tier, Durations]:
        """From a client's request to its first byte, by the tier of the bytes' source, in the window."""
        tiers = sorted({tier for minute in self._by_tier for tier in minute})
        return {tier: joined(minute[tier] for minute in self._by_tier if tier in minute) for tier in tiers}

    def lookups(self) -> Durations:
        """How long look-ups took in the window."""
        return joined(self._lookups)

    def end_steps(self, now_s: float) -> int:
        """End the steps that are over. Returns how many. What was counted is in the last of them."""
        over = int((now_s - self.ended_s) / STEP_S)
        if over <= 0:
            return 0
        empty: Sums = (0.0,) * len(Sum)
        for _ in range(min(over - 1, int(DAY_S / STEP_S))):
            self._end_step(empty, Durations())
        now = self.total()
        self._end_step(tuple(a - b for a, b in zip(now, self._before, strict=True)), self._step)
        self._before = now
        self._step.clear()
        self.ended_s += over * STEP_S
        return over

    def _end_step(self, sums: Sums, durations: Durations) -> None:
        place = self.steps.added % _STEPS
        is_last = durations is self._step
        for counts in (*self._results.values(), *self._outcomes.values()):
            counts.steps[place] = counts.total - counts.at_step if is_last else 0
            counts.at_step = counts.total if is_last else counts.at_step
        self.steps.add(sums, *durations.quantiles(0.5, 0.95))
        self._minute_sums = [a + b for a, b in zip(self._minute_sums, sums, strict=True)]
        if durations.count:
            self._minute = joined((self._minute, durations))
        if self.steps.added % _STEPS_A_MINUTE == 0:
            self.minutes.add(tuple(self._minute_sums), *self._minute.quantiles(0.5, 0.95))
            self._minute_sums = [0.0] * len(Sum)
            self._minute.clear()
            self._by_tier.append({})
            self._lookups.append(Durations())

    async def run(self) -> None:
        """End the steps when they are over, until cancelled."""
        while True:
            await asyncio.sleep(max(0.05, self.ended_s + STEP_S - self._clock()))
            self.end_steps(self._clock())
