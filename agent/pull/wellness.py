"""Whether this node's store was able to commit what containerd was sent. Pure.

If it was not, a blob that is missing says nothing about the peers that gave it. Times are seconds of one
monotonic clock.
"""

from dataclasses import dataclass

_ROOM_FACTOR = 4
"""containerd needs the blob, and its unpacked content, which is up to three times as large."""

_ROOM_LEAST_BYTES = 16 << 20  # with less, other writers of the same disk may have taken it a moment ago
_FILES_LEAST = 64
_LATE_S = 2.0  # this node was suspended, or far too busy: what happened meanwhile is not all known yet


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLook:
    """The store at one moment.

    ``works``: it answers. ``outages``: how often it did not since the agent started, or missed changes.
    ``free_bytes``, ``free_files``: the room on its disk; None: unknown. ``pending_bytes``: the size of what
    containerd was sent and did not commit yet.
    """

    works: bool
    outages: int
    free_bytes: int | None
    free_files: int | None
    pending_bytes: int


class Wellness:
    """Judges the looks at one store. ``look_s``: how often it is looked at."""

    def __init__(self, *, look_s: float) -> None:
        self._look_s = look_s
        self._outages = 0
        self._looked_s: float | None = None

    def well_since_last(self, look: StoreLook, now_s: float) -> bool:
        """Whether the store was well from the last look until this one."""
        outages, self._outages = self._outages, look.outages
        looked_s, self._looked_s = self._looked_s, now_s
        on_time = looked_s is None or now_s - looked_s <= self._look_s + _LATE_S
        return look.works and look.outages == outages and on_time and _has_room(look)


def _has_room(look: StoreLook) -> bool:
    needed_bytes = max(_ROOM_LEAST_BYTES, _ROOM_FACTOR * look.pending_bytes)
    enough_bytes = look.free_bytes is None or look.free_bytes >= needed_bytes
    return enough_bytes and (look.free_files is None or look.free_files >= _FILES_LEAST)
