"""Whether a body is worth fetching from several holders at once, and which of them is given up.

A holder of such a body is called a lane. `agent.transfer.striper` measures the lanes and executes what is
decided here. Which part of a body a lane fetches: `agent.pull.stripes`. When a single body begins to be
striped: `agent.pull.machine`. Pure. Times are seconds of one monotonic clock.
"""

from agent.pull.meter import TICK_S

LANES_MAX = 4
"""From how many holders a body is fetched at most: as many segments as the default buffer has room for."""

SEGMENTS_LEAST = 2
"""How many segments each striped body is sure of: one is sent to the reader while another is filled."""

JUDGED_S = 2.0
"""How often a body's gain is judged. Shorter, and a single late segment would look like no gain."""

_GAIN_LEAST = 1.2  # copying costs several times what splicing costs, so a smaller gain is not worth it
_USELESS_S = 60.0  # whatever narrows the link (a limit, other traffic) may be gone after a minute
_MUCH_SLOWER = 2.0  # equal holders differ by less, and a dismissed lane has to be replaced


class Striping:
    """Whether this node stripes bodies now. One for all pulls: they share the link."""

    def __init__(self) -> None:
        self._useless_until_s = 0.0

    def lanes_max(self, free_segments: int, now_s: float) -> int:
        """From how many holders one more body may be fetched. 1: no room, or striping did not help lately.

        ``free_segments``: for how many more segments there is memory.
        """
        return LANES_MAX if free_segments >= SEGMENTS_LEAST and now_s >= self._useless_until_s else 1

    def was_useless(self, now_s: float) -> None:
        """Several holders were no faster than one, so they share a narrow link. Do not stripe for a while."""
        self._useless_until_s = now_s + _USELESS_S


class Gain:
    """Judges how much faster one striped body is than it was from one holder alone.

    ``alone_bytes_per_s``: the rate of one holder alone. ``sent_bytes`` and ``held_s``, here and below: how
    many bytes the reader was sent so far, and for how many seconds it accepted none. ``judged_s``: how
    often the gain is judged.
    """

    def __init__(
        self,
        now_s: float,
        *,
        sent_bytes: int,
        held_s: float,
        alone_bytes_per_s: float,
        judged_s: float = JUDGED_S,
    ) -> None:
        self._since_s, self._sent_bytes, self._held_s = now_s, sent_bytes, held_s
        self._alone_bytes_per_s = alone_bytes_per_s
        self._judged_s = judged_s

    def is_too_small(self, now_s: float, *, sent_bytes: int, held_s: float, lane_failed: bool) -> bool:
        """Whether striping was useless since the last judgement. False if it is too early to judge.

        ``lane_failed``: a lane failed. Then the rate of the others says nothing about striping.
        """
        over_s = now_s - self._since_s
        if over_s < self._judged_s:
            return False
        gained = (sent_bytes - self._sent_bytes) / over_s >= _GAIN_LEAST * self._alone_bytes_per_s
        reader_bound = 2 * (held_s - self._held_s) > over_s  # a faster source would not help this reader
        self._since_s, self._sent_bytes, self._held_s = now_s, sent_bytes, held_s
        return not (gained or reader_bound or lane_failed)


def is_lagging(bytes_per_s: float, idle_bytes_per_s: float, *, over_s: float) -> bool:
    """Whether to dismiss the lane that the reader waits for.

    ``bytes_per_s``: its rate in the present segment, over ``over_s``. ``idle_bytes_per_s``: the rate of a
    lane that has nothing left to fetch, and would take over the segment.
    """
    return over_s >= TICK_S and bytes_per_s * _MUCH_SLOWER < idle_bytes_per_s
