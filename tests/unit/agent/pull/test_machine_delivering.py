"""The pull machine while one holder gives the body: too slow, or fast enough."""

import pytest

from agent.pull.events import (
    Abandon,
    Broke,
    Cut,
    Failure,
    Fetch,
    GiveUp,
    Lookup,
    Progressed,
    Relieve,
    WakeAt,
)
from tests.unit.agent.pull.playbook import (
    FLOORED,
    A,
    B,
    delivering,
    failed,
    found,
    play,
    progressed,
    ranked,
    shunned,
)
from topology.ranking import Condition


def test_source_below_the_floor_is_given_up_even_if_nobody_else_has_it() -> None:
    pull = delivering(A, limits=FLOORED)
    assert pull.on(progressed(65535.0), 4.0) == (GiveUp(failure=Failure.SLOW),)
    assert pull.on(Broke(failure=Failure.SLOW, offset=5), 4.0) == (Abandon(attempt=1), *shunned(A), Cut())


@pytest.mark.parametrize(
    "progress",
    [
        progressed(65536.0),
        progressed(1.0, over_s=2.9),
        progressed(1.0, source_bound=False),
        progressed(1e6, usual=9e6),
    ],
    ids=["at the floor", "not long enough", "the reader is the slower one", "above a tenth of the usual"],
)
def test_source_that_is_fast_enough_goes_on(progress: Progressed) -> None:
    assert delivering(A, B, limits=FLOORED).on(progress, 4.0) == ()


def test_source_far_below_the_usual_makes_way_for_another_is_not_blamed_and_may_come_back() -> None:
    pull = delivering(A, B, limits=FLOORED)
    assert pull.on(progressed(1e6, usual=11e6), 4.0) == (GiveUp(failure=Failure.LAGGING),)
    abandon, finding, *rest = pull.on(Broke(failure=Failure.LAGGING, offset=5), 4.0)
    assert abandon == Abandon(attempt=1)
    assert isinstance(finding, Relieve), "others come first for a while"
    assert rest == [Fetch(attempt=2, holder=B, offset=5), WakeAt(at_s=4.5)]
    assert Fetch(attempt=3, holder=A, offset=5) in pull.on(failed(2, Failure.MISSING), 4.25)


def test_source_far_below_the_usual_goes_on_while_everyone_is_asked_who_else_has_it() -> None:
    pull = delivering(A, limits=FLOORED, exhaustive=False)
    play(
        pull,
        (progressed(1e6, usual=11e6), 4.0, (Lookup(everyone=True),)),
        (progressed(1e6, usual=11e6), 4.25, ()),
        (found(A, B, exhaustive=True), 4.5, ()),
        (progressed(1e6, usual=11e6), 4.75, (GiveUp(failure=Failure.LAGGING),)),
    )


def test_source_far_below_the_usual_goes_on_where_nobody_else_is_well() -> None:
    cooling, full = ranked("b", condition=Condition(cooling=True)), ranked("c", condition=Condition(0, True))
    pull = delivering(A, cooling, full, limits=FLOORED)
    assert pull.on(progressed(1e6, usual=11e6), 4.0) == ()
