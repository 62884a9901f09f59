"""What a failure says about a peer."""

import pytest

from agent.pull.events import Avoid, Failure, Forget, Relieve, Shun
from agent.pull.findings import finding
from tests.unit.twins import node

A = node("a")
BAD = (Avoid(node=A), Shun(node=A))


@pytest.mark.parametrize(
    ("failure", "commands"),
    [
        (Failure.MISSING, (Forget(node=A),)),
        (Failure.BUSY, (Relieve(node=A, wait_s=2.5),)),
        (Failure.LAGGING, (Relieve(node=A, wait_s=5.0),)),
        (Failure.EXHAUSTED, ()),
        (Failure.OTHER_SIZE, ()),
        (Failure.UNSATISFIABLE, ()),
        (Failure.UNREACHABLE, BAD),
        (Failure.SILENT, BAD),
        (Failure.SLOW, BAD),
        (Failure.BROKEN, BAD),
        (Failure.INVALID, BAD),
        (Failure.ERROR, BAD),
    ],
)
def test_peer_is_blamed_for_its_own_failures_only(failure: Failure, commands: tuple[object, ...]) -> None:
    assert finding(A, failure, 2.5) == commands


def test_peer_that_may_still_give_the_content_is_avoided_and_not_shunned() -> None:
    assert finding(A, Failure.BROKEN, shun=False) == (Avoid(node=A),)
