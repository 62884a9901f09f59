"""A few hundred mutated requests to every listener: the small version of ``python -m benchmarks.fuzz``."""

from collections.abc import Iterator

import pytest

from benchmarks.fuzz.listeners import NAMES, listener
from benchmarks.fuzz.run import attack
from benchmarks.fuzz.site import Site, running

from .agents import fresh_address

_CASES = 150


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The agents that are attacked."""
    with running(fresh_address(), fresh_address()) as made:
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_no_mutated_request_brings_about_more_than_an_answer_or_an_end(site: Site, name: str) -> None:
    with listener(name, site) as attacked:
        verdict = attack(attacked, range(_CASES), waiting=False)
    assert verdict.wrong == []
    assert verdict.cases == _CASES
    assert verdict.honest > 0
