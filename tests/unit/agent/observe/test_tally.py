"""What this node's clients got, by steps of a clock that nobody sets, in arrays that do not grow."""

import asyncio
import sys
from array import array
from contextlib import suppress

import pytest

from agent.observe.mirror_metrics import Outcome
from agent.observe.requests import RequestPath, RequestRecord, Result, SourceBytes
from agent.observe.tally import STEP_S, Sum, Tally
from topology.ledger import CostLedger, Prices
from topology.placement import NodeName, Tier, Zone, ZoneKey

A, B = ZoneKey(region=None, zone=Zone("a")), ZoneKey(region=None, zone=Zone("b"))


class Clock:
    """The monotonic clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="ledger")
def _ledger() -> CostLedger:
    return CostLedger(Prices())


@pytest.fixture(name="tally")
def _tally(clock: Clock, ledger: CostLedger) -> Tally:
    return Tally(ledger, clock=clock)


def local(size_bytes: int = 10, **changes: object) -> RequestRecord:
    """A client was given so many bytes of this node's own content."""
    record = RequestRecord(
        path=RequestPath.HOSTPORT,
        method="GET",
        kind="blob",
        tier=Tier.NODE,
        body_bytes=size_bytes,
        first_byte_s=0.001,
    )
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def after(tally: Tally, clock: Clock, seconds: float) -> Tally:
    clock.now_s += seconds
    tally.end_steps(clock.now_s)
    return tally


def test_bytes_count_by_the_tier_of_each_source(tally: Tally) -> None:
    parts = (
        SourceBytes(NodeName("n"), Tier.ZONE, 30),
        SourceBytes(NodeName("m"), Tier.REGION, 12),
    )
    tally.request(local(42, tier=Tier.ZONE, sources=parts))
    tally.request(local(7))
    assert tally.total()[: len(Tier)] == (7, 0, 30, 12, 0)


@pytest.mark.parametrize("changes", [{"path": RequestPath.PEER}, {"kind": "ping"}, {"kind": "holders"}])
def test_what_is_no_clients_request_for_content_does_not_count(
    tally: Tally, changes: dict[str, object]
) -> None:
    tally.request(local(**changes))  # type: ignore[arg-type]
    assert not any(tally.total())
    assert not list(tally.results())


@pytest.mark.parametrize(
    ("result", "counted"),
    [
        (Result.OK, (1, 1, 0)),
        (Result.REDIRECTED, (1, 1, 0)),
        (Result.NOT_FOUND, (1, 0, 0)),
        (Result.CUT, (1, 0, 1)),
        (Result.UNAVAILABLE, (1, 0, 1)),
        (Result.ERROR, (1, 0, 1)),
        (Result.CLIENT_GONE, (0, 0, 0)),
        (Result.REJECTED, (0, 0, 0)),
    ],
)
def test_clients_that_leave_or_err_say_nothing_about_the_mirror(
    tally: Tally, result: Result, counted: tuple[int, int, int]
) -> None:
    tally.request(local(result=result))
    assert tally.total()[Sum.REQUESTS :] == counted


def test_outcomes_are_those_of_the_metric_and_what_nobody_has_is_nobodys_fault(tally: Tally) -> None:
    tally.request(local())
    tally.request(local(result=Result.NOT_FOUND))
    tally.request(local(result=Result.NOT_FOUND, fault=True))
    tally.request(local(result=Result.NOT_FOUND, left_to_registry=True))
    tally.request(local(result=Result.OK, path=RequestPath.NODEPORT))
    found = tally.outcomes(RequestPath.HOSTPORT)
    assert found == {Outcome.SERVED: 1, Outcome.MISSED: 1, Outcome.FAILED: 1}
    assert tally.total()[Sum.REQUESTS :] == (4, 2, 1)


def test_money_is_the_ledgers(tally: Tally, ledger: CostLedger) -> None:
    ledger.add(A, B, 10**9)
    ledger.add(A, A, 10**9)
    ledger.save(10**9)
    total = tally.total()
    assert (total[Sum.CROSSING], total[Sum.SAVED]) == (10**9, 10**9)
    assert total[Sum.USD] == pytest.approx(0.02)
    assert total[Sum.USD_SAVED] == pytest.approx(0.045)


def test_window_has_what_is_not_a_step_yet(tally: Tally, clock: Clock) -> None:
    tally.request(local(1))
    after(tally, clock, STEP_S)
    tally.request(local(2))
    assert tally.window()[Sum.NODE] == 3
    assert [*tally.results()] == [(RequestPath.HOSTPORT, Result.OK, 2, 2)]


def test_window_forgets_after_a_quarter_of_an_hour_and_the_total_does_not(tally: Tally, clock: Clock) -> None:
    tally.request(local(5))
    tally.lookup(0.001)
    for _ in range(192):
        after(tally, clock, STEP_S)
    assert (tally.window()[Sum.NODE], tally.total()[Sum.NODE]) == (0, 5)
    assert [*tally.results()] == [(RequestPath.HOSTPORT, Result.OK, 0, 1)]
    assert not tally.first_bytes()
    assert tally.lookups().count == 0
    assert tally.window_s(clock.now_s) == 900


def test_step_has_what_was_added_in_it(tally: Tally, clock: Clock) -> None:
    for size_bytes in (1, 2, 0, 4):
        if size_bytes:
            tally.request(local(size_bytes))
        after(tally, clock, STEP_S)
    assert tally.steps.column(Sum.NODE, 10) == [1, 2, 0, 4]
    middle_s, _ = tally.steps.quantiles(10)
    assert [s is None for s in middle_s] == [False, False, True, False]


def test_minute_has_its_twelve_steps(tally: Tally, clock: Clock) -> None:
    for _ in range(30):
        tally.request(local(1))
        after(tally, clock, STEP_S)
    assert tally.minutes.column(Sum.NODE, 10) == [12, 12]
    assert tally.minutes.points == 2


def test_steps_that_a_stopped_process_missed_are_empty_and_none_is_left_out(
    tally: Tally, clock: Clock
) -> None:
    tally.request(local(1))
    after(tally, clock, STEP_S)
    tally.request(local(2))
    after(tally, clock, 10 * STEP_S)
    assert tally.steps.column(Sum.NODE, 20) == [1, *[0] * 9, 2]
    assert tally.ended_s == clock.now_s
    assert tally.window()[Sum.NODE] == 3
    assert [*tally.results()] == [(RequestPath.HOSTPORT, Result.OK, 2, 2)]


def test_step_that_ends_late_moves_no_later_one(tally: Tally, clock: Clock) -> None:
    after(tally, clock, STEP_S + 1.9)
    assert after(tally, clock, STEP_S - 1.9).steps.points == 2
    assert after(tally, clock, 0.0).steps.points == 2


def test_a_month_of_sleep_takes_no_more_than_a_day_of_steps(tally: Tally, clock: Clock) -> None:
    after(tally, clock, 30 * 86_400.0)
    assert (tally.steps.points, tally.minutes.points) == (180, 1440)


def test_memory_is_the_same_after_busy_days(tally: Tally, clock: Clock) -> None:
    for result in Result:
        for path in RequestPath:
            tally.request(local(result=result, path=path))
    for tier in Tier:
        tally.request(local(tier=tier))
    for number in range(18_000):  # a day and an hour
        tally.request(local(first_byte_s=number / 1000))
        after(tally, clock, STEP_S)
    arrays = [each for track in (tally.steps, tally.minutes) for each in _arrays(track)]
    assert sum(map(sys.getsizeof, arrays)) < 250_000
    assert (tally.steps.points, tally.minutes.points) == (180, 1440)
    assert tally.steps.column(Sum.REQUESTS, 1) == [1]


def _arrays(thing: object) -> "list[array[float]]":
    found: list[array[float]] = []
    for value in vars(thing).values():
        found += [value] if isinstance(value, array) else value if isinstance(value, list) else []
    return found


async def test_steps_end_by_themselves(ledger: CostLedger) -> None:
    clock = Clock()
    tally = Tally(ledger, clock=clock)
    clock.now_s += STEP_S
    running = asyncio.create_task(tally.run())
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if tally.steps.points:
            break
    assert tally.steps.points == 1
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
