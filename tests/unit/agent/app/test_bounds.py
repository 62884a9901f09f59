"""The bounds of each listener, by how many files the agent may open."""

import pytest

from agent.app.bounds import connections_of

LISTENERS = ("hostport", "peer", "nodeport", "admin", "health")


@pytest.mark.parametrize("files_max", [64, 1024, 20_000, 1 << 20])
def test_all_listeners_together_leave_a_quarter_of_the_files(files_max: int) -> None:
    assert sum(connections_of(name, 1 << 20, files_max) for name in LISTENERS) <= 0.75 * files_max


def test_the_setting_is_the_most_of_each_listener_of_the_pull_api() -> None:
    assert [connections_of(name, 100, 1 << 20) for name in LISTENERS] == [100, 100, 100, 128, 128]


def test_a_process_without_a_limit_has_the_setting_alone() -> None:
    assert connections_of("peer", 2048, -1) == 2048


def test_every_listener_takes_a_connection_however_low_the_limit_is() -> None:
    assert [connections_of(name, 2048, 8) for name in LISTENERS] == [2, 2, 1, 1, 1]
