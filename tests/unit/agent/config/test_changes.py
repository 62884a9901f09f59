"""How two settings differ."""

from pathlib import Path

from agent.config import Settings
from agent.config.changes import adopted, changed_keys
from agent.config.load import make_settings


def settings(*overrides: str) -> Settings:
    least = {"node": {"name": "n", "address": "10.0.0.1"}}
    return make_settings(least, list(overrides), base=Path("/"))


def test_equal_settings_differ_in_nothing() -> None:
    assert list(changed_keys(settings(), settings())) == []


def test_each_key_that_differs_is_named_with_its_new_value() -> None:
    new = settings("log.level=debug", "tags.exclude=[rc]", "placement.zone=b")
    assert dict(changed_keys(settings(), new)) == {
        "placement.zone": "b",
        "tags.exclude": ("*:rc",),
        "log.level": "debug",
    }


def test_only_the_named_keys_are_adopted() -> None:
    new = settings("log.level=debug", "tags.exclude=[rc]")
    assert adopted(settings(), new, ["tags.exclude"]) == settings("tags.exclude=[rc]")
    assert adopted(settings(), new, ["tags.exclude", "log.level"]) == new
