"""A node for each test. Without root they fail: what they claim was not shown."""

import os
from collections.abc import Iterator

import pytest

from .places import Place


@pytest.fixture
def place() -> Iterator[Place]:
    """A namespace and a cgroup, empty."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for eBPF and network namespaces: run `make test` as root")
    with Place() as made:
        yield made
