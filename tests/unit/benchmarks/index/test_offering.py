"""Calls at a rate, timed from when they were due."""

import asyncio
import time

from benchmarks.index.offering import offer


async def test_calls_that_a_blocked_loop_could_not_make_are_made_and_count_as_late() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            time.sleep(0.2)  # noqa: ASYNC251 - the loop is to be blocked

    took_s = await offer(call, rate_per_s=1000, seconds=0.2)
    assert 100 < len(took_s) == calls
    assert sum(each > 0.05 for _, each in took_s) > 50


async def test_slow_call_does_not_hold_up_the_next_ones() -> None:
    running = most = 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1

    await offer(call, rate_per_s=500, seconds=0.1)
    assert most > 5
