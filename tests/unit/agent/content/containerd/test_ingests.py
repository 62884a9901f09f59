"""What containerd is writing now, by the directories of its ingests."""

import hashlib
from pathlib import Path

import pytest

from agent.content.containerd.ingests import Ingests
from tests.unit.twins import sha256

BLOB = sha256("blob")


def begin(root: Path, key: str) -> Path:
    ingest = root / hashlib.sha256(key.encode()).hexdigest()
    ingest.mkdir(parents=True)
    return ingest


@pytest.mark.parametrize("kind", ["layer", "config", "manifest", "index", "unknown"])
def test_every_kind_of_content_is_found_by_its_digest(tmp_path: Path, kind: str) -> None:
    ingest = begin(tmp_path, f"k8s.io/1/{kind}-{BLOB}")
    ingests = Ingests(tmp_path, "k8s.io")
    assert ingests.has(BLOB) is True
    assert ingests.has(sha256("other")) is False
    ingest.rmdir()
    assert ingests.has(BLOB) is False


def test_other_namespaces_are_other_clients(tmp_path: Path) -> None:
    begin(tmp_path, f"default/1/layer-{BLOB}")
    assert Ingests(tmp_path, "k8s.io").has(BLOB) is False


def test_directory_that_is_not_there_or_is_none_tells_nothing(tmp_path: Path) -> None:
    assert Ingests(tmp_path / "nowhere", "k8s.io").has(BLOB) is None
    (tmp_path / "file").write_text("")
    assert Ingests(tmp_path / "file", "k8s.io").has(BLOB) is None
