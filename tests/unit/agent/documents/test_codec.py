"""Documents as JSON and back: they round-trip, and JSON of another shape is refused."""

import json
import math
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import UnionType
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.documents.api import ErrorDocument
from agent.documents.claims import ClaimsDocument
from agent.documents.cluster import ClusterDocument
from agent.documents.codec import DocumentInvalid, decode, encode, encode_parts, json_key
from agent.documents.doctor import DoctorReport
from agent.documents.events import BeatDocument, HelloDocument, NodesDocument
from agent.documents.explain import ExplainDocument
from agent.documents.flows import FlowsDocument
from agent.documents.history import HistoryDocument
from agent.documents.index import IndexDocument
from agent.documents.map import MapDocument
from agent.documents.overview import OverviewDocument
from agent.documents.pulls import PullsDocument
from agent.documents.reach import ReachDocument
from agent.documents.registries import RegistriesDocument
from agent.documents.requests import RequestDocument
from agent.documents.scrub import ScrubDocument
from agent.documents.topology import LatencyDocument, TopologyDocument
from agent.documents.transfers import CostsDocument, TransfersDocument

DOCUMENTS: tuple[type[Any], ...] = (
    BeatDocument,
    ClaimsDocument,
    ClusterDocument,
    CostsDocument,
    DoctorReport,
    ErrorDocument,
    ExplainDocument,
    FlowsDocument,
    HelloDocument,
    HistoryDocument,
    IndexDocument,
    LatencyDocument,
    MapDocument,
    NodesDocument,
    OverviewDocument,
    PullsDocument,
    ReachDocument,
    RegistriesDocument,
    RequestDocument,
    ScrubDocument,
    TopologyDocument,
    TransfersDocument,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A part of `Example`."""

    name: str = field(metadata=json_key("self"))
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A document with a field of each type."""

    text: str
    flag: bool
    count: int
    rtt_us: float
    cost_us: float | None
    pair: tuple[str, int]
    rows: tuple[tuple[float | None, ...], ...]
    entries: tuple[Entry, ...]
    nearest: Entry | None
    later: tuple[str, ...] = ()


EXAMPLE = Example(
    text="é\n",
    flag=True,
    count=3,
    rtt_us=1.5,
    cost_us=None,
    pair=("zone", 2),
    rows=((1.0, None), ()),
    entries=(Entry(name="a"), Entry(name="b", size_bytes=7)),
    nearest=Entry(name="c"),
    later=("x",),
)
PLAIN: dict[str, Any] = {
    "text": "é\n",
    "flag": True,
    "count": 3,
    "rtt_us": 1.5,
    "cost_us": None,
    "pair": ["zone", 2],
    "rows": [[1.0, None], []],
    "entries": [{"self": "a", "size_bytes": 0}, {"self": "b", "size_bytes": 7}],
    "nearest": {"self": "c", "size_bytes": 0},
    "later": ["x"],
}


def test_document_is_the_json_object_of_its_fields() -> None:
    assert json.loads(encode(EXAMPLE)) == PLAIN
    assert decode(Example, PLAIN) == EXAMPLE


def test_parts_make_the_same_text_as_the_whole() -> None:
    for document in (EXAMPLE, (EXAMPLE, EXAMPLE), (), Entry(name="alone")):
        assert "".join(encode_parts(document)) == encode(document)


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """All values of a field's type."""
    if isinstance(kind, type) and is_dataclass(kind):
        return st.builds(kind, **{each.name: any_of(each.type) for each in fields(kind)})
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        if rest == [...]:
            return st.lists(any_of(first), max_size=2).map(tuple)
        return st.tuples(any_of(first), *map(any_of, rest))
    if isinstance(kind, UnionType):
        return st.one_of(*(st.none() if each is type(None) else any_of(each) for each in get_args(kind)))
    return SCALARS[kind]


SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=5),
    bool: st.booleans(),
    int: st.integers(0, 2**64 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
@settings(max_examples=20)
@given(data=st.data())
def test_every_document_is_read_as_it_was_written(kind: type[Any], data: st.DataObject) -> None:
    document = data.draw(any_of(kind))
    text = encode(document)
    assert decode(kind, json.loads(text, parse_constant=pytest.fail)) == document
    assert "".join(encode_parts(document)) == text


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_number_that_is_not_finite_is_null(number: float) -> None:
    document = replace(EXAMPLE, rows=((number,),), rtt_us=number)
    plain = json.loads(encode(document), parse_constant=pytest.fail)
    assert (plain["rows"], plain["rtt_us"]) == ([[None]], None)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**400])
def test_number_that_is_not_finite_is_read_as_unknown_or_as_infinity(number: float) -> None:
    document = decode(Example, {**PLAIN, "rtt_us": number, "cost_us": number, "rows": [[number]]})
    assert (document.rtt_us, document.cost_us, document.rows) == (math.inf, None, ((None,),))


def test_missing_field_and_null_are_the_default() -> None:
    lacking = {key: value for key, value in PLAIN.items() if key not in ("cost_us", "nearest", "later")}
    for plain in (lacking, {**lacking, "cost_us": None, "nearest": None, "later": None}):
        document = decode(Example, plain)
        assert (document.cost_us, document.nearest, document.later) == (None, None, ())


def test_unknown_keys_are_ignored() -> None:
    assert decode(Example, {**PLAIN, "new": [1]}) == EXAMPLE


def test_every_text_is_passed_through_the_given_function() -> None:
    document = decode(Example, PLAIN, text=str.upper)
    assert (document.text, document.pair, document.entries[0].name, document.later) == (
        "É\n",
        ("ZONE", 2),
        "A",
        ("X",),
    )


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"text": 1}, "text"),
        ({"text": None}, "text"),
        ({"flag": 1}, "flag"),
        ({"count": True}, "count"),
        ({"count": 1.0}, "count"),
        ({"count": 1 << 65}, "count"),
        ({"rtt_us": "1"}, "rtt_us"),
        ({"rtt_us": True}, "rtt_us"),
        ({"cost_us": "1"}, "cost_us"),
        ({"pair": ["zone"]}, "pair"),
        ({"rows": [1]}, "rows"),
        ({"entries": {}}, "entries"),
        ({"entries": [{"name": "a"}]}, "entries: self"),
        ({"nearest": []}, "nearest"),
        ({"later": [None]}, "later"),
    ],
)
def test_value_of_another_type_is_refused_and_the_error_says_where(
    change: dict[str, Any], where: str
) -> None:
    with pytest.raises(DocumentInvalid, match=f"^{where}: "):
        decode(Example, {**PLAIN, **change})


@pytest.mark.parametrize("value", [None, [], 1, "text"])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(DocumentInvalid):
        decode(Example, value)
