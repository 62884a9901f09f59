"""SIGHUP asks a process to read its settings again. It never ends the process, whenever it comes.

By default SIGHUP kills. So the handler is installed before anything else, and stays until the end: also
before the event loop runs, and after it. (A handler of the loop itself would be gone with the loop.)

`agent.cli` has SIGHUP wait from its first line until then, because the imports in between take long.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger("shorthaul")


class Hangup:
    """Whether SIGHUP came. One for each process."""

    def __init__(self) -> None:
        self._came = False
        self._wake: Callable[[], object] | None = None

    def install(self) -> None:
        """Take SIGHUP from now on, and one that waits. Call it in the main thread."""
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.arrived())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take SIGHUP in this block, and ignore it afterwards, whatever ends the block."""
        self.install()
        try:
            yield
        finally:
            self.ignore()

    def decline(self) -> None:
        """SIGHUP ends this process, as usual. So does one that waits."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def ignore(self) -> None:
        """Ignore SIGHUP from now on, because the process ends. (Python itself would restore the default.)"""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def arrived(self) -> None:
        """SIGHUP came. Before anybody follows, it is kept; many at once count as one."""
        if self._wake is None:
            self._came = True
        else:
            self._wake()

    async def follow(self, reload: Callable[[], Awaitable[None]]) -> None:
        """Call ``reload`` after each SIGHUP, until cancelled. One that came before counts too."""
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(came.set)
        if self._came:
            came.set()
        try:
            while True:
                await came.wait()
                came.clear()
                _log.info("SIGHUP: reading the settings again")
                await reload()
        finally:
            self._wake = None
