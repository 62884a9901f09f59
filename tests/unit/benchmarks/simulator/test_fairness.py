"""Rates are max-min fair, as the slow textbook algorithm has them."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulator.fairness import max_min

LINKS = 6
bodies = st.lists(
    st.tuples(st.lists(st.integers(0, LINKS - 1), min_size=1, max_size=3, unique=True), st.integers(0, 60)),
    max_size=12,
)
capacities = st.lists(st.integers(0, 100), min_size=LINKS, max_size=LINKS)


def slow_max_min(limits: list[int], ways: list[list[int]], capacity: list[int]) -> list[Fraction]:
    """All rates grow together; a body stops at its limit, or when one of its links is full."""
    rates = [Fraction(0)] * len(limits)
    growing = set(range(len(limits)))
    while growing:
        steps = [Fraction(limits[body]) - rates[body] for body in growing]
        for link, most in enumerate(capacity):
            number = sum(link in ways[body] for body in growing)
            if number:
                used = sum((rate for body, rate in enumerate(rates) if link in ways[body]), Fraction(0))
                steps.append((most - used) / number)
        for body in growing:
            rates[body] += min(steps)
        full = {
            link
            for link, most in enumerate(capacity)
            if sum((rate for body, rate in enumerate(rates) if link in ways[body]), Fraction(0)) == most
        }
        growing = {body for body in growing if rates[body] < limits[body] and not full & {*ways[body]}}
    return rates


def fast(
    limits: list[int], ways: list[list[int]], capacity: list[int], *, rounds_max: int = 1000
) -> list[float]:
    table = np.array([[*way, *[LINKS] * (3 - len(way))] for way in ways], dtype=np.intp).reshape(-1, 3).T
    most, room = np.array(limits, dtype=float), np.array([*capacity, np.inf], dtype=float)
    rates = max_min(most, table, room, rounds_max=rounds_max)
    return [float(rate) for rate in rates]


@given(bodies, capacities)
def test_rates_are_those_of_progressive_filling(
    bodies: list[tuple[list[int], int]], capacity: list[int]
) -> None:
    ways, limits = [way for way, _ in bodies], [limit for _, limit in bodies]
    expected = [float(rate) for rate in slow_max_min(limits, ways, capacity)]
    np.testing.assert_allclose(fast(limits, ways, capacity), expected, rtol=1e-6, atol=1e-6)


@given(bodies, capacities, st.integers(1, 3))
def test_rates_that_are_cut_short_are_feasible(
    bodies: list[tuple[list[int], int]], capacity: list[int], rounds: int
) -> None:
    ways, limits = [way for way, _ in bodies], [limit for _, limit in bodies]
    rates = fast(limits, ways, capacity, rounds_max=rounds)
    for link, most in enumerate(capacity):
        assert (
            sum(rate for rate, way in zip(rates, ways, strict=True) if link in way)
            <= most * (1 + 1e-6) + 1e-6
        )
    assert all(0 <= rate <= limit for rate, limit in zip(rates, limits, strict=True))
