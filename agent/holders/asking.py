"""Asks peers, the nearest first. The scatter index and the tag finder use it.

Who is asked when, and how long each peer is waited for, is decided in `agent.pull.asking`, and in
`agent.pull.nearby` where there are too many to ask all of them.
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
from agent.pull.asking import Asked, AskingPolicy, Awaited, Step
from agent.pull.lateness import CATCH_UP_S, held_up
from agent.pull.nearby import NearbyAsking
from agent.tasks import end_all, wait_for_event

_BUSY_STATUS = 503  # the peer has as many channels as it takes
_SEARCHES_MAX = 4
_GATHER_S = 0.005  # a thousand look-ups at once become a few questions to each peer

Query = Callable[[Peer, Question, float], Awaitable[Reply]]
"""Put a question to one peer, with a deadline in seconds. Raises `NoReply`."""

OnReply = Callable[[Peer, Reply, int], bool]
"""Is called with each reply, and with the ring of the peer; 0 is the nearest.

Returns whether the peer has what is asked for.
"""

Enough = Callable[[int], bool]
"""Whether further replies are not worth waiting for.

Is called when a peer replied, failed or became late, with `Awaited.nearest`.
"""


class PeerAsker:
    """Asks the members of a roster. Use as an async context manager, or `close` it.

    ``policy``: says who is asked when, and learns which peers replied how soon. ``nearby``: says who is
    asked instead, if there are more than ``everybody_max`` peers.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        policy: AskingPolicy,
        query: Query,
        metrics: Metrics,
        nearby: NearbyAsking[Peer] | None = None,
        everybody_max: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster = roster
        self._policy = policy
        self._asks_nearby = nearby
        self._everybody_max = everybody_max
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

    @property
    def _nearby(self) -> NearbyAsking[Peer] | None:
        return self._asks_nearby if len(self._roster) > self._everybody_max else None

    def only(self, nearby: NearbyAsking[Peer], *, above: int = 0) -> "PeerAsker":
        """One that asks only the peers nearby, with this one's knowledge of them. Closing one closes both.

        ``above``: up to so many peers it asks all of them.
        """
        other = PeerAsker(
            roster=self._roster,
            policy=self._policy,
            query=self._query,
            metrics=self._metrics,
            nearby=nearby,
            everybody_max=above,
            clock=self._clock,
        )
        other._questions = self._questions
        return other

    def pause_s(self, searches: int) -> float:
        """How long to gather what is wanted before the next search begins. ``searches``: those that run."""
        if self._nearby is not None:
            return self._nearby.pause_s(searches, self._clock())
        return 0.0 if searches < _SEARCHES_MAX else _GATHER_S

    def pause_again_s(self, searches: int) -> float:
        """The same, after such a pause."""
        return 0.0 if self._nearby is None else self.pause_s(searches)

    async def ask_nearest(
        self,
        *,
        question: Callable[[], Question | None],
        on_reply: OnReply,
        enough: Enough,
        patient: bool = False,
    ) -> None:
        """Ask the nearest peers, then farther ones. Slow peers go on in the background after the return.

        ``question``: what is to be asked in the next step; None ends the asking. ``on_reply``: gets every
        reply, the late ones too. ``patient``: see `Awaited`.
        """
        asks = self._nearby or self._policy
        steps = asks.nearest_first(self._roster.rings, self._clock())
        await self._ask(steps, question, on_reply, enough, Awaited(patient=patient))

    async def ask_everyone(self, question: Question, on_reply: OnReply) -> None:
        """Ask all peers at once and wait for all of them, the slow ones as long as the settings say."""
        asks = self._nearby or self._policy
        steps = asks.everyone(self._roster.rings, self._clock())
        await self._ask(steps, lambda: question, on_reply, lambda _: False, Awaited())

    async def greet(self, peer: Peer) -> None:
        """Ask a peer nothing. That opens its connection, and tells how soon it replies. Blames nobody."""
        started_s = self._clock()
        try:
            await self._query(peer, Question(), self._policy.timeout_s)
        except NoReply as error:
            if error.status is not None:
                self._policy.heard(peer.name, self._clock())
            return
        now_s = self._clock()
        self._policy.replied(peer.name, now_s - started_s, now_s)

    async def ask_slowly(self, peer: Peer, question: Question, deadline_s: float) -> Reply | None:
        """Ask one peer a question that it answers when it has something to say. None: it does not reply.

        How long it takes says nothing of how soon it replies to others.
        """
        try:
            reply = await self._query(peer, question, deadline_s)
        except NoReply as error:
            self._failed(peer, error)
            return None
        self._policy.heard(peer.name, self._clock())
        return reply

    async def _ask(
        self,
        steps: Iterable[Step[Peer]],
        question: Callable[[], Question | None],
        on_reply: OnReply,
        enough: Enough,
        awaited: Awaited,
    ) -> None:
        changed = asyncio.Event()
        nearby = self._nearby
        for step in steps:
            if nearby is not None and await self._afford(nearby, step, awaited, changed, enough):
                break
            asked = question()
            if asked is None:
                break
            awaited.add(step.asked, self._clock())
            for one in step.asked:
                self._start(one, asked, on_reply, awaited, changed)
            if await self._wait(awaited, changed, step.wait_s, enough):
                break
        # Open questions go on in the background: a late reply is worth keeping, a failure worth knowing.

    async def _afford(
        self,
        nearby: NearbyAsking[Peer],
        step: Step[Peer],
        awaited: Awaited,
        changed: asyncio.Event,
        enough: Enough,
    ) -> bool:
        """Wait until this node may ask so many peers. True: it is not to ask, or has enough by now."""
        count = len(step.asked)
        wait_s = nearby.take(count, self._clock())
        if wait_s is None:
            return True
        until_s = self._clock() + wait_s
        asking = False
        try:
            while not (has_enough := enough(awaited.nearest(now_s := self._clock()))) and now_s < until_s:
                changed.clear()
                next_s = awaited.next_late_s(now_s)
                await wait_for_event(changed, (until_s if next_s is None else min(until_s, next_s)) - now_s)
            asking = not has_enough
        finally:
            if not asking:
                nearby.give_back(count)
        return has_enough

    def _start(
        self,
        asked: Asked[Peer],
        question: Question,
        on_reply: OnReply,
        awaited: Awaited,
        changed: asyncio.Event,
    ) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            self._questions.discard(task)
            awaited.ended(asked.peer.name)
            changed.set()

        task = asyncio.create_task(self._ask_one(asked, question, on_reply, awaited), name="question")
        self._questions.add(task)
        task.add_done_callback(ended)

    async def _ask_one(
        self, asked: Asked[Peer], question: Question, on_reply: OnReply, awaited: Awaited
    ) -> None:
        peer, started_s = asked.peer, self._clock()
        try:
            reply = await self._query(peer, question, asked.deadline_s)
        except NoReply as error:
            self._failed(peer, error)
            return
        self._metrics.question("answered")
        now_s = self._clock()
        self._policy.replied(peer.name, now_s - started_s, now_s)
        if on_reply(peer, reply, asked.ring):
            awaited.answered(asked.ring, now_s - started_s, now_s)

    def _failed(self, peer: Peer, error: NoReply) -> None:
        """A peer did not reply. It failed, unless it was this node that could not ask."""
        self._metrics.question("silent")
        now_s = self._clock()
        if error.own:
            self._policy.could_not_ask(str(error), now_s)
        elif error.status is not None:
            self._policy.refused(peer.name, str(error), now_s, busy=error.status == _BUSY_STATUS)
        else:
            self._policy.unanswered(peer.name, str(error), now_s)

    async def _wait(self, awaited: Awaited, changed: asyncio.Event, at_most_s: float, enough: Enough) -> bool:
        """Wait until there is enough, which is returned, or all have replied, or the time is over."""
        until_s = self._clock() + at_most_s
        while not enough(awaited.nearest(now_s := self._clock())):
            if not awaited.rings or now_s >= until_s:
                return False
            changed.clear()
            next_s = awaited.next_late_s(now_s)
            due_s = until_s if next_s is None else min(until_s, next_s)
            try:
                async with asyncio.timeout(due_s - now_s):
                    await changed.wait()
            except TimeoutError:
                late_s = self._clock() - due_s
                if held_up(late_s):  # this node did not run; the replies may be there, unread
                    until_s += late_s + CATCH_UP_S
                    awaited.shift(late_s + CATCH_UP_S)
        return True
