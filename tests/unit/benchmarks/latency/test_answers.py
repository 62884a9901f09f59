"""One HTTP answer, as it comes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.latency.answers import Answer, AnswerInvalid

_WHOLE = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nabcde"


def _taken(*parts: bytes) -> Answer:
    answer = Answer()
    for part in parts:
        answer.take(memoryview(part))
    return answer


@given(cuts=st.lists(st.integers(0, len(_WHOLE)), max_size=5))
def test_answer_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(_WHOLE)]
    parts = [_WHOLE[begin:end] for begin, end in itertools.pairwise(borders) if begin < end]
    answer = _taken(*parts)
    assert (answer.status, answer.body_bytes, answer.began, answer.complete) == (200, 5, True, True)


def test_head_alone_is_no_first_byte_unless_there_is_no_body() -> None:
    head = _WHOLE[:-5]
    assert not _taken(head).began
    assert _taken(head.replace(b"5", b"0")).complete
    assert _taken(b"HTTP/1.1 304 Not Modified\r\n\r\n").complete


@pytest.mark.parametrize(("field", "keeps"), [(b"close", False), (b"keep-alive", True)])
def test_answer_says_whether_its_connection_stays(field: bytes, keeps: bool) -> None:
    answer = _taken(_WHOLE.replace(b"Server: x", b"Connection: " + field))
    assert answer.keeps is keeps


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        _WHOLE + b"f",
        b"x" * 70_000,
    ],
)
def test_what_is_no_answer_is_refused(text: bytes) -> None:
    with pytest.raises(AnswerInvalid):
        _taken(text)
