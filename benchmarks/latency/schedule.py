"""When each request is due. Pure: all start times are fixed before the first request leaves.

A client that waits for an answer before it asks again asks less often just when answers are slow, and its
figures leave out what a real caller waits then (coordinated omission). Here nothing delays what is due.
"""

import random


def starts(rate_per_s: float, seconds: float, seed: int = 0) -> list[float]:
    """The start of each request in seconds from now, ascending: so many a second, one in each interval.

    Where in its interval is drawn, so that requests don't keep step with a timer of the agent.
    """
    if rate_per_s <= 0 or seconds <= 0:
        return []
    rng = random.Random(seed)
    return [(number + rng.random()) / rate_per_s for number in range(max(1, round(rate_per_s * seconds)))]
