"""Gathers what is to be looked up while as much as may be is being looked up, and then asks for all of it.

A question costs as much for one digest as for many. So a thousand look-ups at once become a few.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Protocol

from agent.holders.index import Holders
from agent.holders.wire import DIGESTS_MAX
from agent.oci.digest import Digest
from agent.tasks import end_all

Found = dict[Digest, "asyncio.Future[Holders | None]"]
"""What is looked up. Each future is done as soon as there is an answer, at the latest when the work ends.

None: the work says elsewhere what it found, or it was ended.
"""


class Pauses(Protocol):
    """Says how long to gather. ``running``: how much work is under way."""

    def pause_s(self, running: int) -> float:
        """Before the next work begins. 0: it may begin now."""
        ...

    def pause_again_s(self, running: int) -> float:
        """The same, after such a pause."""
        ...


class Gatherer:
    """Starts ``work`` for what is wanted, at most `DIGESTS_MAX` digests at a time. `close` it."""

    def __init__(self, work: Callable[[Found], Coroutine[Any, Any, None]], pauses: Pauses) -> None:
        self._work = work
        self._pauses = pauses
        self._running: set[asyncio.Task[None]] = set()
        self._gathered: Found = {}
        self._wanted: Found = {}  # all that has no answer yet
        self._timer: asyncio.TimerHandle | None = None

    def is_wanted(self, digest: Digest) -> bool:
        """Whether it is being looked up already."""
        return digest in self._wanted

    def join(self, digest: Digest) -> "asyncio.Future[Holders | None]":
        """The answer for it: that of the look-up that is under way already, or of a new one."""
        return self._wanted.get(digest) or self.want((digest,))[digest]

    def want(self, digests: Iterable[Digest]) -> Found:
        """Look these up in the background. What waits already is not added twice."""
        loop = asyncio.get_running_loop()
        found: Found = {digest: self._gathered.get(digest) or loop.create_future() for digest in digests}
        self._gathered.update(found)
        for digest, future in found.items():
            if digest not in self._wanted:
                self._wanted[digest] = future
                future.add_done_callback(partial(self._answered, digest))
        if not (pause_s := self._pauses.pause_s(len(self._running))):
            self._start()
        elif self._timer is None:
            self._timer = loop.call_later(pause_s, self._paused)
        return found

    async def close(self) -> None:
        """End what runs. Whoever waits gets no answer."""
        if self._timer is not None:
            self._timer.cancel()
        await end_all(self._running)
        _resolve(self._gathered)
        self._gathered = {}

    def _answered(self, digest: Digest, _: "asyncio.Future[Holders | None]") -> None:
        del self._wanted[digest]

    def _paused(self) -> None:
        self._timer = None
        if pause_s := self._pauses.pause_again_s(len(self._running)):
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._paused)
        else:
            self._start()

    def _start(self) -> None:
        """Begin with all that was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._gathered = [*self._gathered.items()], {}
        for first in range(0, len(gathered), DIGESTS_MAX):
            found = dict(gathered[first : first + DIGESTS_MAX])
            task = asyncio.create_task(self._work(found), name="lookup")
            self._running.add(task)
            task.add_done_callback(partial(self._ended, found))

    def _ended(self, found: Found, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        _resolve(found)


def _resolve(found: Found) -> None:
    for future in found.values():
        if not future.done():
            future.set_result(None)
