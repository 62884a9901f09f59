"""What the ranges that containerd requests show about it."""

import pytest

from agent.oci.ranges import RangeSpec
from agent.pull.chunks import Chunking

FIRST_CHUNK = RangeSpec(first=0, last=None)
LATER = RangeSpec(first=4096, last=None)


def test_containerd_fetches_whole_blobs_until_it_shows_otherwise() -> None:
    assert not Chunking().is_chunk(LATER)


def test_open_range_from_the_start_shows_that_containerd_fetches_in_chunks() -> None:
    chunking = Chunking().after(FIRST_CHUNK)
    assert not chunking.is_chunk(FIRST_CHUNK), "it is answered with the whole layer"
    assert chunking.is_chunk(LATER)
    assert not chunking.is_chunk(None)


@pytest.mark.parametrize("known", [Chunking(in_chunks=False), Chunking(in_chunks=True)])
@pytest.mark.parametrize("spec", [LATER, RangeSpec(first=5, last=9), RangeSpec(first=None, last=9)])
def test_range_from_elsewhere_may_resume_a_blob_and_shows_nothing(known: Chunking, spec: RangeSpec) -> None:
    assert known.after(spec) == known


@pytest.mark.parametrize("spec", [None, RangeSpec(first=0, last=9)])
def test_whole_blob_or_closed_range_from_the_start_shows_that_it_does_not(spec: RangeSpec | None) -> None:
    assert Chunking(in_chunks=True).after(spec) == Chunking(in_chunks=False)
