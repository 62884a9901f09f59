"""Virtual time: what is due happens in order, for plain calls and for coroutines alike."""

import asyncio

import pytest

from benchmarks.simulator.clock import VirtualLoop


def test_what_is_due_happens_in_order_and_what_is_due_later_does_not() -> None:
    loop, seen = VirtualLoop(), list[tuple[str, float]]()

    async def sleeper() -> None:
        await asyncio.sleep(2.0)
        seen.append(("slept", loop.now_s))

    loop.at(1.0, lambda: seen.append(("call", loop.now_s)))
    loop.spawn(sleeper())
    loop.at(2.0, lambda: seen.append(("same moment", loop.now_s)))
    loop.at(5.0, lambda: seen.append(("later", loop.now_s)))
    loop.run_to(3.0)
    assert seen == [("call", 1.0), ("same moment", 2.0), ("slept", 2.0)]
    assert loop.now_s == 3.0
    assert loop.next_s == 5.0


def test_time_outs_are_those_of_virtual_time() -> None:
    loop, seen = VirtualLoop(), list[float]()

    async def waits() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7.0):
                await asyncio.Event().wait()
        seen.append(loop.now_s)

    loop.spawn(waits())
    loop.run_to(100.0)
    assert seen == [7.0]


def test_a_cancelled_alarm_is_not_heard() -> None:
    loop, seen = VirtualLoop(), list[float]()
    alarm = loop.alarm(1.0, seen.append, 1.0)
    loop.alarm(2.0, seen.append, 2.0)
    alarm.cancel()
    loop.run_to(3.0)
    assert seen == [2.0]


def test_an_error_in_a_task_ends_the_simulation() -> None:
    loop = VirtualLoop()

    async def breaks() -> None:
        raise LookupError("a bug")

    loop.spawn(breaks())
    with pytest.raises(LookupError, match="a bug"):
        loop.run_to(1.0)


def test_closing_ends_tasks_that_wait() -> None:
    loop, ended = VirtualLoop(), list[str]()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    loop.spawn(waits())
    loop.run_to(1.0)
    loop.close()
    assert ended == ["ended"]
