"""The roster: the members, in rings by tier, and this node's placement."""

from dataclasses import replace

import pytest

from agent.members.member import Peers
from agent.members.roster import Roster
from tests.unit.twins import located, node, peer, peers, placed
from topology.placement import Placement, Region, Tier, Zone

RACK = Placement(region=Region("eu"), zone=Zone("eu-a"), finer=(("rack", "1"),))
MEMBERS = peers(
    peer("far", placed("us", "us-a")),
    peer("zone-1", placed("eu", "eu-a")),
    peer("region", placed("eu", "eu-b")),
    peer("zone-2", placed("eu", "eu-a")),
    peer("rack", RACK),
)


@pytest.fixture
def roster() -> Roster:
    made = Roster(own=node("own"), placement=RACK)
    made.update(MEMBERS)
    return made


def rings(roster: Roster) -> list[set[str]]:
    return [{member.name for member in ring} for ring in roster.rings]


def test_before_the_first_list_there_is_nobody() -> None:
    alone = Roster(own=node("own"), placement=RACK)
    assert (rings(alone), len(alone)) == ([], 0)
    assert alone.tier(node("own")) is Tier.NODE


def test_rings_are_the_tiers_nearest_first_and_without_empty_ones(roster: Roster) -> None:
    assert rings(roster) == [{"rack"}, {"zone-1", "zone-2"}, {"region"}, {"far"}]
    assert len(roster) == 5


def test_tier_is_the_ring_and_remote_for_a_stranger(roster: Roster) -> None:
    assert roster.tier(node("zone-1")) is Tier.ZONE
    assert roster.tier(node("own")) is Tier.NODE
    assert roster.tier(node("stranger")) is Tier.REMOTE
    assert roster.peer(node("stranger")) is None
    assert roster.peer(node("rack")) == MEMBERS[node("rack")]


def test_peer_that_moved_is_in_its_new_ring(roster: Roster) -> None:
    roster.update(peers(peer("far", RACK)))
    assert rings(roster) == [{"far"}]
    assert roster.tier(node("rack")) is Tier.REMOTE


def test_listeners_hear_of_each_new_list_once_it_is_in_force(roster: Roster) -> None:
    heard: list[tuple[Peers, int]] = []
    roster.on_change(lambda members: heard.append((members, len(roster))))
    roster.update(peers(peer("far", RACK)))
    roster.update({})
    assert heard == [(peers(peer("far", RACK)), 1), ({}, 0)]


def test_peer_at_another_address_leaves_and_joins_so_that_nothing_is_held_against_it(roster: Roster) -> None:
    heard: list[list[str]] = []
    roster.on_change(lambda members: heard.append(sorted(members)))
    moved = replace(MEMBERS[node("zone-1")], address="10.9.9.9")
    others = {name for name in MEMBERS if name != moved.name}
    roster.update({**MEMBERS, moved.name: moved})
    assert heard == [sorted(others), sorted(MEMBERS)]
    assert roster.peers[moved.name] == moved
    heard.clear()
    roster.update({**MEMBERS, moved.name: replace(moved, placement=RACK)})
    assert heard == [sorted(MEMBERS)], "its labels changed, not its address"


def test_own_placement_that_comes_late_gives_the_rings() -> None:
    roster = Roster(own=node("own"), placement=located())
    roster.update(MEMBERS)
    assert rings(roster) == [{"far", "zone-1", "region", "zone-2", "rack"}]
    roster.place(RACK)
    assert rings(roster) == [{"rack"}, {"zone-1", "zone-2"}, {"region"}, {"far"}]
    roster.place(placed("us", "us-a"))
    assert rings(roster)[0] == {"far"}
    assert roster.tier(node("rack")) is Tier.REMOTE


def test_peer_that_was_left_out_is_judged_anew_after_its_entry_was_gone(roster: Roster) -> None:
    """Or what was left out once would be remembered for ever, and by and by ever more of it."""
    zone = MEMBERS[node("zone-1")]
    roster.exclude(zone)
    roster.update(MEMBERS)
    assert node("zone-1") not in roster.peers
    roster.update({name: each for name, each in MEMBERS.items() if name != zone.name})
    roster.update(MEMBERS)
    assert node("zone-1") in roster.peers
