"""The neighbourhood: peers in rings by locality, and how long one that failed is avoided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.members.neighbourhood import Neighbourhood
from tests.unit.twins import node, peer, peers, placed
from topology.placement import Locality, Placement, Region, Zone

COOLOFF_S = 5.0
RACK = Placement(region=Region("eu"), zone=Zone("eu-a"), finer=(("rack", "1"),))
MEMBERS = peers(
    peer("far", placed("us", "us-a")),
    peer("zone-1", placed("eu", "eu-a")),
    peer("region", placed("eu", "eu-b")),
    peer("zone-2", placed("eu", "eu-a")),
    peer("rack", RACK),
)


@pytest.fixture
def neighbourhood() -> Neighbourhood:
    made = Neighbourhood(own=node("own"), placement=RACK, cooloff_s=COOLOFF_S)
    made.update(MEMBERS)
    return made


def rings(neighbourhood: Neighbourhood, now_s: float = 0.0) -> list[set[str]]:
    return [{member.name for member in ring} for ring in neighbourhood.rings(now_s)]


def test_before_the_first_list_there_is_nobody() -> None:
    alone = Neighbourhood(own=node("own"), placement=RACK, cooloff_s=COOLOFF_S)
    assert (rings(alone), len(alone), alone.cooling(0.0)) == ([], 0, ())
    assert alone.locality(node("own")) is Locality.NODE


def test_rings_are_the_tiers_nearest_first_and_without_empty_ones(neighbourhood: Neighbourhood) -> None:
    assert rings(neighbourhood) == [{"rack"}, {"zone-1", "zone-2"}, {"region"}, {"far"}]
    assert len(neighbourhood) == 5


def test_locality_is_the_ring_and_remote_for_a_stranger(neighbourhood: Neighbourhood) -> None:
    assert neighbourhood.locality(node("zone-1")) is Locality.ZONE
    assert neighbourhood.locality(node("own")) is Locality.NODE
    assert neighbourhood.locality(node("stranger")) is Locality.REMOTE
    assert neighbourhood.peer(node("stranger")) is None
    assert neighbourhood.peer(node("rack")) == MEMBERS[node("rack")]


def test_failed_peer_is_in_no_ring_and_counts_as_cooling(neighbourhood: Neighbourhood) -> None:
    neighbourhood.failed(node("zone-1"), 100.0)
    neighbourhood.failed(node("rack"), 100.0)
    assert rings(neighbourhood, 101.0) == [{"zone-2"}, {"region"}, {"far"}]
    assert {member.name for member in neighbourhood.cooling(101.0)} == {"zone-1", "rack"}
    assert neighbourhood.is_cooling(node("rack"), 101.0)


def test_cooling_ends_after_its_time(neighbourhood: Neighbourhood) -> None:
    neighbourhood.failed(node("rack"), 100.0)
    assert neighbourhood.is_cooling(node("rack"), 104.999)
    assert not neighbourhood.is_cooling(node("rack"), 105.0)
    assert neighbourhood.cooling(105.0) == ()
    assert rings(neighbourhood, 105.0)[0] == {"rack"}


def test_each_failure_starts_the_time_anew(neighbourhood: Neighbourhood) -> None:
    neighbourhood.failed(node("rack"), 100.0)
    neighbourhood.failed(node("rack"), 104.0)
    assert neighbourhood.is_cooling(node("rack"), 108.0)


def test_peer_that_fails_again_after_its_time_is_left_alone_for_twice_as_long(
    neighbourhood: Neighbourhood,
) -> None:
    rests_s, now_s = [], 100.0
    for _ in range(6):
        neighbourhood.failed(node("rack"), now_s)
        rests_s.append(neighbourhood.cooling_s(node("rack"), now_s))
        now_s += rests_s[-1]
        assert not neighbourhood.is_cooling(node("rack"), now_s)
    assert rests_s == [5.0, 10.0, 20.0, 40.0, 80.0, 80.0]
    assert neighbourhood.cooling_s(node("zone-1"), now_s) == 0.0


def test_longest_cool_off_can_be_set() -> None:
    made = Neighbourhood(own=node("own"), placement=RACK, cooloff_s=COOLOFF_S, cooloff_max_s=7.0)
    made.update(MEMBERS)
    for now_s in (0.0, 5.0, 12.0):
        made.failed(node("rack"), now_s)
    assert made.cooling_s(node("rack"), 12.0) == 7.0


def test_peer_that_served_is_well_at_once(neighbourhood: Neighbourhood) -> None:
    neighbourhood.failed(node("rack"), 100.0)
    neighbourhood.served(node("rack"))
    assert not neighbourhood.is_cooling(node("rack"), 100.1)
    assert rings(neighbourhood, 100.1)[0] == {"rack"}


def test_peer_that_served_starts_with_the_shortest_time_again(neighbourhood: Neighbourhood) -> None:
    neighbourhood.failed(node("rack"), 100.0)
    neighbourhood.failed(node("rack"), 105.0)
    neighbourhood.served(node("rack"))
    neighbourhood.failed(node("rack"), 106.0)
    assert neighbourhood.cooling_s(node("rack"), 106.0) == COOLOFF_S


def order(neighbourhood: Neighbourhood) -> list[str]:
    return [one.node for one in neighbourhood.ranked("sha256:x", sorted(MEMBERS))]


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_saturated_peer_comes_after_all_others_for_as_long_as_it_says() -> None:
    clock = Clock()
    made = Neighbourhood(own=node("own"), placement=RACK, cooloff_s=COOLOFF_S, clock=clock)
    made.update(MEMBERS)
    assert order(made)[0] == "rack"
    made.saturated(node("rack"), 100.0, 2.5)
    made.saturated(node("stranger"), 100.0, 2.5)
    clock.now_s = 102.4
    assert order(made)[-1] == "rack"
    assert not made.is_cooling(node("rack"), 102.4), "it is well"
    clock.now_s = 102.5
    assert order(made)[0] == "rack"


def test_saturated_peer_that_served_is_not_saturated_any_more() -> None:
    clock = Clock()
    made = Neighbourhood(own=node("own"), placement=RACK, cooloff_s=COOLOFF_S, clock=clock)
    made.update(MEMBERS)
    made.saturated(node("rack"), 100.0, 60.0)
    made.served(node("rack"))
    assert order(made)[0] == "rack"


def test_failed_peer_is_the_last_resort_behind_a_saturated_one() -> None:
    made = Neighbourhood(own=node("own"), placement=RACK, cooloff_s=COOLOFF_S, clock=Clock())
    made.update(MEMBERS)
    made.failed(node("zone-1"), 100.0)
    made.saturated(node("rack"), 100.0, 60.0)
    assert order(made)[-2:] == ["rack", "zone-1"]


def test_failure_of_a_stranger_is_not_kept(neighbourhood: Neighbourhood) -> None:
    neighbourhood.failed(node("stranger"), 100.0)
    assert not neighbourhood.is_cooling(node("stranger"), 100.0)
    assert neighbourhood.cooling(100.0) == ()


def test_new_list_keeps_cooling_peers_that_stay_and_forgets_those_that_left(
    neighbourhood: Neighbourhood,
) -> None:
    neighbourhood.failed(node("rack"), 100.0)
    neighbourhood.failed(node("far"), 100.0)
    neighbourhood.update({name: member for name, member in MEMBERS.items() if name != "far"})
    assert [member.name for member in neighbourhood.cooling(101.0)] == ["rack"]
    neighbourhood.update(MEMBERS)
    assert not neighbourhood.is_cooling(node("far"), 101.0)


def test_peer_that_moved_is_in_its_new_ring(neighbourhood: Neighbourhood) -> None:
    neighbourhood.update(peers(peer("far", RACK)))
    assert rings(neighbourhood) == [{"far"}]
    assert neighbourhood.locality(node("rack")) is Locality.REMOTE


EVENTS = st.tuples(
    st.sampled_from(sorted(MEMBERS)), st.sampled_from(("failed", "answered")), st.floats(0.0, 4.0)
)


@given(events=st.lists(EVENTS, max_size=12))
def test_every_peer_is_in_one_ring_or_cooling_and_never_in_both(
    events: list[tuple[str, str, float]],
) -> None:
    neighbourhood = Neighbourhood(own=node("own"), placement=RACK, cooloff_s=COOLOFF_S)
    neighbourhood.update(MEMBERS)
    now_s = 0.0
    for name, happened, later_s in events:
        now_s += later_s
        if happened == "failed":
            neighbourhood.failed(node(name), now_s)
        else:
            neighbourhood.served(node(name))
        in_rings = [member.name for ring in neighbourhood.rings(now_s) for member in ring]
        cooling = [member.name for member in neighbourhood.cooling(now_s)]
        assert sorted(in_rings + cooling) == sorted(MEMBERS)
        assert all(neighbourhood.rings(now_s))
