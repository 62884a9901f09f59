"""When a late timer shows that this node did not run."""

import pytest

from agent.pull.lateness import HELD_UP_S, held_up, in_words


@pytest.mark.parametrize(
    ("late_s", "expected"), [(0.0, False), (HELD_UP_S, False), (HELD_UP_S + 0.01, True), (60.0, True)]
)
def test_only_a_timer_that_is_far_too_late_shows_that_this_node_did_not_run(
    late_s: float, expected: bool
) -> None:
    assert held_up(late_s) is expected


def test_time_without_running_is_named_as_this_nodes() -> None:
    assert in_words(2.04) == "this node was held up for 2.0 s"
