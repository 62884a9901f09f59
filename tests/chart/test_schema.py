"""The chart's schema and the agent's own parsers agree on what a setting may be."""

import dataclasses
from collections.abc import Callable
from typing import Any

import helm_python
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.config import values
from agent.config.settings import Settings
from agent.config.values import InvalidValue
from tests.chart.rendering import chart
from tools.chart import OWNED, SCHEMAS

Parser = Callable[[object], object]


def _settings(cls: type = Settings, prefix: str = "") -> dict[str, Parser]:
    found: dict[str, Parser] = {}
    for entry in dataclasses.fields(cls):
        key, nested = f"{prefix}{entry.name}", entry.metadata.get("group")
        if key not in OWNED:
            found |= _settings(nested, f"{key}.") if nested else {key: entry.metadata["parse"]}
    return found


SETTINGS = _settings()
_LOOSE = (values.parse_patterns, values.parse_tag_patterns)
"""Parsers that refuse more than a schema can say. The agent says it at its start."""

_WORDS = (
    *("", "a", "::1:80", "127.0.0.1:30020", "[fd00::1]:1", "10.0.0.1:65536", "localhost:1", "relay", "info"),
    *("docker.io/*", "*:v1.*", "https://a.b/c", "nginx", "localhost", "localhost:5000", "a.b:5000", "rc-*"),
    *(
        "scatter",
        "/a",
        "zone",
        "topology.kubernetes.io/zone",
        "shorthaul.svc",
        "a b",
        "a\nb",
        'a"b',
        "x" * 300,
    ),
)
_PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**53),
    st.integers(-2, 2000),
    st.floats(-1, 1e9).filter(lambda number: number != int(number)),  # 3.0 is 3 once Helm has had it
    st.sampled_from(_WORDS),
    st.text(max_size=8),
)
_PRICES = st.fixed_dictionaries(
    {"from": _PLAIN, "to": st.sampled_from(_WORDS)}, optional={"usd_per_gb": _PLAIN, "more": _PLAIN}
)
_ANYTHING = st.one_of(
    _PLAIN,
    st.lists(_PLAIN, max_size=3),
    st.lists(st.sampled_from(_WORDS), max_size=3),
    st.lists(_PRICES, max_size=2),
    st.dictionaries(st.sampled_from(_WORDS), _PLAIN, max_size=3),
)


def _helm_takes(key: str, value: object) -> bool:
    config: Any = value
    for name in reversed(key.split(".")):
        config = {name: config}
    try:
        chart().validate_schema({"config": config})
    except helm_python.HelmValuesError:
        return False
    return True


def _agent_takes(parse: Parser, value: object) -> bool:
    try:
        parse(value)
    except InvalidValue:
        return False
    return True


def test_every_parser_of_a_setting_has_its_schema() -> None:
    assert not [
        key
        for key, parse in SETTINGS.items()
        if not isinstance(parse, values.NumberParser) and parse not in SCHEMAS
    ]


def test_what_the_chart_sets_itself_is_a_setting_or_a_group() -> None:
    known = {".".join(key.split(".")[:depth]) for key in _every() for depth in (1, 2, 3)}
    assert not OWNED.keys() - known


def _every(cls: type = Settings, prefix: str = "") -> list[str]:
    found: list[str] = []
    for entry in dataclasses.fields(cls):
        nested = entry.metadata.get("group")
        key = f"{prefix}{entry.name}"
        found += _every(nested, f"{key}.") if nested else [key]
    return found


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(sorted(SETTINGS)), value=_ANYTHING)
@example(key="registries.include", value=["docker.io/* ", "localhost", "localhost:5000", "a.b:5000", "*"])
@example(key="tags.exclude", value=["rc-*", "latest", "*:stable", "ghcr.io/acme/*"])
@example(key="transfer.upload_bytes_per_s", value=0)
@example(key="transfer.upload_bytes_per_s", value=131072)
@example(key="costs.pairs", value=[{"from": "a", "to": 1, "usd_per_gb": 0}])
@example(key="probe.services", value=["[::1]:80", "10.0.0.1:00080"])
def test_schema_takes_whatever_the_agent_takes(key: str, value: object) -> None:
    if value is not None and _agent_takes(SETTINGS[key], value):  # null takes a value away, in Helm
        assert _helm_takes(key, value)


@settings(max_examples=150, deadline=None)
@given(
    key=st.sampled_from(sorted(key for key, parse in SETTINGS.items() if parse not in _LOOSE)),
    value=_ANYTHING,
)
@example(key="transfer.upload_bytes_per_s", value=131071)
@example(key="probe.services", value=["10.0.0.256:80"])
@example(key="probe.services", value=["10.0.0.1:65536"])
@example(key="topology.finer_levels", value=["zone"])
@example(key="topology.finer_levels", value=["a", "a"])
@example(key="lookup.at_once", value=True)
@example(key="placement.zone", value='a"b')
def test_agent_takes_whatever_the_schema_takes(key: str, value: object) -> None:
    if value is not None and _helm_takes(key, value):
        assert _agent_takes(SETTINGS[key], value)


@pytest.mark.parametrize(
    "pattern",
    [
        "nginx",
        "nginx:1.2",
        "reg:5000",
        "https://ghcr.io",
        "docker.io/.*",
        "a.b/c@sha256:00",
        "!a.b",
        "/a",
        "a.b, c.d",
        "a.b/(x|y)",
    ],
)
def test_schema_knows_the_usual_mistakes_in_patterns(pattern: str) -> None:
    assert not _agent_takes(values.parse_patterns, [pattern])
    assert not _helm_takes("registries.include", [pattern])
