"""A content store that runs in a thread of its own, so that a test can start and stop daemons meanwhile."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from agent.content.store import Change, ContentStore

_T = TypeVar("_T")


class RunningStore:
    """Enter it to run the store, and to collect the changes that it tells of.

    ``wait``: enter only when the store works.
    """

    def __init__(self, make: Callable[[], ContentStore], *, wait: bool = True) -> None:
        self._wait = wait
        self._make = make
        self.store: ContentStore
        self.changes: list[Change] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store")
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.call(self._start())  # made on the loop, as some stores bind to the one they are made on
            if self._wait:
                self.wait_for(lambda: self.store.problem is None, "the store works")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.call(self._stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def call(self, work: Coroutine[Any, Any, _T], *, at_most_s: float = 20.0) -> _T:
        """Run something on the store's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(at_most_s)

    def do(self, work: Callable[[], None]) -> None:
        """Do something on the store's loop."""

        async def there() -> None:
            work()

        self.call(there())

    @property
    def running(self) -> bool:
        """Whether the store has not given up."""
        return not any(task.done() for task in self._tasks)

    def wait_for(self, condition: Callable[[], bool], what: str, *, at_most_s: float = 20.0) -> None:
        """Return as soon as the condition holds; fail if it never does, or if the store gave up."""
        until_s = time.monotonic() + at_most_s
        while not condition():
            assert time.monotonic() < until_s, f"not within {at_most_s} s: {what} ({self.store.problem})"
            assert self.running, f"the store gave up: {self._tasks!r}"
            time.sleep(0.01)

    async def _start(self) -> None:
        self.store = self._make()
        changes = self.store.watch()  # from here on, before anything is found

        async def collect() -> None:
            async for change in changes:
                self.changes.append(change)

        self._tasks = [asyncio.create_task(collect()), asyncio.create_task(self.store.run())]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
