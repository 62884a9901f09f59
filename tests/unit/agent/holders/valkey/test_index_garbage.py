"""Whatever the server answers: the index says that it is down, or finds nobody. Nothing else ever happens."""

import asyncio
import gc
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.holders.valkey.asked import Command
from agent.holders.valkey.trouble import Refused
from tests.unit.agent.holders.valkey.fakeserver import FakeServer
from tests.unit.agent.holders.valkey.test_index import make
from tests.unit.twins import run_in_virtual_time, sha256

_SCALARS = st.one_of(
    st.none(),
    st.integers(-(10**30), 10**30),
    st.binary(max_size=40),
    st.sampled_from(
        [b"9" * 5000, b"own one", b"other one", b"OK", b"\xff" * 3000, Refused("WRONGTYPE"), True, 1.5]
    ),
)
_REPLIES = st.one_of(
    _SCALARS, st.lists(_SCALARS, max_size=70), st.dictionaries(st.binary(max_size=3), _SCALARS)
)


class Garbler(FakeServer):
    """Answers some commands with what the test has, and the others as it should."""

    def __init__(self, garbage: Sequence[Any], share: float, seed: int) -> None:
        super().__init__()
        self._garbage, self._share, self._chance = garbage, share, random.Random(seed)

    async def call(
        self, *commands: Command, tracked: bool = False, timeout_s: float | None = None
    ) -> Sequence[Any]:
        right = await super().call(*commands, tracked=tracked, timeout_s=timeout_s)
        return [
            self._chance.choice(self._garbage) if self._chance.random() < self._share else reply
            for reply in right
        ]


@given(st.lists(_REPLIES, min_size=1, max_size=8), st.sampled_from([0.05, 0.5, 1.0]), st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_no_answer_makes_the_index_fail(garbage: Sequence[Any], share: float, seed: int) -> None:
    async def main() -> None:
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        one = make(Garbler(garbage, share, seed))
        running = asyncio.create_task(one.index.run())
        one.index.announce([sha256(number) for number in range(5)])
        one.index.fetching(sha256("flying"))
        for number in range(6):
            await one.index.lookup(sha256(number % 4))
            await one.index.lookup_everyone(sha256(number))
            one.index.withdraw([sha256(number)])
            one.index.status()
            await asyncio.sleep(7.0)
        assert not running.done()
        running.cancel()
        await one.index.close()
        gc.collect()
        assert problems == []  # of no task

    run_in_virtual_time(main())


@pytest.mark.parametrize("reply", [b"9" * 5000, b"", b"-1", "text", None, [], [b"1"], [b"1" * 400, b"2"]])
def test_what_is_no_time_is_no_reason_to_fail(reply: object) -> None:
    async def main() -> None:
        one = make(Garbler([reply], 1.0, 0))
        holders = await one.index.lookup(sha256("a"))
        assert holders.nodes == ()
        assert one.fallback.asked == [sha256("a")]
        await one.index.close()

    run_in_virtual_time(main())
