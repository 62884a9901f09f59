"""The arbiter of claims on this node: answers what other nodes ask, when there is something to say.

What is decided: `agent.holders.claims`. A question may wait here for a verdict, as long as its asker says.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.holders.claims import Ask, ClaimBook, ClaimKey, GivenUp, Granted, Held, Told, Verdict
from agent.holders.claimwire import ClaimCall, ClaimReply
from topology.placement import NodeName

Sources = Callable[[ClaimKey, NodeName, Held], tuple[NodeName, ...]]
"""From whom an asker should fetch, the best first."""


def from_the_claimer(_key: ClaimKey, _asker: NodeName, held: Held) -> tuple[NodeName, ...]:
    """Every asker fetches from the node that has the claim. It sends them on to its other followers."""
    return held.sources


@dataclass(slots=True)
class _Waiting:
    ask: Ask
    verdict: asyncio.Future[Verdict]


class ClaimDesk:
    """Decides on claims. ``book``: what it knows. ``sources``: whom an asker is told. `close` it."""

    def __init__(
        self,
        book: ClaimBook,
        *,
        sources: Sources = from_the_claimer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.book = book
        self._sources = sources
        self._clock = clock
        self._tickets = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def answer(self, call: ClaimCall) -> ClaimReply:
        """The reply to a call. It comes when there is a verdict, or after ``call.wait_s``.

        If it is cancelled, its asker does not wait any more, and gives back what it just got.
        """
        kept = tuple(self._hear(call))
        if call.ask is None:
            self._look_later()
            return ClaimReply(kept=kept)
        ask, ticket = call.ask, next(self._tickets)
        waiting = self._waiting[ticket] = _Waiting(ask, asyncio.get_running_loop().create_future())
        delivered = False
        try:
            self._tell(self.book.ask(ask, ticket, self._clock()))
            self._look_later()
            if not waiting.verdict.done():
                await asyncio.wait((waiting.verdict,), timeout=call.wait_s)
            delivered = True
        finally:
            del self._waiting[ticket]
            self.book.left(ticket)
            if not delivered and waiting.verdict.done() and waiting.verdict.result() == Granted():
                self._tell(self.book.given_up(ask.key, ask.node, self._clock(), failed=False))
        if not waiting.verdict.done():
            queued = self.book.is_queued(ask.key, self._clock())
            return ClaimReply(kept=kept, holder=self.book.holder(ask.key), queued=queued)
        verdict = waiting.verdict.result()
        if isinstance(verdict, Held):
            verdict = replace(verdict, sources=self._sources(ask.key, ask.node, verdict))
        return ClaimReply(verdict=verdict, kept=kept)

    def gone(self, node: NodeName) -> None:
        """The connection of a node ended."""
        self.book.gone(node, self._clock())
        self._look_later()

    def close(self) -> None:
        """Decide on nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _hear(self, call: ClaimCall) -> list[bool]:
        kept: list[bool] = []
        for news in call.news:
            has_it, told = self.book.hear(news, call.node, self._clock())
            self._tell(told)
            kept.append(has_it and not isinstance(news, GivenUp))
        return kept

    def _tell(self, told: tuple[Told, ...]) -> None:
        for each in told:
            waiting = self._waiting.get(each.ticket)
            if waiting is not None and not waiting.verdict.done():
                waiting.verdict.set_result(each.verdict)

    def _look_later(self) -> None:
        """Look at the book again when it wants it. A timer that is due sooner is kept."""
        next_s = self.book.next_s
        if next_s is None:
            return
        wait_s = max(0.0, next_s - self._clock())
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() <= loop.time() + wait_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(wait_s, self._look)

    def _look(self) -> None:
        self._timer = None
        self._tell(self.book.expire(self._clock()))
        self._look_later()
