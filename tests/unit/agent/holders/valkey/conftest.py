"""A real server for each test that wants one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.lab.valkey import ValkeyServer


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server on loopback, without a password."""
    made = ValkeyServer(tmp_path / "valkey")
    yield made
    made.stop()
