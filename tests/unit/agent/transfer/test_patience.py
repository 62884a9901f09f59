"""Whose fault a wait without a byte is."""

import asyncio
import time

import pytest

from agent.pull.events import Failure
from agent.transfer.answers import AttemptFailed
from agent.transfer.patience import not_silent_for


async def test_peer_that_sends_nothing_for_too_long_was_silent() -> None:
    with pytest.raises(AttemptFailed) as caught:
        async with not_silent_for(0.01):
            await asyncio.Event().wait()
    assert caught.value.failure is Failure.SILENT
    assert str(caught.value) == "no byte for 0.01 s"


async def test_time_in_which_this_node_did_not_run_is_no_silence_of_the_peer() -> None:
    asyncio.get_running_loop().call_soon(time.sleep, 0.8)  # the whole process stands still
    with pytest.raises(AttemptFailed, match="this node was held up") as caught:
        async with not_silent_for(0.01):
            await asyncio.Event().wait()
    assert caught.value.failure is Failure.CUT_OFF


async def test_what_fails_in_time_stays_what_it_is() -> None:
    with pytest.raises(AttemptFailed) as caught:
        async with not_silent_for(60.0):
            raise AttemptFailed(Failure.BUSY, "status 429")
    assert caught.value.failure is Failure.BUSY
