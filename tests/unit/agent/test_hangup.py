"""SIGHUP never ends the process. It asks for a reload, also if it came too early or many times."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent.hangup import Hangup


class Reloaded:
    """Counts reloads."""

    def __init__(self) -> None:
        self.times = 0
        self.happened = asyncio.Semaphore(0)

    async def __call__(self) -> None:
        self.times += 1
        self.happened.release()


@pytest.fixture
def hangup() -> Iterator[Hangup]:
    before = signal.getsignal(signal.SIGHUP)
    made = Hangup()
    made.install()
    yield made
    signal.signal(signal.SIGHUP, before)


async def _until_reloaded(reloaded: Reloaded) -> None:
    async with asyncio.timeout(20):
        await reloaded.happened.acquire()


async def test_signal_asks_for_a_reload(hangup: Hangup) -> None:
    reloaded = Reloaded()
    task = asyncio.create_task(hangup.follow(reloaded))
    await asyncio.sleep(0)
    for times in (1, 2):
        os.kill(os.getpid(), signal.SIGHUP)
        await _until_reloaded(reloaded)
        assert reloaded.times == times
    task.cancel()


async def test_signal_before_anybody_follows_is_kept(hangup: Hangup) -> None:
    for _ in range(1000):
        os.kill(os.getpid(), signal.SIGHUP)
    reloaded = Reloaded()
    task = asyncio.create_task(hangup.follow(reloaded))
    await _until_reloaded(reloaded)
    assert reloaded.times == 1
    task.cancel()


async def test_signal_after_the_end_of_following_changes_nothing(hangup: Hangup) -> None:
    reloaded = Reloaded()
    task = asyncio.create_task(hangup.follow(reloaded))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0)
    assert reloaded.times == 0


async def test_signal_during_a_reload_asks_for_another_one(hangup: Hangup) -> None:
    reloaded, began, goes_on = Reloaded(), asyncio.Event(), asyncio.Event()

    async def reload() -> None:
        began.set()
        await goes_on.wait()
        await reloaded()

    task = asyncio.create_task(hangup.follow(reload))
    hangup.arrived()
    hangup.arrived()
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await began.wait()
    for _ in range(3):
        hangup.arrived()
    goes_on.set()
    await _until_reloaded(reloaded)
    await _until_reloaded(reloaded)
    for _ in range(20):
        await asyncio.sleep(0)
    assert reloaded.times == 2
    task.cancel()


_BLOCKED_FIRST = """
import os, signal
from agent.hangup import Hangup

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
os.kill(os.getpid(), signal.SIGHUP)
hangup = Hangup()
with hangup.taken():
    print(hangup._came)
os.kill(os.getpid(), signal.SIGHUP)
print("alive")
"""


def test_signal_that_was_blocked_before_the_handler_was_there_is_kept_and_later_ones_are_ignored() -> None:
    done = subprocess.run([sys.executable, "-c", _BLOCKED_FIRST], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "alive"]), done.stderr
