"""How long to wait before the next request to the API server. Pure.

Thousands of agents lose their connections at the same time when an API server restarts. So they come back
spread over a time that grows with the number of agents: `RESUMES_PER_S` of them together ask to go on
watching, and `RELISTS_PER_S` ask for the whole list, which is a thousand times as large. Each agent knows
how many there are. A request that fails is repeated at growing intervals, and so is a watch that the server
ends at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

RESUMES_PER_S, RELISTS_PER_S = 500.0, 100.0
SPREAD_MAX_S = 120.0

FIRST_S, LONGEST_S = 0.5, 60.0
"""The wait after the first failure, and the longest one. A refused agent looks once a minute."""

BRIEF_S = 10.0
"""A watch that ends sooner ends too soon. Servers end a healthy one after minutes."""

BRIEF_LONGEST_S, BRIEF_SOON_S = 30.0, 2.0
"""The longest wait for a server that answers, and ends each watch at once. Its answers are worth having: a
few agents come back within the second of these times, and many together a hundred times a second."""

Chance = Callable[[float, float], float]
"""A number between two others, such as `random.uniform`."""


@dataclass(slots=True, kw_only=True)
class Pacing:
    """The waits of one series of requests. ``agents``: how many agents do the same."""

    agents: Callable[[], int]
    chance: Chance
    failures: int = 0  # in a row
    brief: int = 0  # watches in a row that ended too soon

    def failed(self, retry_after_s: float = 0.0) -> float:
        """A request failed. ``retry_after_s``: what the server asked for. Returns how long to wait."""
        self.failures += 1
        wait_s = min(LONGEST_S, FIRST_S * 2.0 ** min(self.failures - 1, 16))
        wait_s = max(wait_s, min(retry_after_s, LONGEST_S))
        return self._jittered(wait_s) + self.chance(0.0, self._spread_s(RESUMES_PER_S))

    def ended(self, lived_s: float) -> float:
        """The server ended a watch that had lived for so long. Returns how long to wait before the next."""
        self.failures = 0
        if lived_s >= BRIEF_S:
            self.brief = 0
            return self.chance(0.0, min(self._spread_s(RESUMES_PER_S), BRIEF_S))
        self.brief += 1
        longest_s = min(BRIEF_LONGEST_S, max(BRIEF_SOON_S, self.agents() / RELISTS_PER_S))
        return self._jittered(min(longest_s, FIRST_S * 2.0 ** min(self.brief - 1, 16)))

    def expired(self) -> float:
        """The server no longer knows where this agent was: it has to list anew. Returns how long to wait."""
        self.brief += 1  # a server that says so each time must not be asked for a list each time
        again_s = 0.0 if self.brief == 1 else min(LONGEST_S, FIRST_S * 2.0 ** min(self.brief - 1, 16))
        return again_s + self.chance(0.0, self._spread_s(RELISTS_PER_S))

    def worked(self) -> None:
        """A request was answered."""
        self.failures = 0

    def _spread_s(self, per_s: float) -> float:
        return min(SPREAD_MAX_S, self.agents() / per_s)

    def _jittered(self, wait_s: float) -> float:
        return self.chance(0.5 * wait_s, wait_s)
