"""What an agent's WebSocket may send."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bounds.frames import POLICY_VIOLATION, PROTOCOL_ERROR, TOO_BIG, FrameGuard, FrameRefused
from tests.frames import BINARY, CLOSE, PING, PONG, frame

_MOST_BYTES = 100_000
_TEXT, _CONTINUATION = 1, 0


def guard() -> FrameGuard:
    """A guard of a new connection."""
    return FrameGuard(message_max_bytes=_MOST_BYTES)


def code_of(data: bytes) -> int:
    """The code with which these bytes are refused."""
    with pytest.raises(FrameRefused) as refused:
        guard().feed(data, 0.0)
    return refused.value.code


def flags(data: bytes, bits: int) -> bytes:
    """A frame with further bits in its first byte."""
    return bytes([data[0] | bits]) + data[1:]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, _MOST_BYTES - 1])
def test_a_whole_message_of_any_length_is_let_through(length: int) -> None:
    one = guard()
    one.feed(frame(b"x" * length, masked=True), 0.0)
    assert one.unfinished_bytes == 0
    assert one.waiting_bytes > length
    one.take(length)
    assert one.waiting_bytes == 0


def test_a_message_that_is_too_long_is_refused_by_its_head_alone() -> None:
    assert code_of(frame(b"x" * _MOST_BYTES, masked=True)[:14]) == TOO_BIG
    assert code_of(b"\x82\xff" + b"\xff" * 8 + bytes(4)) == TOO_BIG


def test_fragments_are_refused_empty_ones_too() -> None:
    assert code_of(frame(b"x", masked=True, final=False)) == POLICY_VIOLATION
    assert code_of(frame(b"", opcode=_CONTINUATION, masked=True)) == POLICY_VIOLATION


@pytest.mark.parametrize("bits", [0x40, 0x20, 0x10])
def test_compressed_frames_and_those_of_extensions_are_refused(bits: int) -> None:
    assert code_of(flags(frame(b"x", masked=True), bits)) == PROTOCOL_ERROR


def test_a_frame_without_a_mask_is_refused() -> None:
    assert code_of(frame(b"x")) == PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [_TEXT, 3, 7, 11, 15])
def test_a_message_that_is_not_binary_is_refused(opcode: int) -> None:
    assert code_of(frame(b"x", opcode=opcode, masked=True)) == 1003


def test_a_control_frame_that_is_too_long_is_refused() -> None:
    assert code_of(frame(b"x" * 126, opcode=PING, masked=True)) == PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_a_few_control_frames_pass_and_a_flood_of_them_does_not(opcode: int) -> None:
    one = guard()
    one.feed(frame(b"hello", opcode=opcode, masked=True) * 32, 0.0)
    one.feed(frame(b"hello", opcode=opcode, masked=True) * 32, 11.0)
    with pytest.raises(FrameRefused):
        one.feed(frame(b"", opcode=opcode, masked=True), 11.0)


def test_an_unfinished_message_counts_byte_by_byte_until_it_is_whole() -> None:
    one, message = guard(), frame(b"x" * 200, masked=True)
    one.feed(message[:100], 0.0)
    assert one.unfinished_bytes == 100 - 8
    one.feed(message[100:], 0.0)
    assert one.unfinished_bytes == 0


_FRAMES = st.lists(
    st.one_of(
        st.binary(max_size=300).map(lambda payload: frame(payload, opcode=BINARY, masked=True)),
        st.binary(max_size=125).map(lambda payload: frame(payload, opcode=PING, masked=True)),
    ),
    max_size=20,
)


@given(_FRAMES, st.lists(st.integers(1, 40), min_size=1))
def test_how_the_bytes_are_cut_changes_nothing(frames: list[bytes], sizes: list[int]) -> None:
    data = b"".join(frames)
    whole, cut = guard(), guard()
    whole.feed(data, 0.0)
    at = 0
    for number in range(len(data)):
        if at >= len(data):
            break
        size = sizes[number % len(sizes)]
        cut.feed(data[at : at + size], 0.0)
        at += size
    assert (whole.waiting_bytes, whole.unfinished_bytes) == (cut.waiting_bytes, cut.unfinished_bytes)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_taken_and_nothing_else_happens(data: bytes) -> None:
    one = guard()
    with suppress(FrameRefused):
        one.feed(data, 0.0)
    assert one.unfinished_bytes <= len(data)
