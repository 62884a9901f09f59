"""Byte ranges: reading them, selecting by them, and writing them, by RFC 9110."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.errors import RangeInvalid
from agent.oci.ranges import ByteRange, RangeSpec, parse_content_range, parse_range, select

SIZES = st.integers(0, 10**12)
POSITIONS = st.integers(0, 10**12)


def spec(first: int | None, last: int | None) -> RangeSpec:
    return RangeSpec(first=first, last=last)


SPECS = st.one_of(
    st.builds(spec, POSITIONS, st.none()),
    st.builds(spec, st.none(), POSITIONS),
    st.tuples(POSITIONS, POSITIONS).map(lambda pair: spec(min(pair), max(pair))),
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", spec(0, 0)),
        ("bytes=0-499", spec(0, 499)),
        ("bytes=500-", spec(500, None)),
        ("bytes=-500", spec(None, 500)),
        ("bytes=-0", spec(None, 0)),
        ("Bytes=1-2", spec(1, 2)),
        ("bytes= 1-2 ", spec(1, 2)),
    ],
)
def test_single_range_is_read(header: str, expected: RangeSpec) -> None:
    assert parse_range(header) == expected


@pytest.mark.parametrize("header", [None, "items=0-5", "none", "bytes=0-1,5-9", "bytes=0-1, -9"])
def test_no_range_another_unit_and_several_ranges_select_the_whole(header: str | None) -> None:
    assert parse_range(header) is None
    assert select(parse_range(header), 100) is None


@pytest.mark.parametrize(
    "header",
    [
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=--5",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes=1 - 2",
        "bytes=0x1-2",
        "bytes=١-٢",
        "bytes=1.5-2",
        "bytes=" + "9" * 20 + "-",
    ],
)
def test_malformed_range_is_refused_and_not_answered_with_everything(header: str) -> None:
    with pytest.raises(RangeInvalid) as caught:
        parse_range(header)
    assert caught.value.status == 416
    assert caught.value.hint


@given(header=st.text() | st.text("bytes=-,0123456789 "))
def test_no_header_makes_parsing_fail_in_another_way(header: str) -> None:
    try:
        parsed = parse_range(header)
    except RangeInvalid:
        return
    assert parsed is None or parse_range(str(parsed)) == parsed


@given(wanted=SPECS)
def test_range_that_is_written_reads_back(wanted: RangeSpec) -> None:
    assert parse_range(str(wanted)) == wanted


@given(wanted=SPECS, size_bytes=SIZES)
def test_selection_is_what_python_slicing_says_or_416_with_the_size(
    wanted: RangeSpec, size_bytes: int
) -> None:
    # Slices of a range object are an independent account of "these bytes of so many".
    content = range(size_bytes)
    if wanted.first is None:
        expected = content[max(0, size_bytes - (wanted.last or 0)) :]
    elif wanted.last is None:
        expected = content[wanted.first :]
    else:
        expected = content[wanted.first : wanted.last + 1]
    if not size_bytes:
        assert select(wanted, size_bytes) is None  # as registries do
        return
    if not expected:
        with pytest.raises(RangeInvalid) as caught:
            select(wanted, size_bytes)
        assert caught.value.headers == {"Content-Range": f"bytes */{size_bytes}"}
        return
    selected = select(wanted, size_bytes)
    assert selected == ByteRange(start=expected.start, stop=expected.stop, size_bytes=size_bytes)
    assert selected.length == len(expected)


@given(wanted=SPECS, size_bytes=SIZES)
def test_content_range_that_is_written_reads_back(wanted: RangeSpec, size_bytes: int) -> None:
    try:
        selected = select(wanted, size_bytes)
    except RangeInvalid:
        return
    assert (selected is None) == (size_bytes == 0)
    if selected is None:
        return
    assert parse_content_range(selected.content_range) == selected


def test_suffix_longer_than_the_content_selects_all_of_it() -> None:
    assert select(spec(None, 500), 100) == ByteRange(start=0, stop=100, size_bytes=100)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes 0-9",
        "bytes 0-9/*",
        "bytes */10",
        "bytes 0-10/10",
        "bytes 5-4/10",
        "bytes=0-9/10",
        "items 0-9/10",
        " bytes 0-9/10",
        "bytes 0-9/10\n",
        "bytes ٠-٩/10",
    ],
)
def test_content_range_that_is_missing_malformed_or_contradicts_itself_is_none(header: str | None) -> None:
    assert parse_content_range(header) is None


@given(header=st.text("bytes 0123456789-/*"))
def test_content_range_that_is_read_lies_within_its_size(header: str) -> None:
    read = parse_content_range(header)
    assert read is None or 0 <= read.start < read.stop <= read.size_bytes
