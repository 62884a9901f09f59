"""Asks peers ring by ring, the nearest ring first. The scatter index and the tag finder use it.

All peers of a ring are asked at once. The next ring is asked for what the nearer rings do not have. It is
also asked if a ring takes longer than `patience_s`. After a first answer the other peers get as much time
again as that answer took, because equal holders should share the work. Peers that cool off are asked last,
and get only `patience_s`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

from agent.config import LookupSettings
from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.members.roster import Rings, Roster
from agent.observe.metrics import Metrics
from agent.peering.channels import NoReply
from agent.pull.regard import Regard

GRACE_LEAST_S = 0.002
"""After the first answer, the other peers get at least this much time."""

Query = Callable[[Peer, Question, float], Awaitable[Reply]]
"""Put a question to one peer, with a deadline in seconds. Raises `NoReply`."""

OnReply = Callable[[Peer, Reply], None]


class RingAsker:
    """Asks the members of a roster. Use as an async context manager, or `close` it.

    Peers that do not reply are reported to ``regard`` as failed.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        regard: Regard,
        query: Query,
        settings: LookupSettings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster = roster
        self._regard = regard
        self._query = query
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._questions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the questions that are still open."""
        running = [*self._questions]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def ask_by_ring(
        self, *, question: Callable[[], Question | None], on_reply: OnReply, enough: Callable[[], bool]
    ) -> None:
        """Ask ring by ring. Questions to slow peers go on in the background after the return.

        ``question``: returns the question for the next ring, or None to stop. ``on_reply``: gets every reply,
        even late ones. ``enough``: returns whether the replies so far are enough.
        """
        await self._ask(self._well(), question, on_reply, enough)

    async def ask_everyone(self, question: Question, on_reply: OnReply) -> None:
        """Ask all peers at once, and wait for all of them, but not longer than `lookup.timeout_s`."""
        everyone = tuple(peer for ring in self._well() for peer in ring)
        await self._ask((everyone,), lambda: question, on_reply, lambda: False)

    def _well(self) -> Rings:
        """The peers that do not cool off, nearest ring first. No ring is empty."""
        cooling = frozenset(self._regard.cooling(self._clock()))
        if not cooling:
            return self._roster.rings
        well = (tuple(peer for peer in ring if peer.name not in cooling) for ring in self._roster.rings)
        return tuple(ring for ring in well if ring)

    def _cooling(self) -> tuple[Peer, ...]:
        """The peers that cool off."""
        peers = map(self._roster.peer, self._regard.cooling(self._clock()))
        return tuple(peer for peer in peers if peer is not None)

    async def _ask(
        self,
        rings: Rings,
        question: Callable[[], Question | None],
        on_reply: OnReply,
        enough: Callable[[], bool],
    ) -> None:
        pending: set[asyncio.Task[None]] = set()
        last_resort = self._cooling()
        for ring in rings:
            asked = question()
            if asked is None:
                break
            pending |= self._start(ring, asked, on_reply, self._settings.timeout_s)
            pending = await self._wait(pending, self._settings.patience_s, enough)
        else:
            if not enough():
                pending = await self._wait(pending, self._settings.timeout_s, enough)
        asked = question()
        if asked is not None and last_resort:
            pending |= self._start(last_resort, asked, on_reply, self._settings.patience_s)
            await self._wait(pending, self._settings.patience_s, enough)
        # Open questions go on in the background: a late reply and a failure are both worth knowing.

    def _start(
        self, peers: Iterable[Peer], question: Question, on_reply: OnReply, timeout_s: float
    ) -> set[asyncio.Task[None]]:
        tasks = {
            asyncio.create_task(self._ask_one(peer, question, on_reply, timeout_s), name="question")
            for peer in peers
        }
        for task in tasks:
            self._questions.add(task)
            task.add_done_callback(self._questions.discard)
        return tasks

    async def _ask_one(self, peer: Peer, question: Question, on_reply: OnReply, timeout_s: float) -> None:
        try:
            reply = await self._query(peer, question, timeout_s)
        except NoReply:
            self._metrics.question("silent")
            self._regard.failed(peer.name, self._clock())
            return
        self._metrics.question("answered")
        on_reply(peer, reply)

    async def _wait(
        self, pending: set[asyncio.Task[None]], at_most_s: float, enough: Callable[[], bool]
    ) -> set[asyncio.Task[None]]:
        """Wait for the tasks. Stop soon after there is enough. Returns those that still run."""
        started_s = self._clock()
        until_s = started_s + at_most_s
        graced = False
        while pending and (left_s := until_s - self._clock()) > 0:
            _, pending = await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not graced and enough():
                graced = True
                took_s = self._clock() - started_s
                until_s = min(until_s, self._clock() + max(GRACE_LEAST_S, took_s))
        return pending
