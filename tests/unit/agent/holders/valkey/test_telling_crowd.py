"""Nodes of a cluster of 5,000 that tell all they have at the same moment. In virtual time.

A part of them stands for all: each node's pace comes from the number of members.
"""

import asyncio

from agent.holders.valkey.announcements import BITS_PER_S
from tests.unit.agent.holders.valkey.crowd import Crowd, Told, crowded
from tests.unit.twins import run_in_virtual_time

MEMBERS, PART, DIGESTS = 5000, 25, 500
_ALL_S = MEMBERS * DIGESTS / BITS_PER_S  # as long as it takes at least


def _check(told: Told) -> None:
    """Batches are of 250 digests, so a part of the nodes varies more than all of them."""
    assert _ALL_S / 2 < told.seconds < 1.5 * _ALL_S
    assert told.bits / told.seconds < 1.1 * BITS_PER_S / PART
    assert told.bits_peak < 2.5 * BITS_PER_S / PART
    assert told.calls_peak < 8000 / PART


def test_those_that_start_together_tell_no_more_than_the_bound_and_are_soon_done() -> None:
    async def play() -> None:
        with crowded(agents=MEMBERS // PART, digests=DIGESTS, members=MEMBERS) as crowd:
            _check(await crowd.told())

    run_in_virtual_time(play())


def test_a_server_that_lost_everything_is_not_stormed_whether_it_says_so_or_not() -> None:
    async def play() -> None:
        with crowded(agents=MEMBERS // PART, digests=DIGESTS, members=MEMBERS) as crowd:
            await crowd.told()
            for says_so in (True, False):
                await asyncio.sleep(60.0)
                _empty(crowd, says_so=says_so)
                _check(await crowd.told())

    run_in_virtual_time(play())


def _empty(crowd: Crowd, *, says_so: bool) -> None:
    crowd.server.empty()
    if says_so:
        crowd.server.reset()
