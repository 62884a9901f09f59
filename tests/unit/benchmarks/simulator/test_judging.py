"""What is promised of large clusters."""

from typing import Any

import pytest

from benchmarks.simulator.judging import judge
from tests.unit.benchmarks.simulator.runs import made_up


@pytest.mark.parametrize(
    ("run", "broken"),
    [
        ({"p99_s": 13.0}, "the slowest 1 % take at most 1.5 × the median"),
        ({"p99_s": float("nan")}, "the slowest 1 % take at most 1.5 × the median"),
        ({"fetches_per_scope": 1.02}, "the registry is asked once for each blob and scope"),
        ({"scope": "cluster", "crossed_copies": 1.3}, "what crosses zones is near the least that must"),
        ({"crossed_copies": 0.002}, "no layer crosses zones (manifests and configs may)"),
        (
            {"workload": "small-zone", "small_zone": 1.4},
            "the small far zone is about as fast as the big near one",
        ),
        ({"workload": "churn", "dead_dials": 11}, "dials to dead peers"),
        ({"workload": "slow", "failed": 1}, "no pull fails"),
    ],
)
def test_a_run_beyond_a_bound_breaks_that_promise_only(run: dict[str, Any], broken: str) -> None:
    assert [each.promise.what for each in judge([made_up(**run)]) if not each.kept] == [broken]


def test_a_run_within_all_bounds_breaks_none() -> None:
    runs = [made_up(), made_up(scope="cluster", crossed_copies=1.2), made_up(workload="churn", dead_dials=10)]
    assert all(each.kept for each in judge(runs))


def test_the_promises_are_about_the_product_alone() -> None:
    assert [*judge([made_up(policy="dht-3", p99_s=100.0)])] == []
