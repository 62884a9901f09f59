"""``/api/history``: columns of one length, with times of the clock as it is now."""

import pytest

from agent.admin.history import history_view
from agent.documents.history import HistoryDocument
from agent.documents.times import Moment, utc
from agent.observe.tally import STEP_S, Tally
from tests.unit.agent.observe.test_tally import Clock, local
from topology.ledger import CostLedger, Prices
from topology.placement import NodeName

OWN = NodeName("n")


def played(steps: int) -> tuple[Tally, Clock]:
    """A tally in which each step had one request."""
    clock = Clock()
    tally = Tally(CostLedger(Prices()), clock=clock)
    for number in range(steps):
        tally.request(local(number))
        clock.now_s += STEP_S
        tally.end_steps(clock.now_s)
    return tally, clock


def lengths(document: HistoryDocument) -> set[int]:
    columns = [value for name in document.__slots__ if isinstance(value := getattr(document, name), tuple)]
    return {len(column) for column in columns}


@pytest.mark.parametrize("steps", [0, 1, 179, 181])
def test_columns_have_one_length(steps: int) -> None:
    tally, clock = played(steps)
    document = history_view(OWN, tally, tally.steps, Moment(now_s=clock.now_s, unix_s=0.0))
    assert lengths(document) == {document.points} == {min(180, steps)}


def test_times_are_those_of_the_clock_as_it_is_now() -> None:
    tally, clock = played(10)
    document = history_view(OWN, tally, tally.steps, Moment(now_s=clock.now_s + 1, unix_s=5000.0))
    assert (document.started_at, document.ended_at) == (utc(5000 - 1 - 50), utc(5000 - 1))
    jumped = history_view(OWN, tally, tally.steps, Moment(now_s=clock.now_s + 1, unix_s=905_000.0))
    assert jumped.started_at == utc(905_000 - 51)
    assert (jumped.node_bytes, jumped.points) == (document.node_bytes, 10)


def test_minute_that_is_not_over_is_not_in_it() -> None:
    tally, clock = played(29)
    document = history_view(OWN, tally, tally.minutes, Moment(now_s=clock.now_s, unix_s=1000.0))
    assert (document.points, document.step_s) == (2, 60)
    assert document.ended_at == utc(1000.0 - 5 * STEP_S)
    assert document.node_bytes == (sum(range(12)), sum(range(12, 24)))


def test_last_steps_alone_can_be_told() -> None:
    tally, clock = played(5)
    document = history_view(OWN, tally, tally.steps, Moment(now_s=clock.now_s, unix_s=0.0), last=1)
    assert (document.points, document.node_bytes) == (1, (4,))
