"""What is wanted is gathered while enough is under way, and everybody who waits is answered. Virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent.holders.gathering import Found, Gatherer
from agent.holders.index import Holders
from agent.holders.wire import DIGESTS_MAX
from tests.unit.twins import loop_clock, run_in_virtual_time, sha256

A, B, C, D = (sha256(name) for name in "abcd")
NOBODY = Holders(nodes=(), exhaustive=True)


@dataclass
class Work:
    """Work that takes a second each. ``at_once``: so much may run."""

    at_once: int = 1
    began: list[tuple[float, Found]] = field(default_factory=list)

    async def __call__(self, found: Found) -> None:
        self.began.append((round(loop_clock(), 3), found))
        await asyncio.sleep(1.0)
        for future in found.values():
            future.set_result(NOBODY)

    def pause_s(self, running: int) -> float:
        return 0.0 if running < self.at_once else 0.1

    pause_again_s = pause_s

    @property
    def batches(self) -> list[tuple[float, set[str]]]:
        return [(at_s, set(found)) for at_s, found in self.began]


def play(scenario: Callable[[Gatherer, Work], Awaitable[None]], work: Work) -> None:
    async def main() -> None:
        gatherer = Gatherer(work, work)
        try:
            await scenario(gatherer, work)
        finally:
            await gatherer.close()

    run_in_virtual_time(main())


def test_first_work_begins_at_once_and_what_is_wanted_meanwhile_is_one_more() -> None:
    async def scenario(gatherer: Gatherer, work: Work) -> None:
        futures = [gatherer.want([digest])[digest] for digest in (A, B, C)]
        futures += gatherer.want([C, D]).values()
        assert await asyncio.gather(*futures) == [NOBODY] * 5
        (first_s, first), (then_s, then) = work.batches
        assert (first, then) == ({A}, {B, C, D})
        assert 1.0 <= then_s - first_s <= 1.2

    play(scenario, Work())


def test_what_is_wanted_again_while_it_waits_is_the_same_and_while_it_runs_is_asked_anew() -> None:
    async def scenario(gatherer: Gatherer, work: Work) -> None:
        running = gatherer.want([A])[A]
        waiting = gatherer.want([A])[A]
        assert waiting is not running
        assert gatherer.want([A])[A] is waiting
        await waiting
        assert len(work.began) == 2

    play(scenario, Work())


def test_pause_that_is_over_before_there_is_room_is_followed_by_another_one() -> None:
    async def scenario(gatherer: Gatherer, work: Work) -> None:
        await asyncio.gather(*(gatherer.want([digest])[digest] for digest in (A, B)))
        (_, _), (then_s, _) = work.batches
        assert then_s >= 1.0

    play(scenario, Work())


def test_one_work_has_no_more_digests_than_a_question_takes() -> None:
    async def scenario(gatherer: Gatherer, work: Work) -> None:
        found = gatherer.want(sha256(number) for number in range(2 * DIGESTS_MAX + 1))
        await asyncio.gather(*found.values())
        assert [len(each) for _, each in work.began] == [DIGESTS_MAX, DIGESTS_MAX, 1]

    play(scenario, Work())


def test_nothing_is_asked_for_nothing() -> None:
    async def scenario(gatherer: Gatherer, work: Work) -> None:
        assert gatherer.want([]) == {}
        assert work.began == []

    play(scenario, Work())


def test_who_waits_when_it_closes_gets_no_answer_and_is_not_left_waiting() -> None:
    async def scenario(gatherer: Gatherer, _work: Work) -> None:
        running, waiting = gatherer.want([A])[A], gatherer.want([B])[B]
        await asyncio.sleep(0.01)
        await gatherer.close()
        assert [await running, await waiting] == [None, None]
        await gatherer.close()

    play(scenario, Work())
