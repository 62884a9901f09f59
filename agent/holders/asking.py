"""Asks peers ring by ring, the nearest ring first. The scatter index and the tag finder use it.

A ring is asked all at once. The next ring is asked for what the nearer ones do not have. Who is asked when,
and how long each peer is waited for, is decided in `agent.pull.asking`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.peering.channels import NoReply
from agent.pull.asking import AskingPolicy, Step, grace_s
from agent.tasks import end_all

Query = Callable[[Peer, Question, float], Awaitable[Reply]]
"""Put a question to one peer, with a deadline in seconds. Raises `NoReply`."""

OnReply = Callable[[Peer, Reply], None]


class RingAsker:
    """Asks the members of a roster. Use as an async context manager, or `close` it.

    ``policy``: says who is asked when, and learns which peers did not reply.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        policy: AskingPolicy,
        query: Query,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster = roster
        self._policy = policy
        self._query = query
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
        await end_all(self._questions)

    async def ask_by_ring(
        self, *, question: Callable[[], Question | None], on_reply: OnReply, enough: Callable[[], bool]
    ) -> None:
        """Ask ring by ring. Peers that are slow go on in the background after the return.

        ``question``: what is to be asked of the next ring; None ends the asking. ``on_reply``: gets every
        reply, the late ones too. ``enough``: whether further replies are not worth waiting for.
        """
        steps = self._policy.by_ring(self._roster.rings, self._clock())
        await self._ask(steps, question, on_reply, enough)

    async def ask_everyone(self, question: Question, on_reply: OnReply) -> None:
        """Ask all peers at once and wait for all of them, the slow ones as long as the settings say."""
        steps = self._policy.everyone(self._roster.rings, self._clock())
        await self._ask(steps, lambda: question, on_reply, lambda: False)

    async def _ask(
        self,
        steps: tuple[Step[Peer], ...],
        question: Callable[[], Question | None],
        on_reply: OnReply,
        enough: Callable[[], bool],
    ) -> None:
        pending: set[asyncio.Task[None]] = set()
        for step in steps:
            asked = question()
            if asked is None:
                break
            pending |= self._start(step.peers, asked, on_reply, step.deadline_s)
            pending = await self._wait(pending, step.wait_s, enough)
        # Open questions go on in the background: a late reply is worth keeping, a failure worth knowing.

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
            self._policy.silent(peer.name, self._clock())
            return
        self._metrics.question("answered")
        on_reply(peer, reply)

    async def _wait(
        self, pending: set[asyncio.Task[None]], at_most_s: float, enough: Callable[[], bool]
    ) -> set[asyncio.Task[None]]:
        """Wait for the tasks, but not long after there is enough. Returns those still running."""
        started_s = self._clock()
        until_s = started_s + at_most_s
        graced = False
        while pending and (left_s := until_s - self._clock()) > 0:
            _, pending = await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not graced and enough():
                graced = True
                took_s = self._clock() - started_s
                until_s = min(until_s, self._clock() + grace_s(took_s))
        return pending
