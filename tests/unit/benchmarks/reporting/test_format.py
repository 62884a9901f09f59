"""The one format of all benchmarks."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reporting.format import Figure, ReportInvalid, Section, Series, from_json, to_json
from tests.unit.benchmarks.reporting.reports import make_figure, make_report, make_section

_VALUES = st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=5).map(tuple)
_SERIES = st.builds(
    Series, way=st.text(max_size=5), values=_VALUES, histograms=st.just(()), samples=st.none()
)
_FIGURES = st.builds(
    Figure,
    what=st.text(max_size=9),
    unit=st.text(max_size=3),
    series=st.lists(_SERIES, max_size=3).map(tuple),
)
_SECTIONS = st.builds(
    Section,
    name=st.text(max_size=5),
    question=st.text(max_size=9),
    figures=st.lists(_FIGURES, max_size=3).map(tuple),
)


@settings(max_examples=25, deadline=None)
@given(
    sections=st.lists(_SECTIONS, max_size=3), problems=st.lists(st.text(max_size=9), max_size=2).map(tuple)
)
def test_report_is_the_same_after_it_was_a_file(sections: list[Section], problems: tuple[str, ...]) -> None:
    report = make_report(*sections, problems=problems)
    assert from_json(to_json(report), "file") == report


def test_values_of_a_figure_are_on_one_line_of_the_file() -> None:
    text = to_json(make_report(make_section(make_figure("f", [1.0, None, 2.5]))))
    assert '"values": [1.0, null, 2.5]' in text
    assert json.loads(text)["format"] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no JSON at all", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        ("[1, 2]", "is no report of these benchmarks"),
        ('{"kind": "another"}', "is no report of these benchmarks"),
        ('{"kind": "shorthaul-benchmark", "format": 99}', "has format 99, and this is format 1"),
        ('{"kind": "shorthaul-benchmark", "format": 1}', "is damaged: name: nothing in place of a text"),
    ],
)
def test_file_that_is_no_report_is_refused_in_words_with_a_hint(text: str | bytes, says: str) -> None:
    with pytest.raises(ReportInvalid) as refused:
        from_json(text, "old.json")
    assert f"old.json {says}" in str(refused.value)
    assert refused.value.hint
