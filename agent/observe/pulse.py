"""How late the event loop is, measured from a thread of its own.

Nothing else in the agent may block the loop: every request waits for it. A loop that is stuck answers no
liveness probe, and so the kubelet restarts the agent. This tells what it was stuck in: the thread runs on,
and logs where the loop's thread is.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable

_log = logging.getLogger("shorthaul")

BEAT_S = 0.5
STUCK_S = 5.0
"""After this the loop counts as stuck: no step of the agent takes a hundredth of it."""

_WINDOW_S = 60.0
_FRAMES = 6


class Pulse:
    """Measures the lag of the loop that runs `run`. ``late`` is called in it with each lag in seconds."""

    def __init__(
        self,
        late: Callable[[float], None],
        *,
        beat_s: float = BEAT_S,
        stuck_s: float = STUCK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._late = late
        self._beat_s = beat_s
        self._stuck_s = stuck_s
        self._clock = clock
        self._lags: deque[tuple[float, float]] = deque()
        self._came = threading.Event()
        self._ended = threading.Event()

    @property
    def lag_s(self) -> float:
        """How late the loop was at the last beat."""
        return self._lags[-1][1] if self._lags else 0.0

    @property
    def worst_s(self) -> float:
        """How late it was at most, in the last minute."""
        self._forget(self._clock())
        return max((lag_s for _, lag_s in self._lags), default=0.0)

    def state(self) -> str:
        """In words."""
        return f"{self.lag_s * 1e3:.0f} ms late, {self.worst_s * 1e3:.0f} ms at most in the last minute"

    async def run(self) -> None:
        """Measure until cancelled."""
        loop, ident = asyncio.get_running_loop(), threading.get_ident()
        thread = threading.Thread(target=self._beat, args=(loop, ident), name="pulse", daemon=True)
        thread.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._ended.set()
            self._came.set()  # nothing comes any more, and the thread would wait for it

    def _beat(self, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        while not self._ended.wait(self._beat_s):
            self._came.clear()
            try:
                loop.call_soon_threadsafe(self._arrived, self._clock())
            except RuntimeError:  # the loop has ended
                return
            # Two waits: after this process was frozen, the loop may go on a moment after this thread.
            stuck = not self._came.wait(self._stuck_s) and not self._came.wait(self._beat_s)
            if stuck and not self._ended.is_set():
                _log.error("the event loop is stuck", extra={"fields": {"where": _place(ident)}})
            while stuck and not self._ended.is_set():
                stuck = not self._came.wait(self._stuck_s)

    def _arrived(self, sent_s: float) -> None:
        now_s = self._clock()
        self._lags.append((now_s, now_s - sent_s))
        self._forget(now_s)
        self._came.set()
        self._late(now_s - sent_s)

    def _forget(self, now_s: float) -> None:
        while self._lags and self._lags[0][0] < now_s - _WINDOW_S:
            self._lags.popleft()


def _place(ident: int) -> str:
    """Where a thread is: its innermost frames."""
    frame = sys._current_frames().get(ident)
    if frame is None:
        return "nowhere"
    frames = traceback.extract_stack(frame)[-_FRAMES:]
    return " < ".join(f"{one.name} ({one.filename}:{one.lineno})" for one in reversed(frames))
