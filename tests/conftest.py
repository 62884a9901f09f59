"""How the tests are shared out among the workers of pytest-xdist, which `make test` starts.

Tests of one group run in one worker, one after the other. A module is a group, so that its fixtures are made
once. Tests that make all they need themselves are marked ``spread``: any worker may take any of them.
"""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
# The longest groups come first: what starts last should be short.
_FOLDERS = ("e2e", "probe", "server", "lab", "conformance", "unit")


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its group, and put the folders in their order."""
    items.sort(key=lambda item: _FOLDERS.index(_folder(item)))
    for item in items:
        if not any(item.iter_markers("spread")) and not any(item.iter_markers("xdist_group")):
            item.add_marker(pytest.mark.xdist_group(_group(item)))


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(_HERE).parts[0]


def _group(item: pytest.Item) -> str:
    return item.path.relative_to(_HERE).with_suffix("").as_posix().replace("/", ".")
