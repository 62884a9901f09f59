"""Whether the listeners take what comes.

Nothing tells an agent that its listener fails: its clients wait in the kernel's queue. So the queues are
looked at, and whether there is a descriptor for one more connection.
"""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.listen.http import HttpListener

_EVERY_S = 1.0
_WAITED_S = 3.0  # a busy loop takes what waits within milliseconds


@dataclass(slots=True, kw_only=True)
class QueueWatch:
    """What was seen of one queue. Pure: seconds of one clock."""

    accepted: int = -1
    since_s: float = 0.0

    def look(self, waiting: int, accepted: int, now_s: float) -> str | None:
        """The problem with a listener that accepted so many, while others wait. None if there is none."""
        if accepted != self.accepted or not waiting:
            self.accepted, self.since_s = accepted, now_s
            return None
        waited_s = now_s - self.since_s
        if waited_s < _WAITED_S:
            return None
        return f"{waiting} connections wait, and none was accepted for {waited_s:.0f} s"


class ListenerHealth:
    """Looks at the listeners. ``expected``: whether they should accept connections now."""

    def __init__(self, listeners: Mapping[str, HttpListener], expected: Callable[[], bool]) -> None:
        self._listeners = listeners
        self._expected = expected
        self._watches = {name: QueueWatch() for name in listeners}
        self._problems: dict[str, str | None] = {}

    def problem(self, name: str) -> str | None:
        """Why a listener does not work. None while it does, and while it need not."""
        return self._problems.get(name) if self._expected() else None

    async def run(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            if self._expected():
                self.look(time.monotonic())

    def look(self, now_s: float) -> None:
        """Look at each listener now."""
        for name, listener in self._listeners.items():
            self._problems[name] = self._look(name, listener, now_s)

    def _look(self, name: str, listener: HttpListener, now_s: float) -> str | None:
        try:
            if not listener.accepts:
                return "it accepts no connections"
            waiting = listener.waiting()
            os.close(os.dup(0))
        except OSError as error:
            if error.errno == errno.EBADF:
                return "its socket was closed"
            return error.strerror or str(error)
        return self._watches[name].look(waiting, listener.accepted, now_s)
