"""docs/threats.md and docs/attacks.md name tests that exist, and threats.md every page that it leads to."""

import re

import pytest

from tests.unit.twins import REPOSITORY_ROOT

_PAGE = (REPOSITORY_ROOT / "docs" / "threats.md").read_text()
_NAME = re.compile(r"`(?:tests/)?((?:[a-z0-9]+/)+test_[a-z_0-9]+\.py)(?:::([a-z_0-9]+))?`")
NAMED = sorted({*_NAME.findall(_PAGE), *_NAME.findall((REPOSITORY_ROOT / "docs" / "attacks.md").read_text())})


@pytest.mark.parametrize(("module", "test"), NAMED)
def test_a_test_that_is_named_exists(module: str, test: str) -> None:
    source = (REPOSITORY_ROOT / "tests" / module).read_text()
    assert not test or re.search(rf"^ *(?:async )?def {test}\(", source, re.MULTILINE), (
        f"{module} has no {test}"
    )


def test_each_attacker_has_a_test_or_says_why_there_is_none() -> None:
    assert len(NAMED) > 10


@pytest.mark.parametrize("page", sorted(set(re.findall(r"\]\(([a-z-]+\.md)\)", _PAGE))))
def test_a_page_that_is_linked_exists(page: str) -> None:
    assert (REPOSITORY_ROOT / "docs" / page).is_file()
