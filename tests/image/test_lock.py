"""The lock file of the image beside that of development."""

import re
import tomllib

import pytest

from tools.image import ROOT


def pinned(name: str) -> dict[str, str]:
    """The version of each package in a lock file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+) \\$", (ROOT / name).read_text(), re.MULTILINE))


def test_the_image_has_the_versions_that_the_tests_run_with() -> None:
    tested, shipped = pinned("requirements.lock"), pinned("requirements-image.lock")
    assert shipped.items() <= tested.items()


def test_the_image_has_every_dependency_and_no_tool_of_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=\[]", each)[0].lower() for each in requirements}

    shipped = pinned("requirements-image.lock").keys()
    assert names(project["dependencies"]) <= shipped
    assert not names(project["optional-dependencies"]["dev"]) & shipped


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-image.lock"])
def test_every_package_is_pinned_by_its_hashes(name: str) -> None:
    blocks = re.split(r"\n(?=[\w.-]+==)", (ROOT / name).read_text())[1:]
    assert blocks
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
