"""Tasks that are ended: all of them, whatever each does about it."""

import asyncio

from agent.tasks import end_all, wait_for_event
from tests.unit.twins import loop_clock, run_in_virtual_time


async def _sleeps() -> None:
    await asyncio.sleep(3600.0)


async def _fails_late() -> None:
    try:
        await asyncio.sleep(3600.0)
    finally:
        await asyncio.sleep(1.0)
        raise ValueError("at the end")


def test_every_task_has_ended_and_no_error_of_one_comes_out() -> None:
    async def main() -> None:
        tasks = {asyncio.create_task(_sleeps()), asyncio.create_task(_fails_late())}
        for task in tasks:
            task.add_done_callback(tasks.discard)  # the set may change meanwhile
        ended = [*tasks]
        await asyncio.sleep(0.0)
        await end_all(tasks)
        assert all(task.done() for task in ended)

    run_in_virtual_time(main())


def test_event_is_waited_for_until_it_is_set_or_the_time_is_over() -> None:
    async def main() -> None:
        event, began_s = asyncio.Event(), loop_clock()
        await wait_for_event(event, 2.0)
        assert round(loop_clock() - began_s, 3) == 2.0
        asyncio.get_running_loop().call_later(1.0, event.set)
        await wait_for_event(event, 10.0)
        assert round(loop_clock() - began_s, 3) == 3.0
        await wait_for_event(event, 0.0)

    run_in_virtual_time(main())
