"""Tasks that are ended: all of them, whatever each does about it."""

import asyncio

from agent.tasks import end_all
from tests.unit.twins import run_in_virtual_time


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
