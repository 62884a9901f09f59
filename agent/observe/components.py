"""The parts of the agent that may stop working, and what the log says of them.

It says when a part stops working, why, and when it works again. A log that says "serving" and then nothing is
taken for one of an agent that serves.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_log = logging.getLogger("shorthaul")

_POLL_S = 0.5
_LASTS_S = 2.0  # a store takes a moment to be read, at the start and when containerd restarts
_REPEAT_S = 60.0  # so often at most another reason is logged while it lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A part of the agent that may stop working.

    ``key``: its name in metrics. ``problem``: why it does not work now; None: it works. ``hint``: what a
    person can do about it. ``required``: without it the agent is not ready. ``state``: a few words about it
    while it works. ``wrong``, ``right``: how the log says that it has a problem, and no more.
    """

    name: str
    key: str
    problem: Callable[[], str | None]
    hint: str | Callable[[], str]
    required: bool = True
    state: Callable[[], str] = lambda: ""
    wrong: str = "does not work"
    right: str = "works again"

    @property
    def advice(self) -> str:
        """The hint of now."""
        return self.hint if isinstance(self.hint, str) else self.hint()


@dataclass(slots=True, kw_only=True)
class Watch:
    """What was said about one component. `look` decides what to say. Pure: seconds of one clock."""

    since_s: float | None = None  # since when it does not work
    said: str | None = None  # the last reason that was logged, while it does not work
    said_s: float = 0.0

    def look(
        self, problem: str | None, now_s: float, *, wrong: str = "does not work", right: str = "works again"
    ) -> str | None:
        """The message to log now. None: nothing. It is a warning if there is a problem."""
        if problem is None:
            message = None
            if self.said is not None and self.since_s is not None:
                message = f"{right}, after {now_s - self.since_s:.0f} s"
            self.since_s = self.said = None
            return message
        if self.since_s is None:
            self.since_s = now_s
        if now_s - self.since_s < _LASTS_S:
            return None
        if self.said is None or (problem != self.said and now_s - self.said_s >= _REPEAT_S):
            self.said, self.said_s = problem, now_s
            return f"{wrong}: {problem}"
        return None


async def follow_components(
    components: Sequence[Component], *, clock: Callable[[], float] = time.monotonic
) -> None:
    """Look at the components twice a second and log what changes, until cancelled."""
    watches = [(component, Watch()) for component in components]
    while True:
        for component, watch in watches:
            problem = component.problem()
            message = watch.look(problem, clock(), wrong=component.wrong, right=component.right)
            if message is not None and problem is None:
                _log.info("%s %s", component.name, message)
            elif message is not None:
                _log.warning("%s %s", component.name, message, extra={"fields": {"hint": component.advice}})
        await asyncio.sleep(_POLL_S)
