"""The record of real runs."""

from pathlib import Path

from benchmarks.simulator.trials import TRIALS, Observed, read_record, write_record


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    rounds = {"one zone": [Observed(seconds={"a1": 8.5}, registry_bytes=7, crossed_bytes=0, fetches=1)]}
    write_record(tmp_path / "record.json", rounds, {"processors": 2})
    assert read_record(tmp_path / "record.json") == rounds


def test_nodes_are_named_for_their_zones() -> None:
    assert dict(TRIALS[1].nodes) == {f"{zone}{number}": zone for zone in "ab" for number in range(1, 5)}
