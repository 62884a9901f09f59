"""Virtual time: a heap of what is to happen, which is an asyncio event loop as well.

The product's own coroutines (claims) run on it, and everything else is plain calls. What is due at the same
moment happens in the order in which it was asked for, so a run is the same each time.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from itertools import count
from typing import Any, cast

Call = Callable[..., object]
_Due = tuple[float, int, Call, tuple[Any, ...], asyncio.TimerHandle | None]


def _nothing() -> None:
    """Stands for the call of a timer, which knows it."""


class Alarm:
    """A call that can be cancelled."""

    __slots__ = ("_args", "_call")

    def __init__(self, call: Call, args: tuple[Any, ...]) -> None:
        self._call: Call | None = call
        self._args = args

    def __call__(self) -> None:
        """It is time."""
        if self._call is not None:
            self._call(*self._args)

    def cancel(self) -> None:
        """Do not call it, and forget it."""
        self._call, self._args = None, ()


class VirtualLoop:
    """The clock of a simulation. ``now_s`` is its time.

    It has what tasks, futures and time-outs need of an event loop, and no more.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events = 0
        self._heap: list[_Due] = []
        self._ready: deque[tuple[Call, tuple[Any, ...], Context | None, asyncio.Handle | None]] = deque()
        self._numbers = count()
        self._as_loop = cast(asyncio.AbstractEventLoop, self)
        self.error: BaseException | None = None

    def at(self, at_s: float, call: Call, *args: Any) -> None:
        """Call it at this time. It can't be cancelled."""
        heapq.heappush(self._heap, (at_s, next(self._numbers), call, args, None))

    def after(self, wait_s: float, call: Call, *args: Any) -> None:
        """Call it after this time. It can't be cancelled."""
        heapq.heappush(self._heap, (self.now_s + wait_s, next(self._numbers), call, args, None))

    @property
    def next_s(self) -> float:
        """When the next call is due. Infinity: never."""
        return self.now_s if self._ready else self._heap[0][0] if self._heap else float("inf")

    def run_to(self, end_s: float) -> None:
        """Do all that is due before ``end_s``, and go there."""
        heap, ready, pop = self._heap, self._ready, heapq.heappop
        asyncio._set_running_loop(self._as_loop)
        try:
            self._drain()
            while heap and heap[0][0] < end_s:
                at_s, _, call, args, timer = pop(heap)
                if at_s > self.now_s:
                    self.now_s = at_s
                if timer is None:
                    call(*args)
                elif not timer.cancelled():
                    timer._run()
                self.events += 1
                if ready:
                    self._drain()
                if self.error is not None:
                    raise self.error
            self.now_s = max(self.now_s, end_s)
        finally:
            asyncio._set_running_loop(None)

    def run_now(self) -> None:
        """Do all that is ready at this moment."""
        self.run_to(self.now_s)

    def _drain(self) -> None:
        ready = self._ready
        while ready:
            call, args, context, handle = ready.popleft()
            if handle is not None and handle.cancelled():
                continue
            self.events += 1
            if context is None:
                call(*args)
            else:
                context.run(call, *args)
            if self.error is not None:
                raise self.error

    def close(self) -> None:
        """End all tasks."""
        while left := [task for task in asyncio.all_tasks(self._as_loop) if not task.done()]:
            for task in left:
                task.cancel()
            self.run_now()

    # What asyncio's tasks, futures and timeouts need of a loop.

    def time(self) -> float:
        """The virtual time."""
        return self.now_s

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always: it runs whenever anybody asks."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    def call_soon(self, callback: Call, *args: Any, context: Context | None = None) -> asyncio.Handle:
        """See asyncio."""
        handle = asyncio.Handle(callback, args, self._as_loop, context)
        self._ready.append((callback, args, context, handle))
        return handle

    def soon(self, call: Call, *args: Any) -> None:
        """Call it as soon as what happens now is over."""
        self._ready.append((call, args, None, None))

    def call_later(
        self, delay: float, callback: Call, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Call, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        timer = asyncio.TimerHandle(when, callback, args, self._as_loop, context)
        heapq.heappush(self._heap, (when, next(self._numbers), _nothing, (), timer))
        return timer

    def alarm(self, at_s: float, call: Call, *args: Any) -> "Alarm":
        """Call it at this time, unless it is cancelled before. Then nothing that it refers to is kept."""
        alarm = Alarm(call, args)
        due: _Due = (at_s, next(self._numbers), alarm, (), None)
        heapq.heappush(self._heap, due)
        return alarm

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap until it is due."""

    def create_future(self) -> "asyncio.Future[Any]":
        """See asyncio."""
        return asyncio.Future(loop=self._as_loop)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> "asyncio.Task[Any]":
        """See asyncio."""
        return asyncio.Task(coro, loop=self._as_loop, name=name)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """A task whose error ends the simulation."""
        task = asyncio.Task(work, loop=self._as_loop)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.error = error

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody looked at ends the simulation."""
        self.error = context.get("exception") or RuntimeError(context["message"])
