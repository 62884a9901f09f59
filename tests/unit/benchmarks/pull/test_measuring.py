"""What is said when a measurement goes wrong."""

from dataclasses import fields

from benchmarks.coldstart.fetches import Fetches
from benchmarks.coldstart.fleet import Outcome
from benchmarks.pull.measuring import problems


def _outcome(*failures: str) -> Outcome:
    values = {field.name: 0 for field in fields(Outcome)}
    return Outcome(
        **{
            **values,
            "seconds": {"a1": 1.0, "b1": 2.0},
            "failures": failures,
            "fetches": Fetches(manifests={}, blobs={}),
        }  # type: ignore[arg-type]
    )


def test_nothing_is_said_of_pulls_that_are_whole() -> None:
    assert not [*problems("x", _outcome(), ())]


def test_failed_pulls_are_counted_and_their_reason_is_said() -> None:
    (words,) = problems("nginx, 10 MB", _outcome("c1: PullImage: no space left on device"), ())
    assert words.startswith("nginx, 10 MB: 1 of 3 pulls failed, so this round is left out: ")
    assert words.endswith("no space left on device")


def test_agent_that_ended_is_named_even_if_every_pull_was_whole() -> None:
    (words,) = problems("x", _outcome(), ("the agent of a1",))
    assert "the agent of a1 ended meanwhile" in words
