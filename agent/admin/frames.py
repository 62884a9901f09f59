"""The frames of the stream of events, and the queue of one tab. Pure.

A frame is encoded once and shared by all tabs. A tab that is too slow loses what waits for it, and gets the
whole picture again when it has read what it was being sent. Source: HTML, "Server-sent events".
"""

from collections import deque

FRAMES_MAX = 256
WAITING_MAX_BYTES = 1 << 20
WRITE_BYTES = 128 * 1024
RETRY_MS = 2000
"""So long a browser waits before it connects again."""


def frame(event: str, number: int, data: bytes) -> bytes:
    """One event. ``data``: JSON without line breaks."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, event.encode(), data)


def opening() -> bytes:
    """What a stream begins with."""
    return b"retry: %d\n\n" % RETRY_MS


class Waiting:
    """What waits to be sent to one tab. ``is_whole``: the whole picture was given, and nothing lost since."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._size_bytes = 0
        self.is_whole = False
        self.lost = 0
        """How often frames were dropped."""

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def wants_whole(self) -> bool:
        """Whether the whole picture is to be given now."""
        return not self.is_whole and not self._frames

    def give_whole(self, frames: "tuple[bytes, ...]") -> None:
        """The whole picture, however large it is."""
        self._frames = deque(frames)
        self._size_bytes = sum(map(len, frames))
        self.is_whole = True

    def give(self, one: bytes) -> None:
        """Another frame. If too much waits, all of it is dropped."""
        if not self.is_whole:
            return
        if self._frames and (
            len(self._frames) >= FRAMES_MAX or self._size_bytes + len(one) > WAITING_MAX_BYTES
        ):
            self._frames.clear()
            self._size_bytes = 0
            self.is_whole = False
            self.lost += 1
            return
        self._frames.append(one)
        self._size_bytes += len(one)

    def take(self) -> bytes:
        """What is sent next: at least a frame, and more while it is little. Empty: nothing waits."""
        taken: list[bytes] = []
        size_bytes = 0
        while self._frames and (not taken or size_bytes + len(self._frames[0]) <= WRITE_BYTES):
            taken.append(self._frames.popleft())
            size_bytes += len(taken[-1])
        self._size_bytes -= size_bytes
        return taken[0] if len(taken) == 1 else b"".join(taken)
