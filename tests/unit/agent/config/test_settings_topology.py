"""The settings of labels, latency and costs: defaults, bounds, mistakes with hints, and the round trip."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from agent.config import Settings
from agent.config.load import ConfigError, dump_settings, load_settings
from agent.config.values import Labels, ZonePrice
from topology.labels import FINER_LEVELS, ZONE_LABEL

LEAST: dict[str, Any] = {"node": {"name": "node-1", "address": "10.0.0.1"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.yaml"


def load(path: Path, changes: object, *overrides: str) -> Settings:
    document = changes if isinstance(changes, str) else yaml.safe_dump({**LEAST, **changes})  # type: ignore[dict-item]
    path.write_text(document, encoding="utf-8")
    return load_settings(path, list(overrides))


def mistakes(path: Path, changes: dict[str, Any]) -> set[str]:
    """The keys with mistakes; every one has a hint."""
    with pytest.raises(ConfigError) as caught:
        load(path, changes)
    assert all(problem.message and problem.hint for problem in caught.value.problems)
    return {problem.key for problem in caught.value.problems}


def test_nothing_has_to_be_said_of_topology(path: Path) -> None:
    settings = load(path, {})
    assert settings.placement.labels == Labels()
    assert settings.placement.labels_file is None
    assert settings.topology.finer_levels == FINER_LEVELS
    assert settings.latency.measure is True
    assert settings.latency.interval_s < settings.latency.window_s
    assert (settings.costs.same_zone, settings.costs.pairs) == (0.0, ())


def test_labels_are_a_mapping_of_texts_and_numbers_are_texts(path: Path) -> None:
    settings = load(path, {"placement": {"labels": {ZONE_LABEL: "eu-a", "rack": 7}}})
    assert dict(settings.placement.labels.items) == {ZONE_LABEL: "eu-a", "rack": "7"}


def test_label_can_be_set_from_the_command_line(path: Path) -> None:
    settings = load(path, {}, "placement.labels={topology.kubernetes.io/zone: eu-a}")
    assert settings.placement.labels.items == ((ZONE_LABEL, "eu-a"),)


@pytest.mark.parametrize(
    "labels", ["a=b", ["a"], 7, None, {1: "a"}, {"": "a"}, {"a": True}, {"a": None}, {"a": []}]
)
def test_labels_that_are_none_are_a_mistake(path: Path, labels: object) -> None:
    assert mistakes(path, {"placement": {"labels": labels}}) == {"placement.labels"}


def test_labels_file_is_taken_from_the_files_directory(path: Path) -> None:
    settings = load(path, {"placement": {"labels_file": "podinfo/labels"}})
    assert settings.placement.labels_file == path.parent / "podinfo" / "labels"
    assert load(path, {"placement": {"labels_file": "/a"}}).placement.labels_file == Path("/a")


def test_levels_keep_their_order_and_may_be_none_at_all(path: Path) -> None:
    settings = load(path, {"topology": {"finer_levels": ["z", "a"]}})
    assert settings.topology.finer_levels == ("z", "a")
    assert load(path, {"topology": {"finer_levels": []}}).topology.finer_levels == ()


@pytest.mark.parametrize("levels", ["rack", [1], [""], ["a", "a"], ["zone"], ["region"], None, {"a": 1}])
def test_levels_that_are_none_are_a_mistake(path: Path, levels: object) -> None:
    assert mistakes(path, {"topology": {"finer_levels": levels}}) == {"topology.finer_levels"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("measure", "yes"),
        ("own_zone", -1),
        ("own_zone", 1.5),
        ("other_zones", True),
        ("connections_max", 10**9),
        ("interval_s", 0),
        ("interval_s", float("nan")),
        ("window_s", float("inf")),
        ("half_life_s", 0),
        ("rotate_s", 0),
        ("report_s", -1),
    ],
)
def test_latency_out_of_bounds_is_a_mistake(path: Path, key: str, value: object) -> None:
    assert mistakes(path, {"latency": {key: value}}) == {f"latency.{key}"}


def test_no_measuring_connections_at_all_can_be_configured(path: Path) -> None:
    latency = {"measure": False, "own_zone": 0, "other_zones": 0, "connections_max": 0}
    assert load(path, {"latency": latency}).latency.connections_max == 0


def test_prices_are_numbers_and_pairs_are_read(path: Path) -> None:
    pairs = [{"from": "eu/a", "to": "b", "usd_per_gb": 1}, {"from": 1, "to": 2, "usd_per_gb": 0}]
    costs = load(path, {"costs": {"cross_zone": 0, "pairs": pairs}}).costs
    assert costs.cross_zone == 0.0
    assert costs.pairs == (
        ZonePrice(source="eu/a", destination="b", usd_per_gb=1.0),
        ZonePrice(source="1", destination="2", usd_per_gb=0.0),
    )


@pytest.mark.parametrize("price", [-0.01, "0.01", True, None, float("nan"), float("inf"), 1001])
def test_price_that_is_none_is_a_mistake(path: Path, price: object) -> None:
    pair = {"from": "a", "to": "b", "usd_per_gb": price}
    document = {"costs": {"same_zone": price, "pairs": [pair]}}
    assert mistakes(path, document) == {"costs.same_zone", "costs.pairs"}


@pytest.mark.parametrize(
    "pairs",
    [None, {}, [7], [{}], [{"from": "a", "to": "b"}], [{"from": "a", "to": None, "usd_per_gb": 1}], ["a"]],
)
def test_pairs_that_are_none_are_a_mistake(path: Path, pairs: object) -> None:
    assert mistakes(path, {"costs": {"pairs": pairs}}) == {"costs.pairs"}


TEXT = st.sampled_from(
    ("a", "1", "no", "~", "", "a: b", "#", "zürich", "2024-01-01", "1e3", " x ", "a\nb", "\x01")
)
KEY = st.sampled_from((ZONE_LABEL, "rack", "1", "no", "a: b"))
LEVEL = st.sampled_from(("rack", "1", "no", "a: b"))
ZONE = st.sampled_from(("eu-a", "eu/eu-a", "1", "no", "null"))
AMOUNT = st.floats(0, 1000)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "placement": st.fixed_dictionaries(
            {"labels": st.dictionaries(KEY, TEXT), "labels_file": st.none() | st.just("labels")}
        ),
        "topology": st.fixed_dictionaries({"finer_levels": st.lists(LEVEL, unique=True)}),
        "latency": st.fixed_dictionaries(
            {
                "measure": st.booleans(),
                "own_zone": st.integers(0, 1000),
                "other_zones": st.integers(0, 1000),
                "connections_max": st.integers(0, 5000),
                "interval_s": st.floats(0.25, 60),
                "window_s": st.floats(180, 36000),
                "half_life_s": st.floats(0.1, 36000),
                "rotate_s": st.floats(0.1, 36000),
                "report_s": st.floats(0.1, 3600),
            }
        ),
        "costs": st.fixed_dictionaries(
            {
                "same_zone": AMOUNT,
                "cross_zone": AMOUNT,
                "cross_region": AMOUNT,
                "pairs": st.lists(
                    st.fixed_dictionaries({"from": ZONE, "to": ZONE, "usd_per_gb": AMOUNT}), max_size=3
                ),
            }
        ),
    },
)


@examples(max_examples=30)
@given(document=DOCUMENTS)
def test_settings_of_topology_that_are_dumped_load_to_the_same_from_anywhere(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    settings = load(tmp_path_factory.mktemp("one") / "agent.yaml", document)
    dumped = dump_settings(settings)
    assert load(tmp_path_factory.mktemp("two") / "agent.yaml", dumped) == settings
