"""Questions and replies between agents: they round-trip, and no message raises an undocumented error."""

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.content.offer import KnownTag
from agent.documents.codec import encode
from agent.holders.wire import (
    DIGESTS_MAX,
    QUESTION_MAX_BYTES,
    REPLY_MAX_BYTES,
    Flying,
    Question,
    Reply,
    ReplyInvalid,
    decode_question,
    decode_reply,
    encode_question,
    encode_reply,
)
from agent.oci.digest import Digest
from agent.oci.errors import OciError
from agent.oci.manifest import MEDIA_TYPES, Descriptor
from agent.oci.reference import Named
from tests.unit.agent.admin.test_cluster import FIGURES
from tests.unit.twins import descriptor, known_tag, named, node, sha256

SHA512 = Digest("sha512:" + "0123456789abcdef" * 8)
DIGESTS = st.sampled_from([SHA512, *(sha256(number) for number in range(20))])
NAMES = st.builds(
    named,
    repository=st.sampled_from(("library/nginx", "a", "acme/team/app")),
    tag=st.sampled_from(("1", "v1.2-rc_3", "latest")),
    registry=st.none() | st.sampled_from(("docker.io", "localhost:5000", "[fd00::1]:5000")),
)
QUESTIONS = st.builds(
    Question,
    digests=st.lists(DIGESTS, unique=True, max_size=8).map(tuple),
    tags=st.lists(NAMES, max_size=3).map(tuple),
)
KNOWN_TAGS = st.builds(
    KnownTag,
    name=NAMES.filter(lambda name: name.registry is not None),
    descriptor=st.builds(
        Descriptor,
        digest=DIGESTS,
        size_bytes=st.integers(0, 1 << 40),
        media_type=st.sampled_from(sorted(MEDIA_TYPES)),
    ),
    age_s=st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000),
    voucher=st.sampled_from(("a1", "node-1.example")).map(node),
    imported=st.booleans(),
)
QUESTION = Question(digests=(sha256("a"), sha256("b")), tags=(named(),))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | DIGESTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


NUMBERS = st.integers(0, 1 << 53)
FLYING = st.integers(0, 1 << 50).flatmap(
    lambda size_bytes: st.builds(
        Flying, available_bytes=st.integers(0, size_bytes), size_bytes=st.just(size_bytes)
    )
)


def read_reply(question: Question, body: bytes) -> Reply:
    """The reply in ``body`` to ``question``, whatever its number."""
    _, read = decode_reply(body)
    return read(question)


@given(number=NUMBERS, question=QUESTIONS)
def test_question_round_trips_with_its_number(number: int, question: Question) -> None:
    assert decode_question(encode_question(number, question)) == (number, question)


@given(number=NUMBERS, question=QUESTIONS, data=st.data())
def test_reply_round_trips_with_its_questions_number(
    number: int, question: Question, data: st.DataObject
) -> None:
    held = data.draw(st.sets(st.sampled_from(question.digests))) if question.digests else set()
    tags = data.draw(st.lists(KNOWN_TAGS, max_size=3))
    others = sorted(set(question.digests) - held)
    in_flight = data.draw(st.dictionaries(st.sampled_from(others), FLYING)) if others else {}
    reply = Reply(held=frozenset(held), tags=tuple(tags), in_flight=in_flight)
    repeated, read = decode_reply(encode_reply(number, question, reply))
    assert repeated == number
    assert read(question) == reply


def test_figures_round_trip_with_what_else_is_asked() -> None:
    question = replace(QUESTION, figures=True)
    assert decode_question(encode_question(3, question)) == (3, question)
    reply = Reply(held=frozenset({sha256("a")}), figures=FIGURES)
    assert read_reply(question, encode_reply(3, question, reply)) == reply


def test_figures_that_were_not_asked_for_are_not_read() -> None:
    body = encode_reply(3, QUESTION, Reply(figures=FIGURES))
    assert read_reply(QUESTION, body).figures is None


@pytest.mark.parametrize(
    "told", [None, 3, [], {}, {"version": 1}, {**json.loads(encode(FIGURES)), "uptime_s": "long"}]
)
def test_figures_of_another_form_are_none_and_do_not_spoil_the_reply(told: object) -> None:
    question = replace(QUESTION, figures=True)
    body = json.dumps({"number": 3, "held": [0], "tags": [], "figures": told}).encode()
    assert read_reply(question, body) == Reply(held=frozenset({sha256("a")}))


def test_figures_of_any_length_are_not_kept() -> None:
    question = replace(QUESTION, figures=True)
    long = replace(FIGURES.window, bytes_by_tier=FIGURES.window.bytes_by_tier * 1000)
    for hostile in (replace(FIGURES, window=long), replace(FIGURES, total=long)):
        assert read_reply(question, encode_reply(3, question, Reply(figures=hostile))).figures is None


def test_text_in_figures_is_short_and_has_no_control_characters() -> None:
    question = replace(QUESTION, figures=True)
    hostile = replace(FIGURES, version="\x1b[31m" + "v" * 10_000, why_not_ready="a\nb")
    found = read_reply(question, encode_reply(3, question, Reply(figures=hostile))).figures
    assert found is not None
    assert len(found.version) == 120
    assert "\x1b" not in found.version
    assert "\n" not in found.why_not_ready


def test_reply_says_nothing_of_digests_that_were_not_asked() -> None:
    reply = Reply(held=frozenset((sha256("a"), sha256("secret"))))
    assert read_reply(QUESTION, encode_reply(1, QUESTION, reply)).held == {sha256("a")}


def test_reply_of_an_agent_that_knows_nothing_of_flights_is_read_as_ever() -> None:
    assert read_reply(QUESTION, b'{"number":1,"held":[0],"tags":[]}').in_flight == {}


def test_reply_without_anything_in_flight_does_not_mention_it() -> None:
    assert b"flying" not in encode_reply(1, QUESTION, Reply(held=frozenset((sha256("a"),))))


def test_what_is_complete_is_not_in_flight() -> None:
    reply = read_reply(QUESTION, b'{"number":1,"held":[0],"tags":[],"flying":[[0,1,2],[1,1,2]]}')
    assert reply.held == {QUESTION.digests[0]}
    assert reply.in_flight == {QUESTION.digests[1]: Flying(available_bytes=1, size_bytes=2)}


@pytest.mark.parametrize(
    "entry",
    [
        "[-1,0,1]",
        "[9999,0,1]",
        "[1,2,1]",
        "[1,-1,1]",
        "[1,0.5,1]",
        "[1,true,1]",
        "[1,0]",
        "[1,0,1,2]",
        "7",
        '"abc"',
    ],
)
def test_reply_with_a_malformed_flight_is_invalid(entry: str) -> None:
    with pytest.raises(ReplyInvalid):
        read_reply(QUESTION, b'{"number":1,"held":[],"tags":[],"flying":[%b]}' % entry.encode())


def test_longest_question_and_reply_fit_into_their_limits() -> None:
    digests = tuple(Digest(f"sha512:{number:0128x}") for number in range(DIGESTS_MAX))
    question = Question(digests=digests)
    body = encode_question(1, question)
    assert len(body) <= QUESTION_MAX_BYTES
    assert decode_question(body) == (1, question)
    assert len(encode_reply(1, question, Reply(held=frozenset(digests)))) <= REPLY_MAX_BYTES
    flying = Flying(available_bytes=1 << 60, size_bytes=1 << 60)
    in_flight = Reply(in_flight=dict.fromkeys(digests, flying))
    assert len(encode_reply(1, question, in_flight)) <= REPLY_MAX_BYTES


@pytest.mark.parametrize("key", ["digests", "tags"])
def test_question_longer_than_the_limit_is_refused(key: str) -> None:
    each: object = sha256(0) if key == "digests" else ["docker.io", "a", "1"]
    with pytest.raises(OciError) as caught:
        decode_question(json.dumps({"number": 1, key: [each] * (DIGESTS_MAX + 1)}).encode())
    assert caught.value.status == 400
    assert str(DIGESTS_MAX) in caught.value.hint


def test_question_may_leave_out_what_it_does_not_ask() -> None:
    assert decode_question(b'{"number": 7}') == (7, Question())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"7",
        b"{",
        b"{}",
        b"[" * 100_000,
        b'{"number": "1"}',
        b'{"number": null}',
        b'{"number": 1, "digests": 7}',
        b'{"number": 1, "digests": null}',
        b'{"number": 1, "digests": [7]}',
        b'{"number": 1, "digests": ["sha256:../../etc/passwd"]}',
        b'{"number": 1, "tags": [7]}',
        b'{"number": 1, "tags": [["docker.io", "a"]]}',
        b'{"number": 1, "tags": [["docker.io", "../a", "1"]]}',
        b'{"number": 1, "tags": [["docker.io/x", "a", "1"]]}',
        b'{"number": 1, "tags": [["docker.io", "a", "!"]]}',
        b'{"number": 1, "tags": [[{}, [], null]]}',
        b'{"number": 1, "digests": [' + b"9" * 5000 + b"]}",
    ],
)
def test_body_that_is_no_question_is_refused(body: bytes) -> None:
    with pytest.raises(OciError):
        decode_question(body)


@given(body=st.binary() | JSON.map(lambda document: json.dumps(document).encode()))
def test_no_body_makes_decoding_a_question_fail_in_another_way(body: bytes) -> None:
    with contextlib.suppress(OciError):
        assert isinstance(decode_question(body)[1], Question)


@given(digests=JSON, tags=JSON | st.lists(st.lists(JSON, min_size=3, max_size=3), max_size=2))
def test_no_parts_make_decoding_a_question_fail_in_another_way(digests: object, tags: object) -> None:
    with contextlib.suppress(OciError):
        _, decoded = decode_question(json.dumps({"number": 1, "digests": digests, "tags": tags}).encode())
        assert all(isinstance(tag, Named) for tag in decoded.tags)


def reply_with(**changes: object) -> bytes:
    """A valid reply with one tag, in which some parts are changed."""
    parts: dict[str, object] = {
        "name": ["docker.io", "library/nginx", "1.27"],
        "digest": sha256("v1"),
        "size": 1234,
        "media_type": descriptor("v1").media_type,
        "age": 1.5,
        "voucher": "seer",
        "imported": False,
        **changes,
    }
    return json.dumps({"number": 1, "held": [0], "tags": [list(parts.values())]}).encode()


def test_reply_that_the_broken_ones_are_made_of_is_good() -> None:
    known = known_tag(age_s=1.5)
    assert read_reply(QUESTION, reply_with()) == Reply(held=frozenset((sha256("a"),)), tags=(known,))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"held": [], "tags": []}',
        b'{"number": "1", "held": [], "tags": []}',
        b'{"number": 1}',
        b"[" * 100_000,
        b'{"number": 1, "held": []}',
        b'{"number": 1, "tags": []}',
        b'{"number": 1, "held": 1, "tags": []}',
        b'{"number": 1, "held": [2], "tags": []}',
        b'{"number": 1, "held": [-1], "tags": []}',
        b'{"number": 1, "held": [0.5], "tags": []}',
        b'{"number": 1, "held": ["0"], "tags": []}',
        b'{"number": 1, "held": [null], "tags": []}',
        b'{"number": 1, "held": [1e30], "tags": []}',
        b'{"number": 1, "held": [' + b"9" * 30 + b'], "tags": []}',
        b'{"number": 1, "held": [], "tags": [7]}',
        b'{"number": 1, "held": [], "tags": [[]]}',
        reply_with(name=["docker.io", "library/nginx"]),
        reply_with(voucher=None),
        reply_with(voucher=""),
        reply_with(voucher="a1\r\nX: y"),
        reply_with(imported=0),
        reply_with(name=["docker.io", "Library", "1"]),
        reply_with(name=["docker.io", "a", "!"]),
        reply_with(digest="sha256:short"),
        reply_with(digest=None),
        reply_with(size=-1),
        reply_with(size="1"),
        reply_with(size=1.5),
        reply_with(media_type=None),
        reply_with(media_type="a\nb"),
        reply_with(age=-0.5),
        reply_with(age=float("nan")),
        reply_with(age="young"),
        reply_with(age=None),
        reply_with(age=10**400),
    ],
)
def test_body_that_is_no_reply_is_invalid(body: bytes) -> None:
    with pytest.raises(ReplyInvalid):
        read_reply(QUESTION, body)


@given(body=st.binary() | JSON.map(lambda document: json.dumps(document).encode()))
def test_no_body_makes_decoding_a_reply_fail_in_another_way(body: bytes) -> None:
    with contextlib.suppress(ReplyInvalid):
        assert isinstance(read_reply(QUESTION, body), Reply)


@given(part=st.sampled_from(("name", "digest", "size", "media_type", "age")), value=JSON)
def test_no_part_of_a_tag_makes_decoding_a_reply_fail_in_another_way(part: str, value: object) -> None:
    with contextlib.suppress(ReplyInvalid):
        (tag,) = read_reply(QUESTION, reply_with(**{part: value})).tags
        assert tag.age_s >= 0
        assert tag.descriptor.size_bytes >= 0


@given(held=JSON | st.lists(JSON, max_size=3))
def test_reply_never_claims_a_digest_that_was_not_asked(held: object) -> None:
    with contextlib.suppress(ReplyInvalid):
        decoded = read_reply(QUESTION, json.dumps({"number": 1, "held": held, "tags": []}).encode())
        assert decoded.held <= set(QUESTION.digests)
