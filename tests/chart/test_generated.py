"""What is generated in the chart is up to date, and values.yaml describes every value."""

import json
import subprocess
import sys
from typing import Any

import yaml

from tests.chart.rendering import CHART
from tests.unit.twins import REPOSITORY_ROOT


def test_schema_and_readme_are_what_the_settings_and_values_make() -> None:
    command = [sys.executable, "tools/chart.py", "--check"]
    environment = {"PYTHONPATH": str(REPOSITORY_ROOT)}
    told = subprocess.run(
        command, cwd=REPOSITORY_ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


def _leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in values.items():
        nested = isinstance(value, dict) and value and key not in ("resources",)
        found += _leaves(value, f"{prefix}{key}.") if nested else [f"{prefix}{key}"]
    return found


def test_readme_has_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    assert [key for key in _leaves(values) if f"| `{key}` |" not in readme] == []
    assert "| `config.lookup.at_once` | `64` |" in readme


def test_schema_knows_every_value_and_no_other() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert set(schema["properties"]) == {*values, "global"}

    def compare(values: dict[str, Any], schema: dict[str, Any], at: str) -> None:
        known = schema.get("properties")
        for key, value in values.items():
            if isinstance(value, dict) and value and known and "properties" in known[key]:
                compare(value, known[key], f"{at}{key}.")
                if key != "resources":
                    assert set(known[key]["properties"]) == set(value), f"{at}{key}"

    compare(values, schema, "")


def test_chart_and_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = (REPOSITORY_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{chart["appVersion"]}"' in project
