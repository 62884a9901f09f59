"""What the ranges that containerd requests show about it, and how a layer is handed over to the registry."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.digest import Digest
from agent.oci.ranges import RangeSpec
from agent.pull.chunks import ChunkedLayers, Part, Unserved, is_first_chunk

LAYER, OTHER = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)
FIRST_CHUNK = RangeSpec(first=0, last=None)
LATER = RangeSpec(first=4096, last=None)
MIB = 1 << 20
BASE, CHUNK, SIZE = 1000, 16 * MIB, 100 * 16 * MIB


def opened(layers: ChunkedLayers, *starts: int, now_s: float = 0.0, digest: Digest = LAYER) -> list[Part]:
    """Requests from these bytes; the head of the first goes to containerd before the second comes."""
    parts = [layers.begin(digest, start, now_s) for start in starts[:1]]
    parts[0].answered(SIZE)
    return parts + [layers.begin(digest, start, now_s) for start in starts[1:]]


def chunked() -> ChunkedLayers:
    """Those of a containerd that was seen to fetch in chunks."""
    layers = ChunkedLayers()
    layers.note(FIRST_CHUNK)
    return layers


@pytest.mark.parametrize(
    ("spec", "first"),
    [
        (FIRST_CHUNK, True),
        (None, False),
        (LATER, False),
        (RangeSpec(first=0, last=9), False),
        (RangeSpec(first=None, last=9), False),
    ],
)
def test_open_range_from_the_start_is_the_first_chunk(spec: RangeSpec | None, first: bool) -> None:
    assert is_first_chunk(spec) is first


def test_containerd_fetches_whole_blobs_until_it_shows_otherwise() -> None:
    layers = ChunkedLayers()
    assert not layers.in_chunks
    layers.note(FIRST_CHUNK)
    assert layers.in_chunks
    layers.note(None)
    assert not layers.in_chunks


@pytest.mark.parametrize("known", [None, FIRST_CHUNK])
@pytest.mark.parametrize("spec", [LATER, RangeSpec(first=5, last=9), RangeSpec(first=None, last=9)])
def test_range_from_elsewhere_may_resume_a_blob_and_shows_nothing(
    known: RangeSpec | None, spec: RangeSpec
) -> None:
    layers = ChunkedLayers()
    layers.note(known)
    before = layers.in_chunks
    layers.note(spec)
    assert layers.in_chunks is before


def test_resume_of_a_containerd_that_does_not_fetch_in_chunks_has_no_pieces() -> None:
    (part,) = opened(ChunkedLayers(), BASE)
    assert not part.in_chunks
    assert part.piece_stop(BASE) is None
    assert part.pause_s(SIZE) == 0


def test_two_parallel_requests_show_the_size_of_a_chunk_at_once() -> None:
    layers = ChunkedLayers()
    first, second = opened(layers, BASE, BASE + CHUNK)
    assert layers.in_chunks
    assert (first.piece_stop(BASE), second.piece_stop(second.start)) == (BASE + CHUNK, BASE + 2 * CHUNK)


def test_until_then_a_little_is_fetched_at_a_time() -> None:
    (part,) = opened(chunked(), BASE)
    assert part.piece_stop(BASE) == BASE + MIB
    assert not part.is_chunk_end(BASE + MIB)
    assert 0 < part.pause_s(BASE + MIB) <= 0.1, "the next request may be on its way"
    part.stayed(BASE + MIB)
    assert part.piece_stop(BASE + MIB) == BASE + 2 * MIB
    assert part.pause_s(BASE + 2 * MIB) == 0
    assert part.piece_stop(BASE + 2 * MIB) == BASE + 4 * MIB


def test_piece_ends_where_the_chunk_ends_wherever_it_begins() -> None:
    layers = chunked()
    first, _ = opened(layers, BASE, BASE + CHUNK)
    assert first.piece_stop(BASE + MIB) == BASE + CHUNK
    assert first.piece_stop(BASE + CHUNK) == BASE + 2 * CHUNK


def test_next_layer_begins_with_the_chunk_size_of_the_last_one() -> None:
    layers = chunked()
    opened(layers, BASE, BASE + CHUNK)
    (part,) = opened(layers, 5, digest=OTHER)
    assert part.piece_stop(5) == 5 + CHUNK


def test_requests_that_come_in_another_order_show_the_same_chunk() -> None:
    layers = chunked()
    first, third, second = opened(layers, BASE, BASE + 2 * CHUNK, BASE + CHUNK)
    assert first.opening is second.opening is third.opening
    assert first.piece_stop(BASE) == BASE + CHUNK


def test_client_with_its_chunk_gets_a_moment_to_leave_and_then_all_it_reads() -> None:
    first, _ = opened(chunked(), BASE, BASE + CHUNK)
    assert first.is_chunk_end(BASE + CHUNK)
    assert first.pause_s(BASE + CHUNK) > 0
    assert first.pause_s(BASE + MIB) == 0
    first.stayed(BASE + CHUNK)
    assert first.pause_s(BASE + 2 * CHUNK) == 0
    assert first.piece_stop(BASE + CHUNK) is None


def test_request_that_opens_a_layer_may_be_answered_with_404_and_no_later_one() -> None:
    layers = chunked()
    first = layers.begin(LAYER, BASE, 0.0)
    assert first.opens
    assert first.unserved() is Unserved.NOT_FOUND
    first.answered(SIZE)
    second = layers.begin(LAYER, BASE + CHUNK, 0.0)
    assert not second.opens
    assert second.unserved() is Unserved.SEARCH


def test_only_the_lowest_request_under_way_hands_a_layer_over() -> None:
    # The reader is at the lowest one. The end of another one would cancel the lowest, which fails the pull.
    layers = chunked()
    parts = opened(layers, *(BASE + number * CHUNK for number in range(20)))
    assert [part.unserved() for part in parts] == [Unserved.HAND_OVER] + 19 * [Unserved.SEARCH]
    layers.end(parts[0], 1.0)
    assert [part.unserved() for part in parts[1:]] == [Unserved.HAND_OVER] + 18 * [Unserved.SEARCH]


def test_layer_is_not_handed_over_before_a_lower_request_that_is_still_to_come() -> None:
    layers = chunked()
    first, third, fourth = opened(layers, BASE, BASE + 2 * CHUNK, BASE + 3 * CHUNK)
    layers.end(first, 1.0)
    assert [part.unserved() for part in (third, fourth)] == 2 * [Unserved.SEARCH]
    second = layers.begin(LAYER, BASE + CHUNK, 1.0)
    assert [part.unserved() for part in (second, third)] == [Unserved.HAND_OVER, Unserved.SEARCH]


def test_layer_is_opened_again_after_it_was_handed_over_and_may_then_go_to_the_next_host() -> None:
    layers = chunked()
    parts = opened(layers, BASE, BASE + CHUNK, BASE + 2 * CHUNK)
    parts[0].cut(BASE + 5 * MIB)
    layers.end(parts[0], 1.0)
    again = layers.begin(LAYER, BASE + 5 * MIB, 1.1)  # where the FIN came
    assert again.opens
    assert again.unserved() is Unserved.NOT_FOUND
    assert parts[1].unserved() is Unserved.HAND_OVER, (
        "of the former opening; containerd is about to cancel it"
    )


def test_same_byte_again_opens_the_layer_again() -> None:
    layers = chunked()
    first, second = opened(layers, BASE, BASE + CHUNK)
    layers.end(first, 1.0)
    layers.end(second, 1.0)
    assert layers.begin(LAYER, BASE + CHUNK, 1.1).opens


def test_next_chunk_belongs_to_the_opening_although_no_other_is_under_way() -> None:
    layers = chunked()
    for part in opened(layers, BASE, BASE + CHUNK):
        layers.end(part, 100.0)  # slow ones
    assert not layers.begin(LAYER, BASE + 2 * CHUNK, 101.0).opens


def test_request_that_all_others_overtook_belongs_to_the_opening() -> None:
    layers = chunked()
    for part in opened(layers, BASE, BASE + 2 * CHUNK):
        layers.end(part, 5.0)
    late = layers.begin(LAYER, BASE + CHUNK, 5.1)
    assert not late.opens
    assert late.piece_stop(late.start) == BASE + 2 * CHUNK


def test_opening_is_forgotten_when_containerd_does_not_go_on() -> None:
    layers = chunked()
    for part in opened(layers, BASE, BASE + CHUNK):
        layers.end(part, 0.0)
    assert layers.begin(LAYER, BASE + 2 * CHUNK, 3600.0).opens


def test_resume_without_chunks_after_a_cut_opens_the_layer_again() -> None:
    layers = ChunkedLayers()
    (part,) = opened(layers, BASE)
    part.cut(BASE + MIB)
    layers.end(part, 1.0)
    again = layers.begin(LAYER, BASE + MIB, 1.0)
    assert again.opens
    assert not again.in_chunks


def test_two_clients_that_resume_the_same_layer_are_not_taken_for_chunks() -> None:
    layers = ChunkedLayers()
    first = layers.begin(LAYER, 5000, 0.0)
    second = layers.begin(LAYER, 7777, 0.0)
    assert second.opening is not first.opening
    assert not first.in_chunks


def test_layers_do_not_mix() -> None:
    layers = chunked()
    first = opened(layers, BASE, BASE + CHUNK)[0]
    assert layers.begin(OTHER, BASE + 2 * CHUNK, 0.0).opens
    assert first.unserved() is Unserved.HAND_OVER


def test_what_is_remembered_is_bounded() -> None:
    layers = chunked()
    for number in range(3000):
        digest = Digest(f"sha256:{number:064x}")
        layers.end(layers.begin(digest, BASE, 0.0), 0.0)
    assert len(layers._openings) <= 1024


@given(seed=st.integers(0, 2**32), chunk=st.sampled_from([65_536, MIB, CHUNK]), at_once=st.integers(2, 20))
def test_every_chunk_of_a_pull_is_known_as_one_whatever_the_order_and_each_new_opening_too(
    seed: int, chunk: int, at_once: int
) -> None:
    """containerd's requests begin in order, and come in nearly that order. Now and then it opens again."""
    dice = random.Random(seed)
    layers = chunked()
    at = dice.randint(1, 10 * chunk)
    for _ in range(4):
        base, under_way = at, [layers.begin(LAYER, at, 0.0)]
        assert under_way[0].opens
        under_way[0].answered(SIZE)
        numbers = list(range(1, dice.randint(2, 60)))
        for index in range(len(numbers) - 1):  # neighbours overtake each other
            if dice.random() < 0.3:
                numbers[index : index + 2] = reversed(numbers[index : index + 2])
        for number in numbers:
            part = layers.begin(LAYER, base + number * chunk, 0.0)
            assert not part.opens
            assert part.opening is under_way[0].opening
            under_way.append(part)
            if len(under_way) > at_once:
                layers.end(under_way.pop(dice.randrange(len(under_way))), 0.0)
        lowest = min(under_way, key=lambda part: part.start)
        assert lowest.unserved() is Unserved.HAND_OVER
        assert all(part.unserved() is Unserved.SEARCH for part in under_way if part is not lowest)
        at = lowest.start + dice.choice((0, dice.randint(1, chunk - 1)))
        lowest.cut(at)
        for part in under_way:
            layers.end(part, 0.0)


def test_pieces_of_a_whole_layer_are_its_bytes_once() -> None:
    layers = chunked()
    parts = opened(layers, *range(BASE, BASE + 10 * CHUNK, CHUNK))
    stops = [part.piece_stop(part.start) for part in parts]
    assert [stop for stop in stops if stop] == [part.start for part in parts[1:]] + [BASE + 10 * CHUNK]
    assert all(
        stop == after.start for stop, after in zip(stops, itertools.islice(parts, 1, None), strict=False)
    )
