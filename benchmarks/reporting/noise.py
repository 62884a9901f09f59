"""Whether a figure changed, or only its noise. Pure.

Two runs give a few values each, one per repeat. Times are multiples of each other more than sums, so positive
values are compared by their logarithms. Welch's t-test, which needs no equal spreads, gives a probability
that two equal things differ as much; heavy tails and slow drifts make it say "noise" more often, not less.
Of many figures a twentieth would be called changed by chance. Benjamini and Hochberg's rule bounds that: of
two runs of the same thing, at most one comparison in twenty names any figure at all, however many it has.

A probability says nothing about size. A change must also be larger than what the machine itself changed
between the runs, and than `FLOOR`: what is smaller depends on where the linker put a function.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

FLOOR = 0.03
"""A change below this share is never called one."""

FALSE_ALARMS = 0.05
"""How often, at most, two runs of the same thing may be said to differ."""

SUSPICION = 0.01
"""Equal things differ as much in one of a hundred figures: worth a look, and no verdict."""

ENOUGH = 5
"""So many values each are needed before noise can be told from change.

A thing that is now fast, now slow, as memory happens to lie, is three times fast and then three times slow in
one of 32 comparisons. No test of three values can see that.
"""

FEW = 3
"""With so many values there is an interval, and a word of caution in place of a verdict."""

_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How much larger the new values are: 0.2 is a fifth more.

    ``low``, ``high``: the change is between these with a probability of 95 %; None: there are too few values
    to say. ``chance``: the probability that two equal things differ as much; None likewise. ``exact``: both
    sides have the same count each time, so that any difference is one. ``repeats``: of the side with fewer.
    """

    old: float
    new: float
    ratio: float
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    exact: bool = False
    repeats: int = 1


def change(old: Sequence[float], new: Sequence[float], *, counted: bool = False) -> Change | None:
    """What changed between the values of two runs. None if one has no value.

    ``counted``: they are counts. What is measured in coarse steps is often the same twice, too, and then a
    difference of one step says nothing.
    """
    if not old or not new:
        return None
    if counted and min(len(old), len(new)) >= 2 and len({*old}) == len({*new}) == 1:
        return _exact(old[0], new[0], min(len(old), len(new)))
    if min(*old, *new) > _TINY:
        return _of_logarithms(old, new)
    return _of_differences(old, new)


def _exact(old: float, new: float, repeats: int) -> Change:
    ratio = _ratio(old, new)
    same = abs(new - old) <= _TINY * max(abs(old), abs(new), 1.0)
    return Change(
        old=old,
        new=new,
        ratio=ratio,
        low=ratio,
        high=ratio,
        chance=1.0 if same else 0.0,
        exact=True,
        repeats=repeats,
    )


def _of_logarithms(old: Sequence[float], new: Sequence[float]) -> Change:
    found = welch([math.log(each) for each in old], [math.log(each) for each in new])
    middles = statistics.median(old), statistics.median(new)
    if found is None:
        return Change(old=middles[0], new=middles[1], ratio=_ratio(*middles))
    return Change(
        old=middles[0],
        new=middles[1],
        ratio=math.expm1(found.difference),
        low=math.expm1(found.difference - found.margin),
        high=math.expm1(found.difference + found.margin),
        chance=found.chance,
        repeats=min(len(old), len(new)),
    )


def _of_differences(old: Sequence[float], new: Sequence[float]) -> Change:
    """Of values that may be 0 or below: how much more, as a share of the old mean."""
    found = welch(old, new)
    middles = statistics.median(old), statistics.median(new)
    base = abs(statistics.fmean(old))
    if found is None or base <= _TINY:
        return Change(
            old=middles[0],
            new=middles[1],
            ratio=_ratio(*middles),
            chance=None if found is None else found.chance,
        )
    return Change(
        old=middles[0],
        new=middles[1],
        ratio=found.difference / base,
        low=(found.difference - found.margin) / base,
        high=(found.difference + found.margin) / base,
        chance=found.chance,
        repeats=min(len(old), len(new)),
    )


def _ratio(old: float, new: float) -> float:
    if abs(old) <= _TINY:
        return 0.0 if abs(new) <= _TINY else math.copysign(math.inf, new)
    return (new - old) / abs(old)


def changed(changes: Sequence[Change | None], floor: float = FLOOR) -> list[bool]:
    """Which of the changes are larger than noise. ``floor``: what a change must exceed, as a share."""
    chances = [None if each is None or not _enough(each) else each.chance for each in changes]
    return [
        likely and each is not None and _exceeds(each, floor)
        for each, likely in zip(changes, false_discoveries(chances), strict=True)
    ]


def suspected(found: Change, floor: float = FLOOR) -> bool:
    """Whether a change looks larger than noise, if it was the only figure, or if repeats were enough."""
    return found.chance is not None and found.chance <= SUSPICION and _exceeds(found, floor)


def _enough(found: Change) -> bool:
    return found.exact or found.repeats >= ENOUGH


def _exceeds(found: Change, floor: float) -> bool:
    return abs(found.ratio) > (0.0 if found.exact else floor)


def false_discoveries(chances: Sequence[float | None], rate: float = FALSE_ALARMS) -> list[bool]:
    """Benjamini and Hochberg's rule: which of these probabilities are small enough, given their number."""
    known = sorted(each for each in chances if each is not None)
    limit = max(
        (each for rank, each in enumerate(known, 1) if each <= rate * rank / len(known)), default=-1.0
    )
    return [each is not None and each <= limit for each in chances]


@dataclass(frozen=True, slots=True, kw_only=True)
class Welch:
    """The result of Welch's test. The difference of the means is within ``margin`` in 95 % of cases."""

    difference: float
    margin: float
    chance: float


def welch(old: Sequence[float], new: Sequence[float]) -> Welch | None:
    """Compare two means without taking their spreads for equal. None with fewer than `FEW` values."""
    if min(len(old), len(new)) < FEW:
        return None
    parts = statistics.variance(old) / len(old), statistics.variance(new) / len(new)
    difference = statistics.fmean(new) - statistics.fmean(old)
    error = math.sqrt(sum(parts))
    if error <= _TINY * max(1.0, abs(difference)):
        return Welch(difference=difference, margin=0.0, chance=0.0 if abs(difference) > _TINY else 1.0)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(old) - 1) + parts[1] ** 2 / (len(new) - 1))
    return Welch(
        difference=difference,
        margin=student_quantile(FALSE_ALARMS, round(freedom, 2)) * error,
        chance=student_chance(difference / error, freedom),
    )


def student_chance(t: float, freedom: float) -> float:
    """The probability that Student's t is as far from 0 as this, on either side."""
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


@lru_cache(maxsize=4096)
def student_quantile(chance: float, freedom: float) -> float:
    """The t whose `student_chance` this is."""
    low, high = 0.0, 1.0
    while student_chance(high, freedom) > chance and high < 1e9:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if student_chance(middle, freedom) > chance else (low, middle)
    return (low + high) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(1.0 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Lentz's way to sum the fraction."""
    c, d = 1.0, 1.0 / _apart(1.0 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, 300):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _apart(1.0 + term * d)
            c = _apart(1.0 + term / c)
            found *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return found


def _apart(value: float) -> float:
    """The value, or something tiny in place of 0."""
    return value if abs(value) > 1e-300 else 1e-300
