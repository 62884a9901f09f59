"""Max-min fair rates: how links are shared among the bodies that cross them.

Progressive filling, many links at a time: a body that can take no more than a fair share of each of its links
gets what it can take; a link whose share is the least for all of its bodies is full, and they get that. What
is left is divided anew among the others. Source: Bertsekas and Gallager, "Data networks" (1992), 6.5.2.
"""

import numpy as np
import numpy.typing as npt

Rates = npt.NDArray[np.float64]
Ways = npt.NDArray[np.intp]

_SAME = 1e-9  # shares that differ by less are the same


def max_min(limits: Rates, ways: Ways, capacity: Rates, *, rounds_max: int = 1000) -> Rates:
    """The rate of each body, in the units of ``capacity``.

    ``limits``: what each body can take at most. ``ways[step, body]``: the links of each body; those beyond
    its last one are links without a limit. ``rounds_max``: after so many rounds the bodies that are left
    get what they would have for now, which is feasible, and at most the fair rate.
    """
    rates = np.zeros(limits.shape[0])
    left = capacity.astype(np.float64, copy=True)
    links = left.shape[0]
    active = np.arange(limits.shape[0])
    for round_ in range(rounds_max):
        if not active.size:
            break
        counts = np.bincount(ways.ravel(), minlength=links)
        share = left / np.maximum(counts, 1)
        shares = share[ways]
        least = shares.min(axis=0)
        level = np.minimum(least, limits)
        at_share = level >= shares * (1 - _SAME)
        held = np.bincount(ways.ravel(), weights=at_share.ravel(), minlength=links) >= counts
        fixed = (limits <= least) | (held[ways] & at_share).any(axis=0)
        if round_ == rounds_max - 1:
            fixed[:] = True
        rates[active[fixed]] = level[fixed]
        taken = ways[:, fixed]
        left -= np.bincount(taken.ravel(), weights=np.tile(level[fixed], taken.shape[0]), minlength=links)
        np.maximum(left, 0.0, out=left)
        stay = ~fixed
        active, limits, ways = active[stay], limits[stay], ways[:, stay]
    return rates
