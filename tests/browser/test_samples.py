"""The samples of the tests have the shape of the agent's own documents: no more keys, and no fewer."""

import importlib
import pkgutil
from dataclasses import is_dataclass
from typing import Any

import pytest

import agent.documents
from agent.documents.codec import decode, to_plain
from tests.browser import worlds
from tests.browser.played import SAMPLES, sample

NAMES = sorted(path.stem for path in SAMPLES.glob("*.json"))


def _documents() -> dict[str, Any]:
    """The documents by the last word of their path."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(agent.documents.__path__):
        for kind in vars(importlib.import_module(f"agent.documents.{module.name}")).values():
            path = getattr(kind, "PATH", None) if is_dataclass(kind) else None
            if isinstance(path, str):
                found[path.rpartition("/")[2]] = kind
    return found


@pytest.mark.parametrize("name", NAMES)
def test_sample_is_what_an_agent_would_say(name: str) -> None:
    kind, said = _documents()[name], sample(name)
    for document in said if isinstance(said, list) else [said]:
        assert to_plain(decode(kind, document)) == document


@pytest.mark.parametrize(("nodes", "zones"), [(1, 1), (24, 5), (300, 12)])
def test_made_up_cluster_is_what_an_agent_would_say(nodes: int, zones: int) -> None:
    for name, said in worlds.documents(nodes, zones).items():
        assert to_plain(decode(_documents()[name], said)) == said, name
