"""The server's clock, as this node knows it, and the epochs that it counts. Pure.

No node's own clock counts: they differ, and may be set while the agent runs.
"""

from agent.holders.valkey.layout import ALIVE_S, EPOCH_S


class ServerClock:
    """The last time that the server said, and how long ago. Times are seconds; ``now_s``: of a clock that
    nobody sets.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None

    @property
    def known(self) -> bool:
        """Whether the server said what time it is."""
        return self._offset_s is not None

    def heard(self, server_s: float, now_s: float) -> None:
        """The server said that this is the time."""
        self._offset_s = server_s - now_s

    def time_s(self, now_s: float) -> float:
        """The time by the server's clock. Raises ValueError if it is not known."""
        if self._offset_s is None:
            raise ValueError("the server has not said yet what time it is")
        return now_s + self._offset_s

    def period(self, now_s: float) -> int:
        """The present period of `ALIVE_S` seconds. Raises ValueError if the server's time is not known."""
        return int(self.time_s(now_s) // ALIVE_S)

    def epoch(self, now_s: float) -> int:
        """The present epoch. Raises ValueError if the server's time is not known."""
        return int(self.time_s(now_s) // EPOCH_S)

    def left_s(self, now_s: float) -> float:
        """Until the present epoch ends. Raises ValueError if the server's time is not known."""
        return EPOCH_S - self.time_s(now_s) % EPOCH_S
