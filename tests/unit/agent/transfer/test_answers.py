"""Which answers of a peer are valid, and which failure each invalid one counts as."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.digest import digest_of
from agent.oci.errors import OciError, RangeInvalid, SharedWithOthers, TooManyRequests
from agent.oci.ranges import ByteRange, RangeSpec, select
from agent.oci.reference import Addressed, Kind, Repository
from agent.oci.registry import Registry
from agent.peering.heads import ResponseHead
from agent.pull.arrival import Arrival, shared_headers
from agent.pull.events import Failure
from agent.transfer.answers import AttemptFailed, FetchRequest, check
from tests.unit.twins import make_policy, node, sha256

SIZE = 1000
MIDDLE = RangeSpec(first=200, last=499)
TO_END = RangeSpec(first=200, last=None)


def target(kind: Kind = Kind.BLOB, registry: str | None = None) -> Addressed:
    return Addressed(
        registry=None if registry is None else Registry(registry),
        repository=Repository("library/nginx"),
        kind=kind,
        digest=sha256("content"),
    )


def wanted(range_spec: RangeSpec | None = None, size_bytes: int | None = None) -> FetchRequest:
    return FetchRequest(target=target(), range_spec=range_spec, size_bytes=size_bytes)


def head(status: int, **headers: str | int) -> ResponseHead:
    fields = {name.lower().replace("_", "-"): str(value) for name, value in headers.items()}
    return ResponseHead(status=status, headers=fields, first=b"", keep_alive=True, ended=False)


def whole(size_bytes: int = SIZE) -> ResponseHead:
    return head(200, content_length=size_bytes)


def part(start: int, stop: int, size_bytes: int = SIZE, length: int | None = None) -> ResponseHead:
    content_range = f"bytes {start}-{stop - 1}/{size_bytes}"
    return head(206, content_length=stop - start if length is None else length, content_range=content_range)


EMPTY: dict[str, Any] = {"first": b"", "keep_alive": True, "ended": True}


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as they are read."""
    return {name.lower(): value for name, value in headers.items()}


def failure(answer: ResponseHead, asked: FetchRequest) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        check(answer, asked)
    return caught.value


def wait_after(answer: ResponseHead) -> float:
    """How long a pull waits after this answer of a busy peer, without the spread."""
    failed = failure(answer, wanted())
    return make_policy().busy_wait_s(failed.failure, failed.told_wait_s)


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        (FetchRequest(target=target()), f"/v2/library/nginx/blobs/{sha256('content')}"),
        (FetchRequest(target=target(Kind.MANIFEST)), f"/v2/library/nginx/manifests/{sha256('content')}"),
        (
            FetchRequest(target=target(registry="docker.io:443")),
            f"/v2/library/nginx/blobs/{sha256('content')}?ns=docker.io:443",
        ),
    ],
)
def test_url_names_what_is_wanted(asked: FetchRequest, path: str) -> None:
    assert asked.url_path == path


def test_whole_content_is_right_where_all_of_it_was_asked_for() -> None:
    assert check(whole(), wanted()) == (None, SIZE)
    assert check(whole(), wanted(size_bytes=SIZE)) == (None, SIZE)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [(MIDDLE, 200, 500), (TO_END, 200, 1000), (RangeSpec(first=None, last=300), 700, 1000)],
)
def test_part_is_right_where_exactly_that_was_asked_for(asked: RangeSpec, start: int, stop: int) -> None:
    expected = ByteRange(start=start, stop=stop, size_bytes=SIZE)
    assert check(part(start, stop), wanted(asked)) == (expected, SIZE)
    assert check(part(start, stop), wanted(asked, SIZE)) == (expected, SIZE)


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (whole(), wanted(MIDDLE)),
        (part(200, 500), wanted()),
        (part(201, 500), wanted(MIDDLE)),
        (part(200, 499), wanted(MIDDLE)),
        (part(200, 501), wanted(MIDDLE)),
        (part(200, 500, length=299), wanted(MIDDLE)),
        (part(200, 900), wanted(TO_END)),
        (part(500, 800, size_bytes=800), wanted(RangeSpec(first=800, last=None))),
        (head(206, content_length=300), wanted(MIDDLE)),
        (head(206, content_length=300, content_range="bytes 200-499/*"), wanted(MIDDLE)),
        (head(206, content_length=300, content_range="bytes 200-499/400"), wanted(MIDDLE)),
        (head(206, content_length=300, content_range="lines 200-499/1000"), wanted(MIDDLE)),
        (head(200), wanted()),
        (head(200, content_length="-5"), wanted()),
        (head(200, content_length="1e3"), wanted()),
        (head(200, content_length="1" * 20), wanted()),
        (head(200, content_length="٣"), wanted()),
        (head(200, content_length=0), wanted()),
        (head(200, content_length=SIZE, content_encoding="gzip"), wanted()),
        (head(200, content_length=SIZE, transfer_encoding="chunked"), wanted()),
        (head(200, transfer_encoding="chunked"), wanted()),
    ],
)
def test_answer_that_contradicts_what_was_asked_or_itself_is_invalid(
    answer: ResponseHead, asked: FetchRequest
) -> None:
    assert failure(answer, asked).failure is Failure.INVALID


def test_nothing_is_right_where_the_digest_is_that_of_nothing() -> None:
    empty = Addressed(
        registry=None, repository=Repository("a"), kind=Kind.BLOB, digest=digest_of(b"", like=sha256(1))
    )
    assert check(head(200, content_length=0), FetchRequest(target=empty)) == (None, 0)


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (whole(999), wanted(size_bytes=SIZE)),
        (part(200, 500, size_bytes=1001), wanted(MIDDLE, SIZE)),
        (head(416, content_range="bytes */400"), wanted(RangeSpec(first=500, last=None), SIZE)),
    ],
)
def test_other_size_than_a_manifest_says_is_told_apart_as_either_may_be_wrong(
    answer: ResponseHead, asked: FetchRequest
) -> None:
    assert failure(answer, asked).failure is Failure.OTHER_SIZE


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, Failure.MISSING),
        (429, Failure.BUSY),
        (401, Failure.ERROR),
        (416, Failure.ERROR),
        (500, Failure.ERROR),
        (503, Failure.ERROR),
        (302, Failure.ERROR),
        (204, Failure.ERROR),
    ],
)
def test_every_other_status_is_a_failure(status: int, expected: Failure) -> None:
    for asked in (wanted(), wanted(MIDDLE)):
        assert failure(head(status, content_length=SIZE), asked).failure is expected


def test_range_that_selects_nothing_says_how_large_the_content_is() -> None:
    beyond = RangeSpec(first=SIZE, last=None)
    failed = failure(head(416, content_range=f"bytes */{SIZE}"), wanted(beyond))
    assert (failed.failure, failed.size_bytes) == (Failure.UNSATISFIABLE, SIZE)


@pytest.mark.parametrize(
    ("content_range", "asked"),
    [
        (f"bytes */{SIZE}", wanted(MIDDLE)),
        (f"bytes */{SIZE}", wanted()),
        ("bytes */x", wanted(RangeSpec(first=SIZE, last=None))),
    ],
)
def test_416_to_what_is_satisfiable_is_just_an_error(content_range: str, asked: FetchRequest) -> None:
    failed = failure(head(416, content_range=content_range), asked)
    assert (failed.failure, failed.size_bytes) == (Failure.ERROR, None)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, 1.0),
        ({"retry_after": "3"}, 3.0),
        ({"retry_after": "3", "shorthaul_wait_ms": "250"}, 0.25),
        ({"retry_after": "3", "shorthaul_wait_ms": "soon"}, 3.0),
        ({"retry_after": "Fri, 01 Jan 2100 00:00:00 GMT"}, 1.0),
        ({"retry_after": "-1"}, 1.0),
        ({"retry_after": "0"}, 0.05),
        ({"shorthaul_wait_ms": "0"}, 0.05),
        ({"retry_after": "999999999"}, 60.0),
        ({"retry_after": "9" * 100}, 1.0),
    ],
)
def test_busy_peer_says_how_long_to_wait_within_bounds(headers: dict[str, str], wait_s: float) -> None:
    assert wait_after(head(429, **headers)) == wait_s


@given(wait_s=st.floats(0.0, 20.0))
def test_wait_that_an_agent_says_is_understood_by_another(wait_s: float) -> None:
    error: OciError = TooManyRequests("busy", wait_s=wait_s)
    answer = ResponseHead(
        status=429,
        headers={name.lower(): value for name, value in error.headers.items()},
        first=b"",
        keep_alive=True,
        ended=True,
    )
    assert wait_after(answer) == pytest.approx(max(wait_s, 0.05), abs=0.001)


SPECS = st.one_of(
    st.none(),
    st.builds(RangeSpec, first=st.integers(0, 60), last=st.none()),
    st.builds(RangeSpec, first=st.none(), last=st.integers(0, 60)),
    st.integers(0, 60).flatmap(
        lambda first: st.builds(RangeSpec, first=st.just(first), last=st.integers(first, 60))
    ),
)


@given(spec=SPECS, size_bytes=st.integers(1, 50), known=st.booleans())
def test_what_an_honest_peer_answers_is_always_right(
    spec: RangeSpec | None, size_bytes: int, known: bool
) -> None:
    asked = wanted(spec, size_bytes if known else None)
    try:
        selected = select(spec, size_bytes)
    except RangeInvalid as error:
        failed = failure(head(416, **error.headers), asked)
        assert (failed.failure, failed.size_bytes) == (Failure.UNSATISFIABLE, size_bytes)
    else:
        answer = (
            whole(size_bytes)
            if selected is None
            else part(selected.start, selected.stop, selected.size_bytes)
        )
        assert check(answer, asked) == (selected, size_bytes)


ANSWERS = st.builds(
    lambda status, length, start, stop, size: head(
        status, content_length=length, content_range=f"bytes {start}-{stop}/{size}"
    ),
    st.sampled_from((200, 206)),
    *(st.integers(0, 60) for _ in range(4)),
)


@given(answer=ANSWERS, spec=SPECS, known=st.one_of(st.none(), st.integers(0, 60)))
def test_answer_that_passes_promises_exactly_the_bytes_that_were_asked_for(
    answer: ResponseHead, spec: RangeSpec | None, known: int | None
) -> None:
    try:
        selected, size_bytes = check(answer, wanted(spec, known))
    except AttemptFailed:
        return
    assert selected == select(spec, size_bytes)
    assert int(answer.headers["content-length"]) == (selected.length if selected else size_bytes)
    assert known in (None, size_bytes)


FOLLOWING = FetchRequest(target=target(), follow=True)


def test_peer_that_is_not_ahead_yet_is_told_apart_from_one_that_has_nothing() -> None:
    arrival = Arrival(available_bytes=610, origin=node("first"), depth=2)
    failed = failure(ResponseHead(status=404, headers=lower(arrival.headers), **EMPTY), FOLLOWING)
    assert failed.failure is Failure.STARVED
    assert "610 bytes" in str(failed)
    assert failure(head(404), FOLLOWING).failure is Failure.MISSING


def test_peer_that_names_others_is_told_apart_from_one_that_is_busy() -> None:
    error = SharedWithOthers("no", told=shared_headers(map(node, ("one", "two"))))
    failed = failure(ResponseHead(status=429, headers=lower(error.headers), **EMPTY), FOLLOWING)
    assert (failed.failure, failed.instead) == (Failure.SHARED, ("one", "two"))
    assert failure(head(429, shorthaul_shared=" ,no name,"), FOLLOWING).failure is Failure.BUSY


def test_nobody_is_sent_on_or_told_to_wait_who_did_not_say_that_it_follows() -> None:
    assert failure(head(404, shorthaul_in_flight=1), wanted()).failure is Failure.MISSING
    assert failure(head(429, shorthaul_shared="one"), wanted()).failure is Failure.BUSY
