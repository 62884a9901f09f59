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
    time.sleep(0.2)  # noqa: ASYNC251 - blocks the loop, on purpose
    while max(lags) < 0.15:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert pulse.worst_s >= 0.15
    assert "at most in the last minute" in pulse.state()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_loop_that_is_stuck_is_told_with_the_place_where_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = threading.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "be_stuck" in record.__dict__["fields"]["where"]:  # a loaded machine is late by itself
                told.set()

    handler = Told()
    logging.getLogger("shorthaul").addHandler(handler)
    running = asyncio.create_task(Pulse(lambda _: None, beat_s=0.01, stuck_s=0.05).run())
    try:
        with caplog.at_level(logging.ERROR, logger="shorthaul"):
            await asyncio.sleep(0.05)
            assert be_stuck(told)
    finally:
        logging.getLogger("shorthaul").removeHandler(handler)
        running.cancel()
    assert {record.getMessage() for record in caplog.records} == {"the event loop is stuck"}


def be_stuck(until: threading.Event) -> bool:
    return until.wait(30)


async def test_a_pulse_that_is_cancelled_ends_its_thread() -> None:
    pulse = Pulse(lambda _: None, beat_s=0.01)
    running = asyncio.create_task(pulse.run())
    await asyncio.sleep(0.02)
    (thread,) = (one for one in threading.enumerate() if one.name == "pulse")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()


def test_what_was_late_a_minute_ago_is_forgotten() -> None:
    now_s = 0.0
    pulse = Pulse(lambda _: None, clock=lambda: now_s)
    pulse._arrived(-3.0)
    assert (pulse.lag_s, pulse.worst_s) == (3.0, 3.0)
    now_s = 61.0
    assert pulse.worst_s == 0.0
