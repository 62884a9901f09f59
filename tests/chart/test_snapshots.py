"""All that the chart renders for three clusters, as text: a change shows in the diff of these files.

Write them anew after a change that is meant: python -m tests.chart.test_snapshots
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import hooks, manifests
from tests.chart.samples import SAMPLES

_FOLDER = Path(__file__).parent / "snapshots"
SNAPSHOTS: dict[str, tuple[dict[str, Any], str]] = {
    "1.36.yaml": ({}, "1.36"),
    "1.24.yaml": ({}, "1.24"),
    "1.36-hostport.yaml": ({"network": "hostPort"}, "1.36"),
    "1.36-index.yaml": (SAMPLES["an index of the chart's own"], "1.36"),
}


def _text(name: str) -> str:
    values, version = SNAPSHOTS[name]
    every = [*manifests(values, version), *hooks(values, version)]
    every.sort(key=lambda each: (each["kind"], each["metadata"]["name"]))
    return yaml.safe_dump_all(every, width=110, sort_keys=False, explicit_start=True)


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_what_is_rendered_is_what_was_looked_at(name: str) -> None:
    assert _text(name) == (_FOLDER / name).read_text(encoding="utf-8")


def test_old_and_new_kubernetes_differ_in_what_they_know_only() -> None:
    """The probe is a sidecar, and a Service prefers the same node."""
    old, new = (
        set((_FOLDER / name).read_text(encoding="utf-8").splitlines()) for name in ("1.24.yaml", "1.36.yaml")
    )
    assert {line.strip() for line in new - old} == {
        "trafficDistribution: PreferSameNode",
        "restartPolicy: Always",
    }
    assert old - new == set()


if __name__ == "__main__":
    _FOLDER.mkdir(exist_ok=True)
    for file in SNAPSHOTS:
        (_FOLDER / file).write_text(_text(file), encoding="utf-8")
