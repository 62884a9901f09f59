"""The simulator beside real nodes: runs each trial in both, and states the error of each figure."""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from agent.config import ColdStartSettings
from benchmarks.reporting.recorder import Recorder
from benchmarks.simulator.comparison import FINISHES, Compared, compare
from benchmarks.simulator.machine import machine_facts
from benchmarks.simulator.reading import trial_of
from benchmarks.simulator.run import run
from benchmarks.simulator.scenario import Fault, FaultKind, Image, Links, Scenario, Start, ZonePlan
from benchmarks.simulator.table import number
from benchmarks.simulator.trials import MIB, TRIALS, Observed, Trial, read_record, write_record

RECORD = Path(__file__).with_name("recorded.json")
"""What real runs came to, with the machine that they ran on."""

SEEDS = range(1, 6)
"""Simulated so often: who asks first decides who fetches, as it does among real nodes."""

_PAYLOAD = 1448 / 1514  # of a frame's bytes, those that are content
_MBIT = 1e6 / 8
_AT_ONCE_S = 0.05  # so far apart the pulls of one machine begin


def scenario_of(trial: Trial, seed: int) -> Scenario:
    """The trial as the simulator knows it: the links' rates are without headers."""
    slow = [*trial.slow_mbit_s.items()]
    return Scenario(
        zones=tuple(ZonePlan(name=zone, nodes=count) for zone, count in trial.zones.items()),
        images=(Image(name=trial.name, layer_sizes=tuple(mib * MIB for mib in trial.layers_mib)),),
        starts=(Start(nodes=range(len(trial.nodes)), spread_s=_AT_ONCE_S),),
        faults=tuple(
            Fault(
                at_s=0.0,
                kind=FaultKind.SLOW,
                nodes=([*trial.nodes].index(name),),
                factor=mbit_s / trial.node_mbit_s,
            )
            for name, mbit_s in slow
        ),
        links=Links(
            nic_bytes_per_s=trial.node_mbit_s * _MBIT * _PAYLOAD,
            registry_bytes_per_s=trial.registry_mbit_s * _MBIT * _PAYLOAD,
            registry_stream_bytes_per_s=trial.registry_mbit_s * _MBIT,
            registry_first_byte_s=0.01,
        ),
        cold_start=ColdStartSettings(scope="cluster" if trial.cluster else "zone"),
        seed=seed,
    )


def simulated(trial: Trial) -> Sequence[Observed]:
    """What the simulator says of a trial, once for each seed."""
    return [trial_of(run(scenario_of(trial, seed)), [*trial.nodes]) for seed in SEEDS]


def validate(arguments: argparse.Namespace, report: Recorder) -> None:
    """Run the trials for real, or read the record; simulate them; print and record the errors."""
    real = read_record(RECORD) if arguments.recorded else _observe(arguments.rounds, report)
    if arguments.record and not arguments.recorded:
        write_record(arguments.record, real, machine_facts())
    compared: list[Compared] = []
    for done, trial in enumerate(TRIALS):
        report.step(f"simulating {trial.name}", done / len(TRIALS))
        compared += compare(trial, real[trial.name], simulated(trial))
    for table in _tables(compared):
        report.console.print(table)
    for each in compared:
        report.begin(f"validation: {each.trial}", question="How far is the simulation from real nodes?")
        what, _, unit = each.figure.rpartition(", ")
        report.value(what or each.figure, unit if what else "", each.real, way="real", baseline="real")
        report.value(
            what or each.figure, unit if what else "", each.simulated, way="simulated", baseline="real"
        )
    for line in errors(compared):
        report.verdict(line)


def errors(compared: Sequence[Compared]) -> Sequence[str]:
    """A line for each figure: the mean of the errors' sizes, and the largest."""
    lines = []
    for figure in dict.fromkeys(each.figure for each in compared):
        sizes = [abs(each.error) for each in compared if each.figure == figure]
        lines.append(
            f"{figure}: the simulation is off by {100 * statistics.fmean(sizes):.1f} % on average, "
            f"{100 * max(sizes):.1f} % at most"
        )
    return lines


def _observe(rounds: int, report: Recorder) -> Mapping[str, Sequence[Observed]]:
    from benchmarks.simulator.lab import observe  # only what needs root and daemons

    def tell(line: str) -> None:
        report.step(line)
        report.console.print(line, highlight=False, soft_wrap=True)

    return {trial.name: observe(trial, rounds=rounds, tell=tell) for trial in TRIALS}


def _tables(compared: Sequence[Compared]) -> Sequence[Table]:
    tables = []
    for trial in dict.fromkeys(each.trial for each in compared):
        table = Table(title=f"{trial}: real nodes, and simulated", title_justify="left")
        for head in ("figure", "real", "least … most", "simulated", "error"):
            table.add_column(head, justify="left" if head == "figure" else "right")
        for each in compared:
            if each.trial == trial:
                alone = each.figure == FINISHES
                table.add_row(
                    each.figure,
                    "" if alone else number(each.real),
                    f"rounds differ by {number(each.real_most)}"
                    if alone
                    else f"{number(each.real_least)} … {number(each.real_most)}",
                    number(each.simulated),
                    f"{100 * each.error:+.1f} %",
                )
        tables.append(table)
    return tables
