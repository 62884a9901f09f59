"""Which peers are not asked for which digest: a body of theirs was bad, or was not committed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.digest import Digest
from agent.pull.trust import Distrust, Trust
from tests.unit.twins import node, sha256

A, B, C = (node(name) for name in "abc")
LAYER, OTHER = sha256("layer"), sha256("other")
COMMIT_S, SUSPECT_S = 30.0, 600.0
SIZE = 1000


@pytest.fixture
def trust() -> Trust:
    """A trust that has seen this node's store commit something."""
    trust = Trust(commit_s=COMMIT_S, suspect_s=SUSPECT_S)
    give(trust, A, digest=sha256("earlier"))
    trust.committed(sha256("earlier"))
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
) -> None:
    trust.delivered(
        digest,
        [node(name) for name in sources],
        start=start,
        stop=stop,
        size_bytes=size_bytes,
        taken=taken,
        now_s=now_s,
    )


def test_distrusted_peer_is_passed_over_for_that_digest_until_then(trust: Trust) -> None:
    trust.distrust(LAYER, A, 10.0)
    assert trust.reasons(LAYER, 9.9).keys() == {A}
    assert trust.reasons(OTHER, 9.9).keys() == frozenset()
    assert trust.reasons(LAYER, 10.0).keys() == frozenset()


def test_later_end_counts(trust: Trust) -> None:
    trust.distrust(LAYER, A, 10.0)
    trust.distrust(LAYER, A, 5.0)
    trust.distrust(LAYER, B, 7.0)
    assert trust.reasons(LAYER, 6.0).keys() == {A, B}
    assert trust.reasons(LAYER, 8.0).keys() == {A}


def test_reasons_say_whether_a_body_broke_off_or_was_not_committed(trust: Trust) -> None:
    trust.distrust(LAYER, A, 100.0)
    assert trust.reasons(LAYER, 0.0) == {A: Distrust.BROKE_OFF}
    give(trust, A, B)
    trust.suspect_overdue(COMMIT_S)
    assert trust.reasons(LAYER, COMMIT_S) == {A: Distrust.SUSPECT, B: Distrust.SUSPECT}
    assert trust.reasons(LAYER, COMMIT_S + SUSPECT_S) == {}


def test_entries_say_what_whom_and_for_how_long(trust: Trust) -> None:
    trust.distrust(LAYER, A, 10.0)
    trust.distrust(OTHER, B, 20.0)
    assert list(trust.entries(4.0)) == [(LAYER, A, 6.0), (OTHER, B, 16.0)]
    assert list(trust.entries(15.0)) == [(OTHER, B, 5.0)]


def test_oldest_evidence_goes_when_there_is_too_much(trust: Trust) -> None:
    for number in range(5000):
        trust.distrust(sha256(number), A, 1e9)
    assert trust.reasons(sha256(4999), 0.0).keys() == {A}
    assert trust.reasons(sha256(0), 0.0).keys() == frozenset()
    assert len(list(trust.entries(0.0))) == 4096


def test_blob_that_appears_in_time_makes_nobody_suspect(trust: Trust) -> None:
    give(trust, A, B)
    trust.committed(LAYER)
    assert trust.suspect_overdue(1e6) == 0
    assert trust.requested_again(LAYER, 1e6) == 0
    assert trust.reasons(LAYER, 1e6).keys() == frozenset()


def test_blob_that_does_not_appear_in_time_makes_every_source_suspect(trust: Trust) -> None:
    give(trust, A, stop=400, now_s=0.0)
    give(trust, B, C, start=400, now_s=5.0)
    assert trust.suspect_overdue(34.9) == 0, "its time runs from its last byte on"
    assert trust.suspect_overdue(35.0) == 3
    assert trust.reasons(LAYER, 35.0).keys() == {A, B, C}
    assert trust.reasons(LAYER, 35.0 + SUSPECT_S).keys() == frozenset()
    assert trust.suspect_overdue(1e6) == 0, "once"


def test_blob_that_is_asked_for_again_from_its_start_makes_every_source_suspect_at_once(trust: Trust) -> None:
    give(trust, A, B)
    assert trust.requested_again(LAYER, 1.0) == 2
    assert trust.reasons(LAYER, 1.0).keys() == {A, B}
    assert trust.requested_again(LAYER, 2.0) == 0


def test_blob_that_was_not_delivered_whole_says_nothing(trust: Trust) -> None:
    give(trust, A, stop=SIZE - 1)
    assert trust.suspect_overdue(1e6) == 0
    assert trust.requested_again(LAYER, 1e6) == 0


def test_parts_may_come_in_any_order_and_overlap(trust: Trust) -> None:
    for start, stop in ((600, 1000), (0, 300), (200, 500), (450, 700)):
        assert trust.suspect_overdue(1e6) == 0
        give(trust, A, start=start, stop=stop)
    assert trust.suspect_overdue(1e6) == 1


def test_nothing_delivered_is_no_part(trust: Trust) -> None:
    give(trust, A, start=500, stop=500)
    give(trust, B)
    trust.suspect_overdue(1e6)
    assert trust.reasons(LAYER, 1e6).keys() == {B}


def test_source_that_was_verified_on_the_way_is_not_suspect(trust: Trust) -> None:
    give(trust)
    assert trust.suspect_overdue(1e6) == 0


def test_blob_of_another_size_is_another_delivery(trust: Trust) -> None:
    give(trust, A, stop=900)
    give(trust, B, start=900, stop=2000, size_bytes=2000)
    assert trust.suspect_overdue(1e6) == 0


def test_nothing_is_concluded_before_anything_that_was_delivered_ever_appeared() -> None:
    """The client may keep its content elsewhere."""
    trust = Trust(commit_s=COMMIT_S, suspect_s=SUSPECT_S)
    give(trust, A)
    trust.committed(OTHER)  # it came in another way
    assert trust.suspect_overdue(1e6) == 0
    give(trust, A)
    assert trust.requested_again(LAYER, 1e6) == 0
    assert trust.reasons(LAYER, 1e6).keys() == frozenset()


def test_blob_that_was_perhaps_not_read_to_its_end_counts_the_second_time_only(trust: Trust) -> None:
    give(trust, A, taken=False)
    assert trust.requested_again(LAYER, 1.0) == 0
    give(trust, A, taken=False)
    assert trust.requested_again(LAYER, 2.0) == 1
    assert trust.reasons(LAYER, 2.0).keys() == {A}


def test_blob_that_appeared_after_the_first_doubt_is_beyond_it(trust: Trust) -> None:
    give(trust, A, taken=False)
    assert trust.suspect_overdue(100.0) == 0
    give(trust, A, taken=False, now_s=100.0)
    trust.committed(LAYER)
    give(trust, A, taken=False, now_s=200.0)
    assert trust.suspect_overdue(300.0) == 0


def test_peer_that_a_client_was_sent_to_is_judged_by_its_asking_again_only_and_the_second_time(
    trust: Trust,
) -> None:
    """This agent did not see that transfer."""
    trust.redirected(LAYER, A, size_bytes=SIZE)
    assert trust.suspect_overdue(1e6) == 0
    assert trust.requested_again(LAYER, 1e6) == 0
    trust.redirected(LAYER, A, size_bytes=SIZE)
    assert trust.requested_again(LAYER, 1e6) == 1
    assert trust.reasons(LAYER, 1e6).keys() == {A}


def test_peer_that_a_client_was_sent_to_is_cleared_when_the_blob_appears(trust: Trust) -> None:
    for _ in range(3):
        trust.redirected(LAYER, A, size_bytes=SIZE)
        trust.committed(LAYER)
        assert trust.requested_again(LAYER, 1.0) == 0


def test_peer_that_proved_well_may_be_asked_for_what_broke_off_but_stays_suspect(trust: Trust) -> None:
    trust.distrust(LAYER, A, 100.0)
    give(trust, A, digest=OTHER)
    assert trust.requested_again(OTHER, 0.0) == 1
    trust.served(A)
    assert trust.reasons(LAYER, 1.0).keys() == frozenset()
    assert trust.reasons(OTHER, 1.0).keys() == {A}


PARTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.sampled_from("abc")), max_size=20)


@given(parts=PARTS)
def test_blob_is_whole_exactly_when_every_byte_was_delivered(
    parts: list[tuple[int, int, str]],
) -> None:
    trust = Trust(commit_s=COMMIT_S, suspect_s=SUSPECT_S)
    give(trust, "z", digest=OTHER)
    trust.committed(OTHER)
    covered: set[int] = set()
    sources: set[str] = set()
    for start, stop, source in parts:
        give(trust, source, start=start, stop=stop, size_bytes=50)
        covered.update(range(start, stop))
        sources |= {source} if start < stop else set()
    whole = len(covered) == 50
    assert trust.suspect_overdue(COMMIT_S) == (len(sources) if whole else 0)
    assert trust.reasons(LAYER, COMMIT_S).keys() == (sources if whole else set())


def test_blob_that_appeared_before_its_delivery_had_ended_convicts_nobody(trust: Trust) -> None:
    trust.committed(LAYER)
    give(trust, A)
    assert trust.suspect_overdue(COMMIT_S + 1, holds=lambda digest: digest == LAYER) == 0
    assert trust.reasons(LAYER, COMMIT_S + 1).keys() == frozenset()


def test_peer_that_a_client_was_sent_to_in_vain_twice_is_suspect(trust: Trust) -> None:
    for suspects in (0, 1):
        trust.redirected(LAYER, A, size_bytes=SIZE)
        assert trust.suspect_overdue(10 * COMMIT_S) == 0, "it may take long"
        assert trust.requested_again(LAYER, 10 * COMMIT_S) == suspects
    assert trust.reasons(LAYER, 10 * COMMIT_S).keys() == {A}
