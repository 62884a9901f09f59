"""What becomes of a round trip that the kernel measured."""

import socket

import pytest

from agent.latency.samples import add_handshake, add_sample
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from tests.unit.exposition import total
from tests.unit.twins import located, node, peer, peers
from topology.snapshot import Source

P = peer("p", located("r", "a"))


@pytest.fixture
def roster() -> Roster:
    made = Roster(own=node("own"), placement=located("r", "a"), clock=lambda: 1.0)
    made.update(peers(P))
    return made


def is_measured(roster: Roster) -> bool:
    return roster.refresh().standings[P.name].source is Source.MEASURED


def test_round_trip_goes_into_the_topology_and_the_metrics(roster: Roster) -> None:
    metrics = Metrics()
    for _ in range(3):
        assert add_sample(roster, metrics, P.name, 310.0, "upload")
    assert is_measured(roster)
    assert total(metrics.expose(), "rtt_samples_total", source="upload") == 3
    assert total(metrics.expose(), "rtt_seconds_count", tier="zone") == 3


@pytest.mark.parametrize("rtt_us", [0.0, -1.0, float("nan"), float("inf")])
def test_absurd_round_trip_is_left_out_of_both(roster: Roster, rtt_us: float) -> None:
    metrics = Metrics()
    assert not add_sample(roster, metrics, P.name, rtt_us, "upload")
    assert not is_measured(roster)
    assert total(metrics.expose(), "rtt_samples_total") == 0


def test_handshake_of_a_new_connection_is_a_sample(roster: Roster) -> None:
    metrics = Metrics()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as own,
    ):
        add_handshake(roster, metrics, P, own)
    assert total(metrics.expose(), "rtt_samples_total", source="connection") == 1


def test_connection_that_is_gone_has_no_sample(roster: Roster) -> None:
    metrics, closed = Metrics(), socket.socket()
    closed.close()
    add_handshake(roster, metrics, P, closed)
    assert total(metrics.expose(), "rtt_samples_total") == 0
