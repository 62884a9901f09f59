"""The simulator beside the recorded runs of real nodes."""

import pytest

from benchmarks.simulator.comparison import compare
from benchmarks.simulator.reading import trial_of
from benchmarks.simulator.run import run
from benchmarks.simulator.trials import TRIALS, Trial, read_record
from benchmarks.simulator.validation import RECORD, SEEDS, errors, scenario_of


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_simulated_bytes_and_fetches_are_those_of_real_nodes_and_times_are_near(trial: Trial) -> None:
    real = read_record(RECORD)[trial.name]
    simulated = trial_of(run(scenario_of(trial, SEEDS[0])), [*trial.nodes])
    found = {each.figure: each for each in compare(trial, real, [simulated])}
    assert found["fetches of a layer"].error == 0
    assert abs(found["from the registry, copies"].error) < 0.01
    assert abs(found["across zones, copies"].error) < 0.05
    # Who asks first decides: a slow node that fetches makes its zone slow; a root has three children or four.
    if not trial.slow_mbit_s:
        assert -0.4 < found["until the last node has it, s"].error < (0.3 if trial.cluster else 0.1)


def test_errors_are_stated_for_each_figure() -> None:
    trial = TRIALS[0]
    real = read_record(RECORD)[trial.name]
    lines = errors(compare(trial, real, real))
    assert len(lines) == 6
    assert all("off by 0.0 % on average" in line for line in lines[:5])
