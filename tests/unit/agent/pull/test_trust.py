"""Which peers are not trusted with which digest: a body was bad, or not committed, or its hash is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.digest import Digest
from agent.pull.trust import Distrust, Trust
from tests.unit.twins import node, sha256
from topology.placement import NodeName

A, B, C = (node(name) for name in "abc")
LAYER, OTHER, EARLIER = sha256("layer"), sha256("other"), sha256("earlier")
COMMIT_S, SUSPECT_S = 30.0, 600.0
SIZE = 1000


@pytest.fixture
def trust() -> Trust:
    """A trust that has seen this node's store commit something."""
    trust = Trust(commit_s=COMMIT_S, suspect_s=SUSPECT_S)
    give(trust, A, digest=EARLIER)
    trust.committed(EARLIER, 0.0)
    return trust


def give(
    trust: Trust,
    *sources: str,
    digest: Digest = LAYER,
    start: int = 0,
    stop: int = SIZE,
    size_bytes: int = SIZE,
    taken: bool = True,
    now_s: float = 0.0,
    began_s: float | None = None,
    received: bool | None = None,
    origins: dict[NodeName, NodeName] | None = None,
) -> None:
    trust.delivered(
        digest,
        [node(name) for name in sources],
        start=start,
        stop=stop,
        size_bytes=size_bytes,
        taken=taken,
        began_s=now_s if began_s is None else began_s,
        received=received,
        now_s=now_s,
        origins=origins or {},
    )


def overdue(trust: Trust, now_s: float = 1e6, **more: object) -> set[str]:
    """Who became suspect because something was not committed in time."""
    return {name for nodes in trust.suspect_overdue(now_s, **more).values() for name in nodes}  # type: ignore[arg-type]


def test_distrusted_peer_is_out_for_that_digest_until_then(trust: Trust) -> None:
    trust.distrust(LAYER, A, 10.0)
    assert trust.reasons(LAYER, 9.9) == {A: Distrust.BROKE_OFF}
    assert trust.reasons(OTHER, 9.9) == {}
    assert trust.reasons(LAYER, 10.0) == {}


def test_later_end_counts(trust: Trust) -> None:
    trust.distrust(LAYER, A, 10.0)
    trust.distrust(LAYER, A, 5.0)
    trust.distrust(LAYER, B, 7.0)
    assert trust.reasons(LAYER, 6.0).keys() == {A, B}
    assert trust.reasons(LAYER, 8.0).keys() == {A}


def test_suspect_is_the_only_one_that_is_not_out() -> None:
    assert [reason for reason in Distrust if not reason.is_out] == [Distrust.SUSPECT]


def test_reasons_say_the_gravest_that_holds(trust: Trust) -> None:
    give(trust, A, B)
    assert overdue(trust, COMMIT_S) == {A, B}
    assert trust.reasons(LAYER, COMMIT_S) == {A: Distrust.SUSPECT, B: Distrust.SUSPECT}
    trust.distrust(LAYER, A, 100.0)
    assert trust.reasons(LAYER, COMMIT_S)[A] is Distrust.BROKE_OFF
    trust.checked(LAYER, A, right=False, now_s=COMMIT_S)
    assert trust.reasons(LAYER, COMMIT_S)[A] is Distrust.WRONG
    assert trust.reasons(LAYER, COMMIT_S + SUSPECT_S) == {}


def test_entries_name_each_peer_once_per_digest_with_its_reason_and_for_how_long(trust: Trust) -> None:
    trust.distrust(LAYER, A, 10.0)
    trust.distrust(OTHER, B, 20.0)
    trust.checked(LAYER, A, right=False, now_s=0.0)
    assert sorted(trust.entries(4.0)) == sorted(
        [(LAYER, A, Distrust.WRONG, SUSPECT_S - 4.0), (OTHER, B, Distrust.BROKE_OFF, 16.0)]
    )
    assert [entry[0] for entry in trust.entries(25.0)] == [LAYER]


def test_oldest_evidence_goes_when_there_is_too_much(trust: Trust) -> None:
    for number in range(5000):
        trust.distrust(sha256(number), A, 1e9)
    assert trust.reasons(sha256(4999), 0.0).keys() == {A}
    assert trust.reasons(sha256(0), 0.0).keys() == frozenset()
    assert len(list(trust.entries(0.0))) == 4096


def test_blob_that_appears_in_time_makes_nobody_suspect(trust: Trust) -> None:
    give(trust, A, B)
    trust.committed(LAYER, 1.0)
    assert overdue(trust) == set()
    assert trust.requested_again(LAYER, 1e6) == set()
    assert trust.reasons(LAYER, 1e6) == {}


def test_blob_that_does_not_appear_in_time_makes_every_source_suspect(trust: Trust) -> None:
    give(trust, A, stop=400, now_s=0.0)
    give(trust, B, C, start=400, now_s=5.0)
    assert overdue(trust, 34.9) == set(), "its time runs from its last byte on"
    assert overdue(trust, 35.0) == {A, B, C}
    assert trust.reasons(LAYER, 35.0).keys() == {A, B, C}
    assert trust.reasons(LAYER, 35.0 + SUSPECT_S).keys() == frozenset()
    assert overdue(trust) == set(), "once"


def test_blob_that_is_requested_again_from_its_start_makes_every_source_suspect_at_once(trust: Trust) -> None:
    give(trust, A, B)
    assert trust.requested_again(LAYER, 1.0) == {A, B}
    assert trust.reasons(LAYER, 1.0).keys() == {A, B}
    assert trust.requested_again(LAYER, 2.0) == set()


def test_blob_that_was_not_delivered_whole_says_nothing(trust: Trust) -> None:
    give(trust, A, stop=SIZE - 1)
    assert overdue(trust) == set()
    assert trust.requested_again(LAYER, 1e6) == set()


def test_parts_may_come_in_any_order_and_overlap(trust: Trust) -> None:
    for start, stop in ((600, 1000), (0, 300), (200, 500), (450, 700)):
        assert overdue(trust) == set()
        give(trust, A, start=start, stop=stop)
    assert overdue(trust) == {A}


def test_nothing_delivered_is_no_part(trust: Trust) -> None:
    give(trust, A, start=500, stop=500)
    give(trust, B)
    assert overdue(trust) == {B}


def test_source_that_was_verified_on_the_way_is_not_suspect(trust: Trust) -> None:
    give(trust)
    assert overdue(trust) == set()


def test_blob_of_another_size_is_another_delivery(trust: Trust) -> None:
    give(trust, A, stop=900)
    give(trust, B, start=900, stop=2000, size_bytes=2000)
    assert overdue(trust) == set()


def test_blob_that_was_perhaps_not_read_to_its_end_counts_the_second_time_only(trust: Trust) -> None:
    give(trust, A, taken=False)
    assert trust.requested_again(LAYER, 1.0) == set()
    give(trust, A, taken=False, now_s=1.5)
    assert trust.requested_again(LAYER, 2.0) == {A}
    assert trust.reasons(LAYER, 2.0).keys() == {A}


def test_blob_that_appeared_after_the_first_doubt_is_beyond_it(trust: Trust) -> None:
    give(trust, A, taken=False, received=True)
    assert overdue(trust, 100.0) == set()
    give(trust, A, taken=False, now_s=100.0, received=True)
    trust.committed(LAYER, 101.0)
    give(trust, A, taken=False, now_s=200.0, received=True)
    assert overdue(trust, 300.0) == set()


# What is no evidence


def test_client_whose_store_this_is_not_makes_nobody_suspect(trust: Trust) -> None:
    """A second containerd behind the same port, or curl in its name: nothing of it appears here."""
    for now_s in (1.0, 2.0, 3.0):
        give(trust, A, received=False, now_s=now_s)
        assert trust.requested_again(LAYER, now_s) == set()
        trust.redirected(LAYER, A, size_bytes=SIZE, received=False, now_s=now_s)
        assert trust.requested_again(LAYER, now_s) == set()
    assert overdue(trust) == set()


def test_without_sight_of_the_client_only_other_commits_of_the_same_time_speak_for_it() -> None:
    trust = Trust(commit_s=COMMIT_S, suspect_s=SUSPECT_S)
    give(trust, A)
    trust.committed(OTHER, 0.0)  # it came in another way
    assert overdue(trust) == set()
    give(trust, B, digest=EARLIER)
    trust.committed(EARLIER, 0.0)
    give(trust, A, now_s=3600.0)
    assert trust.requested_again(LAYER, 3601.0) == set(), "an hour ago another client may have pulled"
    give(trust, A, now_s=3602.0)
    give(trust, B, digest=OTHER, now_s=3602.0)
    trust.committed(OTHER, 3603.0)
    assert trust.requested_again(LAYER, 3604.0) == {A}


def test_with_sight_of_the_client_no_other_commit_is_needed() -> None:
    trust = Trust(commit_s=COMMIT_S, suspect_s=SUSPECT_S)
    give(trust, A, received=True)
    assert trust.requested_again(LAYER, 1.0) == {A}


def test_what_was_sent_before_the_store_was_well_again_makes_nobody_suspect(trust: Trust) -> None:
    give(trust, A, digest=OTHER, received=True, now_s=1.0)
    trust.store_unwell(5.0)
    give(trust, A, received=True, began_s=4.0, now_s=6.0)  # it ends after the outage, but began before it
    trust.redirected(OTHER, A, size_bytes=SIZE, received=True, now_s=5.0)
    assert trust.requested_again(LAYER, 7.0) == set()
    assert trust.requested_again(OTHER, 7.0) == set()
    assert overdue(trust) == set()
    give(trust, A, received=True, now_s=7.0)
    assert trust.requested_again(LAYER, 8.0) == {A}, "the store was well throughout"


def test_warning_of_a_sick_store_is_forgotten(trust: Trust) -> None:
    give(trust, A, taken=False, received=True, now_s=1.0)
    assert trust.requested_again(LAYER, 2.0) == set()
    trust.store_unwell(3.0)
    give(trust, A, taken=False, received=True, now_s=4.0)
    assert trust.requested_again(LAYER, 5.0) == set(), "that was the first time"


def test_blob_that_the_store_is_still_writing_is_not_overdue(trust: Trust) -> None:
    give(trust, A, received=True)
    assert overdue(trust, 1000.0, receiving=lambda _: True) == set()
    assert overdue(trust, 1001.0, receiving=lambda _: False) == {A}


def test_blob_that_appeared_before_its_delivery_had_ended_convicts_nobody(trust: Trust) -> None:
    trust.committed(LAYER, 0.0)
    give(trust, A)
    assert overdue(trust, COMMIT_S + 1, holds=lambda digest: digest == LAYER) == set()
    assert trust.reasons(LAYER, COMMIT_S + 1).keys() == frozenset()


def test_agent_that_starts_again_holds_nothing_against_anybody() -> None:
    trust = Trust(commit_s=COMMIT_S, suspect_s=SUSPECT_S)
    assert trust.requested_again(LAYER, 0.0) == set()
    assert overdue(trust) == set()


def test_pending_bytes_are_those_of_what_is_not_in_the_store_yet(trust: Trust) -> None:
    assert trust.pending_bytes == 0
    give(trust, A, stop=1)
    give(trust, A, digest=OTHER, size_bytes=500, stop=500)
    assert trust.pending_bytes == SIZE + 500
    trust.committed(OTHER, 1.0)
    assert trust.pending_bytes == SIZE


# Checks


def test_check_that_finds_the_bytes_right_clears_a_suspect_for_a_while(trust: Trust) -> None:
    give(trust, A, received=True)
    trust.requested_again(LAYER, 1.0)
    trust.checked(LAYER, A, right=True, now_s=2.0)
    assert trust.reasons(LAYER, 2.0) == {}
    give(trust, A, B, received=True, now_s=3.0)
    assert trust.requested_again(LAYER, 4.0) == {B}, "what was hashed a moment ago is right"
    give(trust, A, received=True, now_s=SUSPECT_S + 3.0)
    assert trust.requested_again(LAYER, SUSPECT_S + 4.0) == {A}


def test_check_of_several_sources_leaves_only_the_wrong_one_out(trust: Trust) -> None:
    give(trust, A, B, received=True)
    assert trust.requested_again(LAYER, 1.0) == {A, B}
    trust.checked(LAYER, A, right=True, now_s=2.0)
    trust.checked(LAYER, B, right=False, now_s=2.0)
    assert trust.reasons(LAYER, 2.0) == {B: Distrust.WRONG}


def test_suspect_that_could_not_be_checked_is_checked_the_next_time(trust: Trust) -> None:
    for now_s in (1.0, 3.0):
        give(trust, A, received=True, now_s=now_s)
        assert trust.requested_again(LAYER, now_s + 1.0) == {A}


def test_wrong_one_is_not_suspect_as_well(trust: Trust) -> None:
    trust.checked(LAYER, A, right=False, now_s=0.0)
    give(trust, A, received=True, now_s=1.0)
    assert trust.requested_again(LAYER, 2.0) == set()


# Redirects


def test_peer_that_a_client_was_sent_to_is_judged_by_its_asking_again_only_and_the_second_time(
    trust: Trust,
) -> None:
    """This agent did not see that transfer."""
    for suspects in (set(), {A}):
        trust.redirected(LAYER, A, size_bytes=SIZE, now_s=1.0)
        assert overdue(trust, 10 * COMMIT_S) == set(), "it may take long"
        assert trust.requested_again(LAYER, 10 * COMMIT_S) == suspects
    assert trust.reasons(LAYER, 10 * COMMIT_S).keys() == {A}


def test_peer_that_a_client_was_sent_to_is_cleared_when_the_blob_appears(trust: Trust) -> None:
    for _ in range(3):
        trust.redirected(LAYER, A, size_bytes=SIZE, now_s=1.0)
        trust.committed(LAYER, 2.0)
        assert trust.requested_again(LAYER, 3.0) == set()


def test_peer_that_proved_well_may_be_asked_for_what_broke_off_but_stays_suspect(trust: Trust) -> None:
    trust.distrust(LAYER, A, 100.0)
    give(trust, A, digest=OTHER)
    assert trust.requested_again(OTHER, 0.0) == {A}
    trust.served(A)
    assert trust.reasons(LAYER, 1.0).keys() == frozenset()
    assert trust.reasons(OTHER, 1.0).keys() == {A}


PARTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.sampled_from("abc")), max_size=20)


@given(parts=PARTS)
def test_blob_is_whole_exactly_when_every_byte_was_delivered(
    parts: list[tuple[int, int, str]],
) -> None:
    trust = Trust(commit_s=COMMIT_S, suspect_s=SUSPECT_S)
    covered: set[int] = set()
    sources: set[str] = set()
    for start, stop, source in parts:
        give(trust, source, start=start, stop=stop, size_bytes=50, received=True)
        covered.update(range(start, stop))
        sources |= {source} if start < stop else set()
    whole = len(covered) == 50
    assert overdue(trust, COMMIT_S) == (sources if whole else set())
    assert trust.reasons(LAYER, COMMIT_S).keys() == (sources if whole else set())


def test_wrong_bytes_that_passed_through_others_make_the_first_of_the_chain_suspect_and_nobody_between(
    trust: Trust,
) -> None:
    give(trust, C, origins={C: A})
    assert overdue(trust, COMMIT_S) == {A}
    assert trust.reasons(LAYER, COMMIT_S) == {A: Distrust.SUSPECT}


def test_whoever_names_an_innocent_one_as_the_first_is_suspect_the_second_time(trust: Trust) -> None:
    give(trust, C, origins={C: A})
    assert overdue(trust, COMMIT_S) == {A}
    trust.checked(LAYER, A, right=True, now_s=COMMIT_S)
    give(trust, C, origins={C: A}, now_s=COMMIT_S)
    assert overdue(trust, 2 * COMMIT_S) == {C}


def test_whoever_names_one_that_can_not_be_checked_is_suspect_the_second_time_as_well(trust: Trust) -> None:
    give(trust, C, origins={C: A})
    assert overdue(trust, COMMIT_S) == {A}
    give(trust, C, origins={C: A}, now_s=COMMIT_S)
    assert overdue(trust, 2 * COMMIT_S) == {A, C}


def test_source_that_gave_some_of_it_itself_and_some_of_another_s_is_judged_for_both(trust: Trust) -> None:
    give(trust, A, stop=500)
    give(trust, C, start=500, origins={C: B})
    assert overdue(trust, COMMIT_S) == {A, B}
