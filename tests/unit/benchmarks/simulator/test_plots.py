"""The pictures of simulated runs."""

from pathlib import Path

from benchmarks.simulator.plots import draw, words
from tests.unit.benchmarks.simulator.runs import made_up

_RUNS = [
    made_up(),
    made_up(scope="cluster", crossed_copies=1.1),
    made_up(policy="dht-3", scope="none", crossed_copies=500.0, fetches_per_scope=900.0, usd=20.0),
    made_up(workload="hot", fetches_per_scope=float("nan")),
]


def test_each_workload_has_a_small_picture_and_words_for_who_does_not_see_it(tmp_path: Path) -> None:
    pictures = [*draw(_RUNS, tmp_path)]
    assert [each.path.name for each in pictures] == ["simulator-everyone.png", "simulator-hot.png"]
    for each in pictures:
        assert each.path.read_bytes().startswith(b"\x89PNG")
        assert each.path.stat().st_size < 150_000
    assert "dht-3: median 8 s, 99th percentile 9 s, 900 registry fetches" in pictures[0].words


def test_the_same_figures_make_the_same_file(tmp_path: Path) -> None:
    files = [next(iter(draw(_RUNS[:3], tmp_path / each))).path.read_bytes() for each in ("one", "two")]
    assert files[0] == files[1]


def test_words_name_the_size_of_the_cluster() -> None:
    assert words(_RUNS[:1]).startswith("Simulated, everyone: 5,000 nodes in 10 zones pull 1,000 MB.")
