"""The table of flavours, and how one is found by looking. Which of them were tried: docs/flavours.md."""

from pathlib import Path

import pytest

from agent.hosts.flavours import FLAVOURS, NAMES, Flavour, find_flavour, flavour
from tests.unit.twins import REPOSITORY_ROOT


@pytest.mark.parametrize("each", FLAVOURS, ids=NAMES)
def test_each_flavour_is_found_by_its_signs(each: Flavour) -> None:
    assert find_flavour(lambda path: path in each.signs) is each
    assert flavour(each.name) is each


def test_without_any_sign_it_is_plain_containerd() -> None:
    assert find_flavour(lambda path: False).name == "containerd"


def test_no_two_flavours_have_one_sign() -> None:
    signs = [sign for each in FLAVOURS for sign in each.signs]
    assert len(signs) == len(set(signs))
    assert all(each.signs for each in FLAVOURS[:-1])


@pytest.mark.parametrize("each", FLAVOURS, ids=NAMES)
def test_the_page_has_each_flavour_with_its_paths(each: Flavour) -> None:
    page = (REPOSITORY_ROOT / "docs/flavours.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| {each.name} |"))
    for path in (each.config, each.certs_d, each.socket, each.root):
        assert f"`{path}`" in row, f"{path} is not in the row of {each.name}"


def test_paths_are_absolute() -> None:
    for each in FLAVOURS:
        assert all(
            path.is_absolute() for path in (each.config, each.certs_d, each.socket, each.root, *each.signs)
        )
        assert isinstance(each.config, Path)
