"""How late the event loop is."""

import asyncio
import logging
import threading
import time

import pytest

from agent.observe.pulse import Pulse


async def test_each_beat_measures_how_late_the_loop_is() -> None:
    lags: list[float] = []
    pulse = Pulse(lags.append, beat_s=0.01)
    running = asyncio.create_task(pulse.run())
    while len(lags) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    while max(lags) < 0.15:  # on a busy machine the thread may sleep through the first block
        time.sleep(0.2)  # noqa: ASYNC251 - blocks the loop, on purpose
        await asyncio.sleep(0.01)
    assert pulse.worst_s >= 0.15
    assert "at most in the last minute" in pulse.state()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_loop_that_is_stuck_is_told_with_the_place_where_it_is() -> None:
    told, messages = threading.Event(), set()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.add(record.getMessage())
            if "be_stuck" in record.__dict__["fields"]["where"]:  # a loaded machine is late by itself
                told.set()

    handler = Told(logging.ERROR)
    logging.getLogger("shorthaul").addHandler(handler)
    running = asyncio.create_task(Pulse(lambda _: None, beat_s=0.01, stuck_s=0.05).run())
    try:
        await asyncio.sleep(0.05)
        assert be_stuck(told)
    finally:
        logging.getLogger("shorthaul").removeHandler(handler)
        running.cancel()
    assert messages == {"the event loop is stuck"}


def be_stuck(until: threading.Event) -> bool:
    return until.wait(30)


async def test_a_pulse_that_is_cancelled_ends_its_thread_although_its_last_beat_never_comes() -> None:
    sends, over, own = threading.Event(), threading.Event(), threading.get_ident()

    def clock() -> float:
        if threading.get_ident() != own:  # the thread is about to send a beat
            sends.set()
            over.wait(30)
        return time.monotonic()

    before = {*threading.enumerate()}
    running = asyncio.create_task(Pulse(lambda _: None, beat_s=0.01, stuck_s=3600.0, clock=clock).run())
    await asyncio.to_thread(sends.wait, 30)
    (thread,) = (one for one in threading.enumerate() if one.name == "pulse" and one not in before)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    over.set()
    thread.join(30)  # the loop stands still meanwhile
    assert not thread.is_alive()


def test_what_was_late_a_minute_ago_is_forgotten() -> None:
    now_s = 0.0
    pulse = Pulse(lambda _: None, clock=lambda: now_s)
    pulse._arrived(-3.0)
    assert (pulse.lag_s, pulse.worst_s) == (3.0, 3.0)
    now_s = 61.0
    assert pulse.worst_s == 0.0
