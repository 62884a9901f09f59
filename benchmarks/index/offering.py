"""Calls at a given rate, whether or not the earlier ones have ended.

What is late is not left out: each call is timed from the moment at which it was due, not from the moment at
which the loop got to it ("coordinated omission" is what that avoids). The kernel's timer wakes the loop,
because the loop's own timers are up to a millisecond late.
"""

import asyncio
import ctypes
import os
import random
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

_T = TypeVar("_T")

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_NONBLOCK = os.O_NONBLOCK
_libc = ctypes.CDLL(None, use_errno=True)


class _Times(ctypes.Structure):
    """``struct itimerspec``, flat: the interval, then the moment."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class Timer:
    """Waits until moments of `time.monotonic`, to some 50 µs on an idle machine. Use as a context manager."""

    def __init__(self) -> None:
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._expired)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    async def wait_until(self, moment_s: float) -> None:
        """Returns at once if it is past."""
        if moment_s <= time.monotonic():
            return
        self._due.clear()
        at_s, at_ns = divmod(int(moment_s * 1e9), 10**9)
        times = _Times(0, 0, at_s, at_ns)
        if _libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(times), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        await self._due.wait()

    def _expired(self) -> None:
        os.read(self._fd, 8)
        self._due.set()


async def offer(
    call: Callable[[], Awaitable[_T]],
    *,
    rate_per_s: float,
    seconds: float,
    seed: int = 1,
) -> list[tuple[_T, float]]:
    """Call at random moments, so many times a second. An error of a call is raised at the end.

    Returns what each returned, with the seconds that it took since it was due.
    """
    dice = random.Random(seed)
    took_s: list[tuple[_T, float]] = []

    async def one(due_s: float) -> None:
        took_s.append((await call(), time.monotonic() - due_s))

    begin_s = time.monotonic()
    due_s = begin_s + dice.expovariate(rate_per_s)
    with Timer() as timer:
        async with asyncio.TaskGroup() as calls:
            while due_s < begin_s + seconds:
                await timer.wait_until(due_s)
                while due_s <= time.monotonic() and due_s < begin_s + seconds:
                    calls.create_task(one(due_s))
                    due_s += dice.expovariate(rate_per_s)
                await asyncio.sleep(0)  # whoever is behind lets the calls begin
    return took_s
