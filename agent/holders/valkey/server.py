"""The one door to the index's server: connects, looks after it, and asks it for everybody.

All users share one breaker. The first answer that is late or wrong opens it, and ends the waiting of all
others: from then on nobody waits for the server, and one task asks it now and then until it is well again.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from agent.documents.index import IndexWarningEntry
from agent.holders.valkey.checks import Checks, Seen
from agent.holders.valkey.connecting import Link
from agent.holders.valkey.deadline import in_time
from agent.holders.valkey.facts import Facts, warnings_of
from agent.holders.valkey.lane import Invalidated
from agent.holders.valkey.pacing import BETWEEN_GOOD_S, FACTS_S, FOREIGN_S, Breaker, Pacing
from agent.holders.valkey.trouble import IndexDown
from agent.holders.valkey.wire import Command, Reply
from agent.observe.index_metrics import IndexTrouble
from agent.tasks import at_once

_OF_RIGHTS = (IndexTrouble.DENIED, IndexTrouble.OTHER)
_MEMBERS_S = 5.0  # after so long without a list of members, an agent connects all the same
_DRAIN_S = 5.0  # after so long without an owed answer, a connection is given up for a new one


def _not_yet() -> IndexDown:
    return IndexDown(IndexTrouble.NOT_READY, "the server was not reached yet", "wait a moment")


def _ended() -> IndexDown:
    return IndexDown(IndexTrouble.NOT_READY, "this agent stops", "nothing is wrong")


class Server:
    """``connect``: makes a connection. ``warnings``: what is known of the settings from the start.

    ``failed``: counts what goes wrong. ``members_known``: returns when there is a list of members.
    """

    def __init__(
        self,
        connect: Callable[[Invalidated], Coroutine[Any, Any, Link]],
        *,
        checks: Checks,
        pacing: Pacing,
        timeout_s: float,
        failed: Callable[[IndexTrouble], None],
        warnings: Sequence[IndexWarningEntry] = (),
        members_known: Callable[[], Awaitable[object]] = at_once,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._checks = checks
        self._pacing = pacing
        self._timeout_s = timeout_s
        self._failed = failed
        self._warnings = tuple(warnings)
        self._members_known = members_known
        self._clock = clock
        self._breaker = Breaker()
        self._link: Link | None = None
        self._down = _not_yet()
        self._was_healthy = False
        self._has_rights = False
        self._full: IndexDown | None = None
        self._seen: Seen | None = None
        self._was_away = False
        self._works_since_s = -math.inf
        self._tripped = asyncio.Event()
        self._woken = asyncio.Event()  # something happened that is to be looked at
        self._facts_s = -FACTS_S
        self._resets: list[Callable[[], None]] = []
        self._invalids: list[Invalidated] = []
        self.facts = Facts()
        self.latency_us: float | None = None
        """How long the last answer took, there and back."""
        self.reset_reason = ""
        """Why the last reset was thought to be one, in words."""

    @property
    def healthy(self) -> bool:
        """Whether it is asked now."""
        return self._breaker.is_closed

    @property
    def writable(self) -> bool:
        """Whether it takes writes. A full one still answers what it knows."""
        return self._full is None

    @property
    def caught_up(self) -> bool:
        """Whether the nodes had the time to tell it what came while it was out of reach or full.

        After the start it counts as such: nobody knows what was before.
        """
        return self._clock() - self._works_since_s >= self._pacing.caught_up_s

    @property
    def trouble(self) -> IndexDown | None:
        """Why it is not asked, or not for everything. None: it is."""
        return self._full if self.healthy else self._down

    @property
    def problem(self) -> str | None:
        """The same in words."""
        return None if self.trouble is None else self.trouble.words

    @property
    def hint(self) -> str:
        """What a person can do about it. Empty: nothing is wrong."""
        return "" if self.trouble is None else self.trouble.hint

    @property
    def tracking(self) -> bool:
        """Whether it tells of changes of what was read with ``tracked``."""
        return self._link is not None and self._link.is_tracking

    @property
    def clustered(self) -> bool:
        """Whether it is a Cluster: the keys of one command have to be of one slot."""
        return self._link is not None and self._link.is_clustered

    @property
    def young_s(self) -> float | None:
        """For how long there has been an index on it: since it was emptied. None: not known."""
        return None if self._seen is None else self._clock() - self._seen.made_s

    @property
    def cluster(self) -> str | None:
        """The id of this cluster there. None: not known yet."""
        return None if self._seen is None else self._seen.marker.cluster

    @property
    def warnings(self) -> tuple[IndexWarningEntry, ...]:
        """What works, and that a person should know."""
        return (*self._warnings, *warnings_of(self.facts))

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Call this when the server has, or may have, lost what it was told. It must not fail."""
        self._resets.append(callback)

    def on_invalid(self, callback: Invalidated) -> None:
        """Call this with the keys whose tracked values changed. None: all of them. It must not fail."""
        self._invalids.append(callback)

    async def call(
        self, *commands: Command, tracked: bool = False, timeout_s: float | None = None
    ) -> list[Reply]:
        """The replies to these commands, in one round trip. An error about one command is a `Refused`.

        ``tracked``: tell `on_invalid` when a key changes that the first command reads. ``timeout_s``: more
        than usual. Raises `IndexDown`, at once if the server is not asked now.
        """
        if not commands:
            return []
        link = self._link
        if link is None or not self.healthy:
            raise self._down.again()
        started_s = self._clock()
        try:
            told = link.send(commands, tracked=tracked)
            replies = await in_time(told, max(self._timeout_s, timeout_s or 0.0))
        except IndexDown as error:
            self._call_failed(error, link)
            raise error.again() from None
        self.latency_us = (self._clock() - started_s) * 1e6
        return replies

    async def is_as_seen(self) -> bool:
        """Whether it was not emptied since it was looked at last. Else it is looked at soon.

        Raises `IndexDown`.
        """
        (value,) = await self.call(("GET", self._checks.marker_key))
        if self._seen is not None and self._seen.marker.is_in(value):
            return True
        self._woken.set()
        return False

    async def run(self) -> None:
        """Connect, and keep the server in view, until cancelled."""
        try:
            await self._take_turn()
            while True:
                try:
                    await self._be_served()
                except IndexDown as error:
                    if not self._tripped.is_set():  # else a caller was first
                        self._trip(error)
                    await self._settle()
                    await asyncio.sleep(self._pause_s())
        finally:
            self._breaker.failed()
            self._down = _ended()
            await self._drop()

    async def _take_turn(self) -> None:
        """Agents that were started together connect one after the other, once they know how many they are."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._members_known(), _MEMBERS_S)
        await asyncio.sleep(self._pacing.first_s())

    async def _be_served(self) -> None:
        """Become healthy and stay so. Raises `IndexDown` when that ends, or does not come about."""
        self._tripped.clear()
        link = self._link
        if link is None:
            link = self._link = await self._connect(self._invalid)
            was_emptied = await self._look(link)
            if not self._has_rights:
                await self._checks.rights(link)
                self._has_rights = True
            await self._read_facts(link, is_news=not was_emptied)
            self._breaker.answered()  # so many answers in time are more than one
        else:
            await self._look(link)
        self._breaker.answered()
        while not self.healthy:
            await asyncio.sleep(BETWEEN_GOOD_S)
            await self._look(link)
            self._breaker.answered()
        self._was_healthy = True
        if self._was_away:
            self._was_away, self._works_since_s = False, self._clock()
        while True:
            await self._wait(link)
            await self._look(link)
            if self.facts.may_evict_soon or self._clock() - self._facts_s >= FACTS_S:
                await self._read_facts(link)

    async def _wait(self, link: Link) -> None:
        """Until the next look. Raises `IndexDown` when something goes wrong meanwhile."""
        await self._first_of(
            link, self._pacing.look_s() if self.writable else self._pacing.next_s(), self._woken
        )
        if self._woken.is_set():  # all agents were told at the same moment
            self._woken.clear()
            await self._first_of(link, self._pacing.first_s())

    async def _first_of(self, link: Link, within_s: float, *events: asyncio.Event) -> None:
        """Until one of these, or the time is over. Raises `IndexDown` when something goes wrong meanwhile."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._tripped, *events)]
        try:
            heard: list[asyncio.Future[Any]] = [*waiting, link.lost]
            await asyncio.wait(heard, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if link.lost.done():
            raise link.lost.result().again()
        if self._tripped.is_set():
            raise self._down.again()

    async def _look(self, link: Link) -> bool:
        """Whether it was emptied since the last look, which is told."""
        seen = await self._checks.look(link)
        if self._full is not None and seen.full is None:
            self._works_since_s = self._clock()
        before, self._seen, self._full = self._seen, seen, seen.full
        await self._checks.renamed(link, seen.marker)
        was_emptied = before is not None and before.marker.number != seen.marker.number
        if was_emptied:
            self._reset("the server was emptied")
        return was_emptied

    async def _read_facts(self, link: Link, *, is_news: bool = True) -> None:
        before, self.facts = self.facts, await self._checks.facts(link)
        self._facts_s = self._clock()
        if is_news and before.run_id is not None and self.facts.run_id not in (None, before.run_id):
            self._reset("another server answers: it was restarted, or failed over")

    def _reset(self, reason: str) -> None:
        self.reset_reason = reason
        self._invalid(None)
        for callback in self._resets:
            callback()

    def _invalid(self, keys: Sequence[bytes] | None) -> None:
        if keys is None:
            self._woken.set()  # it may have been emptied
        for callback in self._invalids:
            callback(keys)

    def _call_failed(self, error: IndexDown, link: Link) -> None:
        if link is not self._link or not self.healthy:
            return  # whoever was first has said so
        if error.leaves_reads:
            self._full = error.again()
            self._woken.set()  # from now on it is looked at more often
            self._failed(error.kind)
        elif error.passes:
            self._failed(error.kind)
        else:
            self._trip(error)

    def _trip(self, error: IndexDown) -> None:
        """From now on nobody waits for the server."""
        self._failed(error.kind)
        self._has_rights = self._has_rights and error.kind not in _OF_RIGHTS
        self._down = error.again()
        self._breaker.failed()
        self._was_away = True
        self._tripped.set()
        if self._link is not None:
            self._link.give_up(error)

    async def _settle(self) -> None:
        """Keep a slow server's connection if it answers after all: it need not be made again by everybody."""
        link = self._link
        if link is None or link.lost.done() or self._down.kind is not IndexTrouble.SLOW:
            return await self._drop()
        try:
            await asyncio.wait_for(link.drained(), _DRAIN_S)
        except TimeoutError:
            return await self._drop()
        return await self._drop() if link.lost.done() else None

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _pause_s(self) -> float:
        """Until the next attempt. After a connection that worked, the first one comes soon."""
        was_healthy, self._was_healthy = self._was_healthy, False
        if self._down.kind is IndexTrouble.FOREIGN:
            return self._pacing.chance(0.5 * FOREIGN_S, 1.5 * FOREIGN_S)
        if was_healthy and self._down.kind is not IndexTrouble.SLOW:
            return self._pacing.first_s()
        return self._pacing.next_s()
