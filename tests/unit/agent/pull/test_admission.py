"""How many bodies go to peers at once, and which peers are refused for now."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.digest import Digest
from agent.pull.admission import KEPT_S, PARTS_MAX, Admission, Refused, Upload, uploads_fed
from agent.pull.chunks import LEAVES_S

MANY_BYTES = 10**12
LAYER, OTHER = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)
GIB, CHUNK_BYTES = 1 << 30, 16 << 20


def let_in(admission: Admission, peer: str, size_bytes: int = 1, now_s: float = 0.0) -> Upload:
    upload = admission.admit(peer, size_bytes, now_s)
    assert isinstance(upload, Upload), f"{peer} was refused"
    return upload


def refused(admission: Admission, peer: str, size_bytes: int = 1, now_s: float = 0.0) -> Refused:
    answer = admission.admit(peer, size_bytes, now_s)
    assert isinstance(answer, Refused), f"{peer} was let in"
    return answer


def test_uploads_are_let_in_up_to_the_number_and_refused_beyond_it() -> None:
    admission = Admission(uploads_max=3, bytes_max=MANY_BYTES)
    for peer in "abc":
        let_in(admission, peer)
    assert len(admission) == 3
    refused(admission, "d")
    assert admission.refused == 1
    assert {upload.peer for upload in admission} == {"a", "b", "c"}


def test_uploads_are_let_in_up_to_the_bytes_and_refused_beyond_them() -> None:
    admission = Admission(uploads_max=100, bytes_max=1000)
    for peer in "abc":
        let_in(admission, peer, 250)
    let_in(admission, "d", 249)
    refused(admission, "e", 2)
    let_in(admission, "e", 1)
    assert admission.left_bytes == 1000


def test_body_counts_for_a_quarter_at_most_however_large_it_is() -> None:
    admission = Admission(uploads_max=100, bytes_max=1000)
    for peer in "abcd":
        let_in(admission, peer, 10**9)
    refused(admission, "e", 1)
    assert admission.left_bytes == 4 * 10**9


def test_one_body_is_let_in_however_large_it_is() -> None:
    admission = Admission(uploads_max=1, bytes_max=10)
    upload = let_in(admission, "a", 10**9)
    refused(admission, "b")
    admission.ended(upload, 0.0)
    let_in(admission, "b", 10**9)


def test_bytes_that_went_make_room_and_so_does_an_end() -> None:
    admission = Admission(uploads_max=100, bytes_max=1000)
    uploads = [let_in(admission, peer, 250) for peer in "abcd"]
    refused(admission, "e", 100)
    admission.sent(uploads[0], 100)
    assert (admission.left_bytes, uploads[0].sent_bytes, uploads[0].left_bytes) == (900, 100, 150)
    let_in(admission, "e", 100)
    refused(admission, "f", 200)
    admission.ended(uploads[1], 0.0)
    admission.ended(uploads[1], 0.0)
    assert admission.left_bytes == 750
    assert len(admission) == 4
    let_in(admission, "f", 200)


def test_while_less_than_half_is_used_one_peer_may_have_it_all() -> None:
    admission = Admission(uploads_max=8, bytes_max=MANY_BYTES)
    for _ in range(4):
        let_in(admission, "greedy")
    let_in(admission, "other")
    refused(admission, "greedy")


@pytest.mark.parametrize("size_bytes", [1, 100])
def test_beyond_half_no_peer_has_more_than_an_equal_share(size_bytes: int) -> None:
    admission = Admission(uploads_max=12, bytes_max=12 * size_bytes)
    for peer in ("a", "a", "a", "a", "a", "a", "b", "c"):
        let_in(admission, peer, size_bytes)
    refused(admission, "a", size_bytes)
    let_in(admission, "b", size_bytes)


def test_last_quarter_is_for_those_who_have_none_yet() -> None:
    admission = Admission(uploads_max=8, bytes_max=MANY_BYTES)
    for _ in range(6):
        let_in(admission, "a")
    refused(admission, "a")
    let_in(admission, "b")
    refused(admission, "b")
    let_in(admission, "c")
    refused(admission, "d")


def test_peer_that_was_refused_a_moment_ago_counts_among_those_that_share() -> None:
    admission = Admission(uploads_max=4, bytes_max=MANY_BYTES)
    uploads = [let_in(admission, peer) for peer in "aaab"]
    refused(admission, "c", now_s=0.0)
    for upload in uploads[:2]:
        admission.ended(upload, 0.0)
    refused(admission, "a", now_s=1.0)
    let_in(admission, "a", now_s=10.0)  # c did not come back


def test_newcomer_is_let_in_where_there_is_any_room() -> None:
    admission = Admission(uploads_max=4, bytes_max=MANY_BYTES)
    for _ in range(3):
        admission.admit("a", 1, 0.0)
    let_in(admission, "b")


def test_asking_whether_there_would_be_room_takes_none_and_counts_as_refused_if_there_is_not() -> None:
    admission = Admission(uploads_max=1, bytes_max=MANY_BYTES)
    assert admission.would_refuse("a", 0.0) is None
    assert (len(admission), admission.refused) == (0, 0)
    let_in(admission, "a")
    assert isinstance(admission.would_refuse("b", 0.0), Refused)
    assert (len(admission), admission.refused) == (1, 1)


def test_wait_is_until_the_first_upload_ends_at_its_rate_so_far() -> None:
    admission = Admission(uploads_max=2, bytes_max=MANY_BYTES)
    slow, fast = let_in(admission, "a", 1000), let_in(admission, "b", 1000)
    admission.sent(slow, 100)
    admission.sent(fast, 250)
    assert refused(admission, "c", now_s=1.0).wait_s == pytest.approx(3.0)
    assert admission.would_refuse("c", 1.0) == refused(admission, "c", now_s=1.0)


def test_wait_has_bounds_and_a_guess_before_anything_was_sent() -> None:
    admission = Admission(uploads_max=1, bytes_max=MANY_BYTES)
    upload = let_in(admission, "a", 10**6)
    assert 0.05 <= refused(admission, "b", now_s=100.0).wait_s <= 10.0
    admission.sent(upload, 1)
    assert refused(admission, "b", now_s=100.0).wait_s == 10.0
    admission.sent(upload, 10**6 - 1)
    assert refused(admission, "b", now_s=100.0).wait_s == 0.05


def let_in_part(
    admission: Admission, peer: str, start: int, stop: int, now_s: float = 0.0, blob: Digest = LAYER
) -> Upload:
    answer = admission.admit(peer, stop - start, now_s, blob=blob, start=start, part=True)
    assert isinstance(answer, Upload), f"{peer} was refused"
    return answer


def test_five_nodes_may_each_fetch_a_layer_in_twenty_open_ended_chunks_from_one_holder() -> None:
    admission = Admission(uploads_max=32, bytes_max=8 * GIB)
    for peer in "abcde":
        for number in range(20):
            let_in_part(admission, peer, number * CHUNK_BYTES, GIB)
    assert len(admission) == 5, "the chunks of one layer for one node are one upload"
    assert len([*admission]) == 100
    assert admission.left_bytes == 5 * GIB, "open-ended chunks overlap, and their bytes are sent once"


def test_bounded_chunks_count_as_what_they_are_going_to_take() -> None:
    admission = Admission(uploads_max=32, bytes_max=8 * GIB)
    parts = [let_in_part(admission, "a", at, at + 100) for at in (0, 100, 300)]
    assert admission.left_bytes == 300
    admission.sent(parts[0], 60)
    assert admission.left_bytes == 240
    admission.ended(parts[2], 0.0)
    assert admission.left_bytes == 140


def test_further_chunk_of_a_blob_that_is_being_sent_is_let_in_although_there_is_no_room() -> None:
    admission = Admission(uploads_max=1, bytes_max=10)
    let_in_part(admission, "a", 0, 10)
    let_in_part(admission, "a", 10, 20)
    refused(admission, "a")
    refused(admission, "b")
    other_blob = admission.admit("a", 10, 0.0, blob=OTHER, start=0, part=True)
    assert isinstance(other_blob, Refused)
    other_peer = admission.admit("b", 10, 0.0, blob=LAYER, start=20, part=True)
    assert isinstance(other_peer, Refused)


def test_rest_of_a_whole_body_that_is_being_sent_is_let_in_and_a_second_whole_body_is_not() -> None:
    admission = Admission(uploads_max=1, bytes_max=MANY_BYTES)
    whole = admission.admit("a", 100, 0.0, blob=LAYER)
    assert isinstance(whole, Upload)
    assert isinstance(admission.admit("a", 100, 0.0, blob=LAYER), Refused)
    rest = let_in_part(admission, "a", 40, 100)
    assert admission.left_bytes == 100
    admission.ended(whole, 0.0)
    assert (len(admission), admission.left_bytes) == (1, 60)
    admission.ended(rest, 0.0)
    assert len(admission) == 0


def test_place_of_a_chunk_goes_to_no_other_peer_before_the_next_one_can_come() -> None:
    admission = Admission(uploads_max=1, bytes_max=MANY_BYTES)
    admission.ended(let_in_part(admission, "a", 0, 10), 5.0)
    assert len(admission) == 0
    refused(admission, "b", now_s=5.2)
    admission.ended(let_in_part(admission, "a", 10, 20, 5.2), 6.0)
    let_in(admission, "b", now_s=6.3)


def test_places_that_are_only_kept_refuse_no_other_peer_and_the_one_idle_longest_goes_first() -> None:
    admission = Admission(uploads_max=8, bytes_max=MANY_BYTES)
    for number in range(8):
        admission.ended(let_in_part(admission, f"peer {number}", 0, 10), number / 100)
    assert admission.would_refuse("late", 0.5) is None
    for number in range(7):
        let_in(admission, f"other {number}", now_s=0.5)
    let_in_part(admission, "peer 7", 10, 20, 0.5)
    refused(admission, "peer 0", now_s=0.5)


def test_places_that_are_only_kept_stay_if_their_removal_would_make_no_room() -> None:
    admission = Admission(uploads_max=100, bytes_max=8)
    admission.ended(let_in_part(admission, "a", 0, 1), 0.0)
    for peer in "bcde":
        let_in(admission, peer, 8, now_s=0.5)
    refused(admission, "f", 8, now_s=0.5)
    let_in_part(admission, "a", 1, 10, 0.5)


def test_wait_for_a_place_that_is_only_kept_is_until_it_may_be_taken() -> None:
    admission = Admission(uploads_max=1, bytes_max=MANY_BYTES)
    upload = let_in_part(admission, "a", 0, 10)
    admission.sent(upload, 10)
    admission.ended(upload, 1.0)
    answer = refused(admission, "b", now_s=1.1)
    assert answer.wait_s == pytest.approx(0.15)
    let_in(admission, "b", now_s=1.11 + answer.wait_s)


def test_place_is_kept_clearly_longer_than_a_client_is_waited_for_that_may_have_its_chunk() -> None:
    assert KEPT_S >= 2 * LEAVES_S
    admission = Admission(uploads_max=2, bytes_max=MANY_BYTES)
    admission.ended(let_in_part(admission, "a", 0, 10), 0.0)
    let_in(admission, "b")
    let_in_part(admission, "a", 10, 20, 1.5 * LEAVES_S)
    assert len(admission) == 2, "it had its place still"


def test_place_that_is_only_kept_makes_room_for_another_body_of_the_same_peer() -> None:
    admission = Admission(uploads_max=4, bytes_max=MANY_BYTES)
    for number, blob in enumerate((LAYER, OTHER)):
        admission.ended(let_in_part(admission, "a", number, number + 1, blob=blob), 0.0)
    for _ in range(3):
        let_in(admission, "a", now_s=0.1)


def test_hostile_peer_opens_no_endless_number_of_parts_on_one_place() -> None:
    admission = Admission(uploads_max=4, bytes_max=MANY_BYTES)
    let_in_part(admission, "a", 0, 10)
    answers = [admission.admit("a", 10, 0.0, blob=LAYER, start=0, part=True) for _ in range(10 * PARTS_MAX)]
    assert sum(isinstance(answer, Upload) for answer in answers) < 4 * PARTS_MAX
    let_in(admission, "b")


def test_wait_of_a_client_in_chunks_is_told_by_all_of_its_chunks() -> None:
    admission = Admission(uploads_max=1, bytes_max=MANY_BYTES)
    done, under_way = let_in_part(admission, "a", 0, 900), let_in_part(admission, "a", 900, 1000)
    admission.sent(done, 900)
    admission.ended(done, 1.0)
    admission.sent(under_way, 0)
    assert refused(admission, "b", now_s=9.0).wait_s == pytest.approx(1.0)


@given(seed=st.integers(0, 2**32), uploads_max=st.integers(1, 12), bytes_max=st.integers(1, 2000))
def test_bounds_hold_and_nothing_is_lost_whatever_is_asked(
    seed: int, uploads_max: int, bytes_max: int
) -> None:
    dice = random.Random(seed)
    admission = Admission(uploads_max=uploads_max, bytes_max=bytes_max)
    under_way: list[Upload] = []
    now_s, refusals = 0.0, 0
    for _ in range(60):
        now_s += dice.choice((0.0, 0.1, 3.0))
        if under_way and dice.random() < 0.5:
            upload = dice.choice(under_way)
            if dice.random() < 0.5:
                admission.sent(upload, dice.randint(0, upload.left_bytes))
            else:
                admission.ended(upload, now_s)
                under_way.remove(upload)
        else:
            peer, alone = dice.choice("abcd"), not under_way
            answer = admission.admit(peer, dice.randint(0, 300), now_s)
            if isinstance(answer, Upload):
                shares = Counter(upload.peer for upload in under_way)
                under_way.append(answer)
                if not alone:
                    assert len(under_way) <= uploads_max
                    assert sum(min(upload.left_bytes, bytes_max // 4) for upload in under_way) <= bytes_max
                    more_than_half = 2 * len(under_way) > uploads_max
                    if shares[peer] and more_than_half:
                        assert (shares[peer] + 1) * len(shares) <= uploads_max
                        assert len(under_way) <= uploads_max - uploads_max // 4
            else:
                assert not alone, "refused although nothing was under way"
                assert 0.05 <= answer.wait_s <= 10.0
                refusals += 1
        assert set(admission) == set(under_way)
        assert admission.left_bytes == sum(upload.left_bytes for upload in under_way)
        assert admission.refused == refusals


@pytest.mark.parametrize(
    ("upload_bytes_per_s", "floor_bytes_per_s", "uploads"),
    [(0, 1000, 64), (10_000, 0, 64), (10_000, 1000, 5), (1_000_000, 1000, 64), (1500, 1000, 1)],
)
def test_no_more_uploads_than_a_rate_limit_can_feed(
    upload_bytes_per_s: int, floor_bytes_per_s: int, uploads: int
) -> None:
    fed = uploads_fed(64, upload_bytes_per_s=upload_bytes_per_s, floor_bytes_per_s=floor_bytes_per_s)
    assert fed == uploads
