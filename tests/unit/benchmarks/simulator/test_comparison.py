"""The simulator's error."""

import pytest

from benchmarks.simulator.comparison import FIGURES, FINISHES, compare
from benchmarks.simulator.trials import MIB, TRIALS, Observed, Trial

_TRIAL = Trial(
    name="two zones",
    zones={"a": 2, "b": 1},
    cluster=True,
    node_mbit_s=100,
    registry_mbit_s=100,
    layers_mib=(10,),
)


def _observed(*seconds: float, registry: float = 1.0, crossed: float = 1.0) -> Observed:
    return Observed(
        seconds=dict(zip(_TRIAL.nodes, seconds, strict=True)),
        registry_bytes=int(registry * 10 * MIB),
        crossed_bytes=int(crossed * 10 * MIB),
        fetches=1,
    )


def test_errors_are_shares_of_what_was_real() -> None:
    real = [_observed(8, 9, 10), _observed(8, 9, 12), _observed(8, 9, 20)]
    found = {each.figure: each for each in compare(_TRIAL, real, [_observed(8, 9, 15, crossed=1.5)])}
    total = found["until the last node has it, s"]
    assert (total.real, total.real_least, total.real_most) == (12, 10, 20)
    assert total.error == pytest.approx(0.25)
    assert found["across zones, copies"].error == pytest.approx(0.5)
    assert found["from the registry, copies"].error == 0


def test_who_ends_when_is_compared_in_order_and_not_by_name() -> None:
    found = {each.figure: each for each in compare(_TRIAL, [_observed(8, 9, 10)], [_observed(10, 8, 9)])}
    assert found[FINISHES].error == 0


def test_headers_alone_are_no_error_worth_speaking_of() -> None:
    real, simulated = _observed(8, 9, 10, crossed=0.001), _observed(8, 9, 10, crossed=0.0)
    found = {each.figure: each for each in compare(_TRIAL, [real], [simulated])}
    assert abs(found["across zones, copies"].error) < 0.03


def test_each_trial_is_of_6_to_12_nodes() -> None:
    assert all(6 <= len(trial.nodes) <= 12 for trial in TRIALS)
    assert len({trial.name for trial in TRIALS}) == len(TRIALS)
    assert len(FIGURES) + 1 == len(compare(TRIALS[0], [_any(TRIALS[0])], [_any(TRIALS[0])]))


def _any(trial: Trial) -> Observed:
    return Observed(seconds=dict.fromkeys(trial.nodes, 1.0), registry_bytes=1, crossed_bytes=0, fetches=1)
