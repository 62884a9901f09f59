"""What a report does: a peer speaks for itself only. The connections are tested in test_measurer.py."""

import pytest

from agent.latency.receiver import receive_report
from agent.latency.wire import NodeReport
from agent.members.identities import Identities
from agent.members.member import Peer
from agent.members.problems import Problems
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.pull.regard import Regard
from tests.unit.twins import located, node, peer, peers
from topology.placement import NodeName, Placement
from topology.zones import Report

WHERE = located("eu", "eu-a", ("rack", "7"))


def received(
    name: str, address: str, placement: Placement | None = WHERE, proved: str | None = None
) -> list[tuple[NodeName, Placement]]:
    """Whom a report in this name from this address places, and where."""
    roster, placed = Roster(own=node("own"), placement=located()), list[tuple[NodeName, Placement]]()
    roster.update(peers(peer("one", located())))

    def place(told: Peer, where: Placement) -> None:
        placed.append((told.name, where))

    receive_report(
        roster,
        Identities(instance="i", roster=roster, problems=Problems(), report_ttl_s=60.0),
        Regard(cooloff_s=5.0, cooloff_max_s=80.0, report_s=15.0),
        Metrics(),
        lambda _node: None,
        place,
        NodeReport(node=node(name), report=Report(zones={}, nodes={}), placement=placement),
        address,
        None if proved is None else node(proved),
    )
    return placed


def test_peer_says_where_it_is_from_its_own_address() -> None:
    assert received("one", "192.0.2.1") == [("one", WHERE)]


@pytest.mark.parametrize(
    ("name", "address"), [("one", "192.0.2.9"), ("two", "192.0.2.1"), ("own", "192.0.2.1")]
)
def test_nobody_says_where_another_one_is(name: str, address: str) -> None:
    assert received(name, address) == []


def test_proved_name_counts_and_not_the_address() -> None:
    assert received("one", "203.0.113.1", proved="one") == [("one", WHERE)]
    assert received("one", "192.0.2.1", proved="two") == []
    assert received("own", "192.0.2.1", proved="own") == []


def test_agent_of_before_says_nothing() -> None:
    assert received("one", "192.0.2.1", None) == []
