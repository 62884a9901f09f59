"""When the server is asked again after it failed, and when it counts as well. Pure.

A server that comes back is met by all agents. Each connection costs it 0.1 ms, with TLS 0.5 ms (2 ms if its
key is RSA), so they come spread over a time that grows with their number.
"""

from collections.abc import Callable
from dataclasses import dataclass

GOOD_IN_A_ROW = 2
"""So many answers in time, one after the other, before pulls ask again."""

BETWEEN_GOOD_S = 0.2
LOOK_S = 10.0
"""While it works, it is looked at so often: is it still this cluster's, and was it emptied? In clusters of
more than 2,500 nodes less often, because all agents together look 250 times a second at most.
"""

FACTS_S = 60.0
FOREIGN_S = 30.0
_PROBE_S = 1.0
_CONNECTION_S, _TLS_CONNECTION_S = 0.0005, 0.002
_LOOKS_PER_S = 250.0
_AT_ONCE_S, _LATEST_S = 0.02, 30.0
_TOLD_S = 3.0  # a node looks within a second whether the server is there, and tells a change in another

Chance = Callable[[float, float], float]
"""A random number between two, such as `random.uniform`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """``members``: how many agents there are. ``tls``: whether connections have it."""

    members: Callable[[], int]
    tls: bool
    chance: Chance

    @property
    def spread_s(self) -> float:
        """Over so many seconds all agents together connect again: at most 2,000 a second, 500 with TLS."""
        each_s = _TLS_CONNECTION_S if self.tls else _CONNECTION_S
        return min(_LATEST_S, self.members() * each_s)

    def first_s(self) -> float:
        """How long to wait after something that all agents notice at once, such as a connection's end."""
        return self.chance(0.0, max(_AT_ONCE_S, self.spread_s))

    def next_s(self) -> float:
        """How long to wait after another attempt that failed: a second, and more in a large cluster."""
        usual_s = max(_PROBE_S, self.spread_s)
        return self.chance(0.5 * usual_s, 1.5 * usual_s)

    @property
    def caught_up_s(self) -> float:
        """How long after the server is back here the others have it back, too, and told what came meanwhile.

        One of them may have begun an attempt that failed just before.
        """
        return 1.5 * max(_PROBE_S, self.spread_s) + self.spread_s + _TOLD_S

    def look_s(self) -> float:
        """How long to wait until it is looked at again while it works."""
        usual_s = max(LOOK_S, self.members() / _LOOKS_PER_S)
        return self.chance(0.5 * usual_s, 1.5 * usual_s)


class Breaker:
    """Closed: the server is asked. It opens at the first failure, and closes after good answers in a row."""

    def __init__(self) -> None:
        self.is_closed = False
        self._good = 0

    def failed(self) -> None:
        """A question was not answered as it should be."""
        self.is_closed = False
        self._good = 0

    def answered(self) -> None:
        """A probe was answered in time."""
        self._good += 1
        if self._good >= GOOD_IN_A_ROW:
            self.is_closed = True
