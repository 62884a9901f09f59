"""The server's clock, as a node knows it."""

import pytest

from agent.holders.valkey.layout import EPOCH_S
from agent.holders.valkey.serverclock import ServerClock


def test_the_time_goes_on_between_two_answers() -> None:
    clock = ServerClock()
    clock.heard(1000.0, 5.0)
    assert clock.time_s(8.0) == 1003.0


def test_the_last_answer_counts_also_if_the_server_was_set_back() -> None:
    clock = ServerClock()
    clock.heard(9000.0, 5.0)
    clock.heard(2000.0, 6.0)
    assert clock.time_s(6.0) == 2000.0


def test_epochs_are_counted_by_the_servers_clock() -> None:
    clock = ServerClock()
    clock.heard(5 * EPOCH_S - 1.0, 100.0)
    assert (clock.epoch(100.0), clock.epoch(101.5)) == (4, 5)


def test_before_the_first_answer_there_is_no_time() -> None:
    clock = ServerClock()
    assert not clock.known
    with pytest.raises(ValueError, match="not said"):
        clock.epoch(1.0)


def test_how_much_is_left_of_an_epoch_is_known() -> None:
    clock = ServerClock()
    clock.heard(5 * EPOCH_S + 100.0, 0.0)
    assert clock.left_s(10.0) == EPOCH_S - 110.0
