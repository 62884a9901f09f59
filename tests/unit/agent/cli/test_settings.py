"""Where a command finds the settings: its arguments, or in a pod the environment."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.cli.settings import add_config, read_settings
from agent.config import Settings

_FILE = "node: {name: n1, address: 10.0.0.1}\nlog: {level: warning}\n"


def _read(environment: Mapping[str, str], *arguments: str, required: bool = True) -> Settings:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_config(parser, required=required, environment=environment)
    return read_settings(parser.parse_args(arguments))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "agent.yaml"
    path.write_text(_FILE)
    return str(path)


def test_environment_names_the_file(file: str) -> None:
    assert _read({"SHORTHAUL_CONFIG": file}).node.name == "n1"


def test_file_of_the_arguments_wins_over_the_environments(file: str) -> None:
    assert _read({"SHORTHAUL_CONFIG": "/nowhere"}, "--config", file).node.name == "n1"


def test_overrides_of_the_environment_come_before_those_of_the_arguments(file: str) -> None:
    environment = {
        "SHORTHAUL_CONFIG": file,
        "SHORTHAUL_SET": 'node.name="0x1f"\n\n node.address="fd00::1"\nlog.level=error\n',
    }
    settings = _read(environment, "--set", "log.level=debug")
    assert (settings.node.name, settings.node.address) == ("0x1f", "fd00::1")
    assert str(settings.listen.peer) == "[fd00::1]:30020"
    assert settings.log.level == "debug"


def test_empty_environment_is_none(file: str) -> None:
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        _read({"SHORTHAUL_CONFIG": "", "SHORTHAUL_SET": ""})
    assert _read({"SHORTHAUL_CONFIG": "", "SHORTHAUL_SET": ""}, "--config", file).log.level == "warning"
