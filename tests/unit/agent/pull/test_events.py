"""Which failures are the peer's fault, so that it is avoided."""

import pytest

from agent.pull.events import Failure

INNOCENT = {
    Failure.LAGGING: "it is slower than others, which is no failure",
    Failure.EXHAUSTED: "it is this node that has no descriptor left",
    Failure.CUT_OFF: "it is this node that has no network",
    Failure.OTHER_SIZE: "the manifest may be wrong, or an earlier peer",
    Failure.MISSING: "the index was out of date",
    Failure.WITHHELD: "it has it, for other names",
    Failure.BUSY: "it said so",
    Failure.SHARED: "it said who has it",
    Failure.STARVED: "whoever it takes the content from may be slow or gone",
    Failure.UNSATISFIABLE: "the range may really select nothing",
}


@pytest.mark.parametrize("failure", Failure)
def test_peer_is_at_fault_unless_there_is_a_reason_why_not(failure: Failure) -> None:
    assert failure.is_peers_fault is (failure not in INNOCENT)


def test_each_failure_has_a_label_of_its_own() -> None:
    assert len({failure.value for failure in Failure}) == len(Failure)


@pytest.mark.parametrize("failure", Failure)
def test_failure_says_at_most_one_of_own_fault_silence_and_answer(failure: Failure) -> None:
    assert failure.is_own + failure.is_silence + failure.is_answer <= 1
    assert not (failure.is_own and failure.is_peers_fault)
    assert failure.is_silence is (failure in (Failure.UNREACHABLE, Failure.SILENT))
