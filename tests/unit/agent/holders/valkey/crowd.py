"""Thousands of nodes that tell one server what they have, in virtual time: what no machine can spoil.

    python -m tests.unit.agent.holders.valkey.crowd [AGENTS] [DIGESTS]

prints how long it takes until the server knows 99 %, and what it is asked meanwhile.
"""

import asyncio
import logging
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agent.holders.valkey.asked import Command
from agent.holders.valkey.leasing import Lease
from agent.holders.valkey.numbers import Numbers
from agent.holders.valkey.serverclock import ServerClock
from agent.holders.valkey.telling import Teller
from tests.unit.agent.holders.valkey.fakeserver import LAYOUT, FakeServer
from tests.unit.twins import loop_clock, node, run_in_virtual_time, sha256

_KNOWN = 0.99
_DIGESTS = 3000  # different ones


class CountingServer(FakeServer):
    """Counts calls and bits by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.called: Counter[int] = Counter()
        self.bits: Counter[int] = Counter()

    async def call(
        self, *commands: Command, tracked: bool = False, timeout_s: float | None = None
    ) -> Sequence[Any]:
        """See `FakeServer.call`."""
        second = int(loop_clock())
        self.called[second] += 1
        self.bits[second] += sum(command[0] == "SETBIT" for command in commands)
        try:
            return await super().call(*commands, tracked=tracked, timeout_s=timeout_s)
        finally:
            self.calls.clear()  # thousands of agents make millions


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """``seconds``: until the server knew 99 %. Peaks are of one second."""

    seconds: float
    calls_peak: int
    bits_peak: int
    bits: int

    def __str__(self) -> str:
        return (
            f"99 % after {self.seconds:.1f} s; at most {self.calls_peak} calls and {self.bits_peak} bits "
            f"in a second, {self.bits / self.seconds:.0f} bits a second on average"
        )


class Crowd:
    """``agents`` nodes with ``digests`` each, of a cluster of ``members``. Use `crowded`."""

    def __init__(self, *, agents: int, digests: int, members: int, seed: int = 1) -> None:
        self.server = CountingServer()
        self._digests = digests
        self._chance, self._members = random.Random(seed), members
        contents = [sha256(each) for each in range(_DIGESTS)]
        self._tellers = [self._teller(each) for each in range(agents)]
        for teller in self._tellers:
            teller.have(self._chance.sample(contents, digests))

    def _teller(self, number: int) -> Teller:
        clock, known = ServerClock(), asyncio.Event()
        known.set()
        lease = Lease(
            self.server,
            LAYOUT,
            own=node(f"node-{number}"),
            agent="one",
            numbers=Numbers(),
            server_clock=clock,
            members=lambda: self._members,
            clock=loop_clock,
            asleep_clock=loop_clock,
            chance=self._chance.randrange,
        )
        return Teller(
            self.server,
            LAYOUT,
            lease=lease,
            server_clock=clock,
            members=lambda: self._members,
            on_reset=lambda: None,
            members_known=known.wait,
            clock=loop_clock,
            chance=self._chance.uniform,
        )

    def start(self) -> list[asyncio.Task[None]]:
        """All of them in one moment."""
        return [asyncio.create_task(teller.run()) for teller in self._tellers]

    async def told(self) -> Told:
        """Wait until the server was told 99 % from now on."""
        self.server.called.clear()
        self.server.bits.clear()
        began_s, wanted = loop_clock(), _KNOWN * len(self._tellers) * self._digests
        while (told := self.server.bits.total()) < wanted:  # noqa: ASYNC110 - it counts for nobody
            await asyncio.sleep(0.5)
        return Told(
            seconds=loop_clock() - began_s,
            calls_peak=max(self.server.called.values()),
            bits_peak=max(self.server.bits.values()),
            bits=told,
        )


@contextmanager
def crowded(*, agents: int, digests: int, members: int) -> Iterator[Crowd]:
    """A crowd that has started."""
    crowd = Crowd(agents=agents, digests=digests, members=members)
    running = crowd.start()
    try:
        yield crowd
    finally:
        for task in running:
            task.cancel()


def main() -> None:
    """Start, a server that is restarted, and one that is emptied without anybody saying so."""
    agents, digests = (int(each) for each in (sys.argv[1:] + ["5000", "500"][len(sys.argv) - 1 :]))
    logging.disable(logging.WARNING)

    async def play() -> None:
        with crowded(agents=agents, digests=digests, members=agents) as crowd:
            print(f"{agents} agents with {digests} digests each start together: {await crowd.told()}")
            await asyncio.sleep(60.0)
            crowd.server.empty()
            crowd.server.reset()
            print(f"the server restarts empty, which its connections tell: {await crowd.told()}")
            await asyncio.sleep(60.0)
            crowd.server.empty()
            print(f"it is emptied, which audits find: {await crowd.told()}")

    run_in_virtual_time(play())


if __name__ == "__main__":
    main()
