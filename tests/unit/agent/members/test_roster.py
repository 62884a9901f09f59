"""The roster: the members, in rings by tier, and this node's placement."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from agent.members.member import Peers
from agent.members.roster import Roster
from agent.pull.acceptance import Acceptance
from agent.pull.regard import Regard
from tests.unit.twins import located, node, peer, peers, placed
from topology.placement import Placement, Region, Tier, Zone, ZoneKey
from topology.zones import Report

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


MANY = 2000


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Yields how many bytes were allocated since, and are still in use."""

    def kept_bytes() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        yield kept_bytes
    finally:
        tracemalloc.stop()


def crowd(number: int) -> Peers:
    """Peers of ten zones, in racks of forty. Those of a rack share a placement."""
    places = [
        Placement(region=Region("eu"), zone=Zone(f"eu-{at % 10}"), finer=(("rack", f"{at // 10}"),))
        for at in range(number // 40)
    ]
    return peers(*(peer(f"node-{at}", places[at % len(places)]) for at in range(number)))


def test_member_costs_the_roster_and_those_who_follow_it_little_memory() -> None:
    roster, members = Roster(own=node("own"), placement=RACK), crowd(MANY)
    regard, acceptance = Regard(cooloff_s=5.0), Acceptance()
    roster.on_change(regard.members_changed)
    roster.on_change(acceptance.members_changed)
    zones = {ZoneKey(region=Region("eu"), zone=Zone(f"eu-{at}")): 900.0 + at for at in range(10)}
    with traced() as kept_bytes:
        roster.update(members)
        listed_bytes = kept_bytes()
        for name in members:
            told = {replace(zone): rtt_us for zone, rtt_us in zones.items()}  # each report has its own
            roster.receive_report(name, Report(zones=told, nodes={}), address=None)
            regard.reported_load(name, 3, 0.0)
        roster.refresh()
        reported_bytes = kept_bytes() - listed_bytes
    assert len(roster) == MANY
    assert listed_bytes / MANY < 2500, "1,100 when this was written, most of it in the graph"
    assert reported_bytes / MANY < 1200, "500 when this was written"


def test_change_of_one_member_keeps_what_was_made_for_all_others() -> None:
    roster, members = Roster(own=node("own"), placement=RACK), crowd(400)
    roster.update(members)
    before = roster.snapshot.standings
    gone = node("node-7")
    roster.update({name: one for name, one in members.items() if name != gone})
    after = roster.snapshot.standings
    assert before.keys() - after.keys() == {gone}
    assert all(after[name] is before[name] for name in after)


def test_rings_are_in_the_same_order_however_the_members_came() -> None:
    members = crowd(400)
    at_once, one_by_one = (Roster(own=node("own"), placement=RACK) for _ in range(2))
    at_once.update(members)
    for count in (10, 400, 200, 399, 400):
        one_by_one.update(dict([*members.items()][:count]))
    assert one_by_one.rings == at_once.rings
