"""Regard: how long a peer that failed is avoided, and which peers go after the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pull.regard import PeerFailure, Regard
from tests.unit.twins import node
from topology.placement import NodeName
from topology.ranking import Condition

COOLOFF_S = 5.0
MEMBERS = tuple(map(node, ("far", "rack", "region", "zone-1", "zone-2")))


@pytest.fixture
def regard() -> Regard:
    made = Regard(cooloff_s=COOLOFF_S)
    made.members_changed(MEMBERS)
    return made


def cooling(regard: Regard, now_s: float) -> set[NodeName]:
    return {*regard.cooling(now_s)}


def condition(regard: Regard, name: str, now_s: float) -> Condition:
    return regard.conditions(now_s).get(node(name), Condition())


def test_failed_peer_counts_as_cooling(regard: Regard) -> None:
    regard.failed(node("zone-1"), 100.0)
    regard.failed(node("rack"), 100.0)
    assert cooling(regard, 101.0) == {"zone-1", "rack"}
    assert regard.is_cooling(node("rack"), 101.0)
    assert not regard.is_cooling(node("far"), 101.0)


def test_cooling_ends_after_its_time(regard: Regard) -> None:
    regard.failed(node("rack"), 100.0)
    assert regard.is_cooling(node("rack"), 104.999)
    assert not regard.is_cooling(node("rack"), 105.0)
    assert cooling(regard, 105.0) == set()


def test_each_failure_starts_the_time_anew(regard: Regard) -> None:
    regard.failed(node("rack"), 100.0)
    regard.failed(node("rack"), 104.0)
    assert regard.is_cooling(node("rack"), 108.0)


def test_peer_that_fails_again_after_its_time_is_left_alone_for_twice_as_long(
    regard: Regard,
) -> None:
    rests_s, now_s = [], 100.0
    for _ in range(6):
        regard.failed(node("rack"), now_s)
        rests_s.append(regard.cooling_s(node("rack"), now_s))
        now_s += rests_s[-1]
        assert not regard.is_cooling(node("rack"), now_s)
    assert rests_s == [5.0, 10.0, 20.0, 40.0, 80.0, 80.0]
    assert regard.cooling_s(node("zone-1"), now_s) == 0.0


def test_longest_cool_off_can_be_set() -> None:
    made = Regard(cooloff_s=COOLOFF_S, cooloff_max_s=7.0)
    made.members_changed(MEMBERS)
    for now_s in (0.0, 5.0, 12.0):
        made.failed(node("rack"), now_s)
    assert made.cooling_s(node("rack"), 12.0) == 7.0


def test_peer_that_served_is_well_at_once(regard: Regard) -> None:
    regard.failed(node("rack"), 100.0)
    regard.served(node("rack"), 100.0)
    assert not regard.is_cooling(node("rack"), 100.1)
    assert condition(regard, "rack", 100.1) == Condition()


def test_peer_that_served_starts_with_the_shortest_time_again(regard: Regard) -> None:
    regard.failed(node("rack"), 100.0)
    regard.failed(node("rack"), 105.0)
    regard.served(node("rack"), 100.0)
    regard.failed(node("rack"), 106.0)
    assert regard.cooling_s(node("rack"), 106.0) == COOLOFF_S


def test_saturated_peer_is_so_for_as_long_as_it_says(regard: Regard) -> None:
    regard.saturated(node("rack"), 2.5, 100.0)
    regard.saturated(node("stranger"), 2.5, 100.0)
    assert regard.conditions(102.4) == {node("rack"): Condition(saturated=True)}
    assert not regard.is_cooling(node("rack"), 102.4), "it is well"
    assert regard.conditions(102.5) == {}


def test_saturated_peer_that_served_is_not_saturated_any_more(regard: Regard) -> None:
    regard.saturated(node("rack"), 60.0, 100.0)
    regard.served(node("rack"), 100.0)
    assert regard.conditions(100.0) == {}


def test_load_is_what_the_peer_reports_or_what_this_node_fetches_if_that_is_more(regard: Regard) -> None:
    regard.reported_load(node("rack"), 2, 100.0)
    regard.fetching(node("rack"), +1)
    assert condition(regard, "rack", 100.0).load == 2
    regard.fetching(node("rack"), +1)
    regard.fetching(node("rack"), +1)
    assert condition(regard, "rack", 100.0).load == 3
    for _ in range(3):
        regard.fetching(node("rack"), -1)
    assert condition(regard, "rack", 130.0).load == 2
    assert regard.conditions(130.1) == {}, "the report is too old"


def test_conditions_of_some_are_those_of_all_without_the_others(regard: Regard) -> None:
    regard.failed(node("rack"), 100.0)
    regard.saturated(node("zone-1"), 5.0, 100.0)
    regard.reported_load(node("far"), 4, 100.0)
    regard.fetching(node("zone-1"), +1)
    everyone = regard.conditions(101.0)
    assert len(everyone) == 3
    for among in ([], [node("rack")], [node("far"), node("zone-1"), node("stranger")], MEMBERS):
        assert regard.conditions(101.0, among) == {
            name: condition for name, condition in everyone.items() if name in among
        }


def test_report_that_is_repeated_counts_from_its_last_time(regard: Regard) -> None:
    for name in ("rack", "zone-1"):
        regard.reported_load(node(name), 1, 100.0)
    regard.reported_load(node("rack"), 1, 120.0)
    assert regard.conditions(131.0).keys() == {node("rack")}


def test_nothing_is_kept_of_a_stranger(regard: Regard) -> None:
    regard.failed(node("stranger"), 100.0)
    regard.reported_load(node("stranger"), 5, 100.0)
    regard.fetching(node("stranger"), +1)
    assert not regard.is_cooling(node("stranger"), 100.0)
    assert cooling(regard, 100.0) == set()
    assert regard.conditions(100.0) == {}


def test_new_list_keeps_cooling_peers_that_stay_and_forgets_those_that_left(regard: Regard) -> None:
    regard.failed(node("rack"), 100.0)
    regard.failed(node("far"), 100.0)
    regard.members_changed(name for name in MEMBERS if name != "far")
    assert cooling(regard, 101.0) == {"rack"}
    regard.members_changed(MEMBERS)
    assert not regard.is_cooling(node("far"), 101.0)


EVENTS = st.tuples(st.sampled_from(MEMBERS), st.sampled_from(("failed", "served")), st.floats(0.0, 4.0))


@given(events=st.lists(EVENTS, max_size=12))
def test_peer_cools_off_or_is_well_and_its_condition_says_which(
    events: list[tuple[NodeName, str, float]],
) -> None:
    regard = Regard(cooloff_s=COOLOFF_S)
    regard.members_changed(MEMBERS)
    now_s = 0.0
    for name, happened, later_s in events:
        now_s += later_s
        if happened == "failed":
            regard.failed(name, now_s)
        else:
            regard.served(name, now_s)
        conditions = regard.conditions(now_s)
        for member in MEMBERS:
            cools = regard.is_cooling(member, now_s)
            assert cools == (member in cooling(regard, now_s)) == (regard.cooling_s(member, now_s) > 0)
            assert conditions.get(member, Condition()).cooling == cools


def test_asking_with_an_older_time_forgets_no_report(regard: Regard) -> None:
    """A caller that read the clock before it waited passes an older time."""
    regard.reported_load(node("rack"), 2, 100.0)
    assert condition(regard, "rack", 90.0).load == 2
    assert condition(regard, "rack", 101.0).load == 2


def test_reported_load_counts_for_two_intervals_of_reports() -> None:
    made = Regard(cooloff_s=COOLOFF_S, report_s=60.0)
    made.members_changed(MEMBERS)
    made.reported_load(node("rack"), 2, 100.0)
    assert condition(made, "rack", 220.0).load == 2
    assert made.conditions(220.1) == {}


# What is said of failures


def test_last_failure_of_a_peer_is_kept_in_words_with_its_time(regard: Regard) -> None:
    rack = node("rack")
    assert regard.failure(rack) is None
    regard.noted(rack, "no byte for 3 s", 100.0)
    regard.failed(rack, 100.5)
    assert regard.failure(rack) == PeerFailure(words="no byte for 3 s", at_s=100.0)
    regard.failed(rack, 200.0)
    assert regard.failure(rack) == PeerFailure(words="it did not answer in time", at_s=200.0, silent=True)
    regard.served(rack, 300.0)
    assert dict(regard.failures()).keys() == {rack}, "it is kept after the peer works again"


def test_peer_is_silent_from_its_failure_until_its_next_sign_of_life(regard: Regard) -> None:
    rack = node("rack")
    assert regard.silence(rack) is None
    regard.unanswered(rack, "no reply", 100.0)
    assert regard.silence(rack) == PeerFailure(words="no reply", at_s=100.0, silent=True)
    regard.heard(rack, 101.0)
    assert regard.silence(rack) is None
    regard.unanswered(rack, "no reply", 102.0)
    assert regard.silence(rack) is not None
    regard.served(rack, 103.0)
    assert regard.silence(rack) is None
    regard.noted(rack, "100 bytes/s", 104.0)
    assert regard.silence(rack) is None, "bytes came from it"


def test_nothing_is_kept_of_a_peer_that_left(regard: Regard) -> None:
    regard.unanswered(node("rack"), "no reply", 100.0)
    regard.heard(node("zone-1"), 100.0)
    regard.members_changed([])
    assert list(regard.failures()) == []
    regard.noted(node("stranger"), "no reply", 100.0)
    regard.heard(node("stranger"), 100.0)
    assert list(regard.failures()) == []


def test_when_all_fell_silent_and_one_is_back_it_was_this_nodes_own_network(regard: Regard) -> None:
    for member in MEMBERS:
        regard.unanswered(member, "no reply", 100.0)
    assert set(regard.cooling(100.0)) == set(MEMBERS)
    regard.heard(MEMBERS[0], 101.0)
    assert set(regard.cooling(101.0)) == set()
    regard.unanswered(MEMBERS[0], "no reply", 102.0)
    assert regard.cooling_s(MEMBERS[0], 102.0) == COOLOFF_S, "its time did not double"


def test_peers_that_are_silent_while_others_answer_are_to_blame(regard: Regard) -> None:
    *dead, alive = MEMBERS
    for now_s in (100.0, 101.0, 102.0):
        regard.heard(alive, now_s)
        for member in dead:
            regard.unanswered(member, "no reply", now_s)
    regard.heard(alive, 103.0)
    assert set(regard.cooling(103.0)) == set(dead)


def test_single_peer_that_answers_questions_but_stalls_bodies_still_cools_off() -> None:
    made = Regard(cooloff_s=COOLOFF_S)
    made.members_changed([node("only")])
    made.unanswered(node("only"), "no reply", 100.0)
    made.heard(node("only"), 101.0)
    assert made.is_cooling(node("only"), 101.0)


def test_peer_that_was_silent_and_answered_since_is_known_as_such(regard: Regard) -> None:
    rack = node("rack")
    assert not regard.answered_since(rack), "it never failed"
    regard.unanswered(rack, "connection refused", 100.0)
    assert not regard.answered_since(rack)
    regard.heard(rack, 101.0)
    assert regard.answered_since(rack)
    assert regard.is_cooling(rack, 101.0), "an answer alone does not prove that it works"
    regard.noted(rack, "its body broke off", 102.0)
    regard.heard(rack, 103.0)
    assert not regard.answered_since(rack), "it was not silent"


def test_body_that_one_peer_delivered_meanwhile_shows_that_the_others_silence_was_theirs(
    regard: Regard,
) -> None:
    one, other, third, delivers, _ = MEMBERS
    regard.unanswered(one, "no reply", 100.0)
    regard.unanswered(other, "no reply", 100.0)
    regard.served(delivers, 100.5)
    regard.unanswered(third, "no reply", 100.6)
    regard.heard(third, 101.0)
    assert cooling(regard, 101.0) == {one, other, third}


def test_nothing_is_kept_of_a_stranger_that_served(regard: Regard) -> None:
    stranger = node("stranger")
    regard.served(stranger, 100.0)
    regard.members_changed([*MEMBERS, stranger])
    regard.noted(stranger, "connection refused", 99.0, silent=True)
    assert regard.silence(stranger) is not None


def test_refusal_is_kept_in_words_and_is_a_sign_of_life_and_cools_nobody_off(regard: Regard) -> None:
    rack = node("rack")
    regard.noted(rack, "connection refused", 100.0, silent=True)
    regard.refused(rack, "status 404", 101.0)
    failure = regard.failure(rack)
    assert failure is not None
    assert failure.words == "status 404"
    assert regard.silence(rack) is None
    assert not regard.is_cooling(rack, 101.0)


def test_silent_peers_are_those_that_gave_no_sign_of_life_since(regard: Regard) -> None:
    regard.unanswered(node("rack"), "no reply", 100.0)
    regard.noted(node("zone"), "status 500", 100.0)
    assert regard.silent() == (node("rack"),)
    regard.heard(node("rack"), 101.0)
    assert regard.silent() == ()
