"""Tells the server what this node has, and finds out whether the server still knows it.

What is told when is decided in `agent.holders.valkey.announcements`. Here it becomes commands: one task, one
call at a time, so that an announcement and a withdrawal never cross.

Every ten seconds, or later where there are more than 5,000 nodes, the number's key and some bits are read
back. A server that was restarted, emptied, failed over or that evicts keys shows there. Then everything is
told again. If most bits are gone, it counts as a reset.
"""

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.holders.valkey.announcements import Announcements, Batch, audit_s
from agent.holders.valkey.asked import Command, IndexServer
from agent.holders.valkey.layout import ALIVE_S, ALIVE_TTL_S, BITMAP_TTL_S, EPOCH_S, FLIGHT_TTL_S, Layout
from agent.holders.valkey.leasing import Lease, Whose
from agent.holders.valkey.serverclock import ServerClock
from agent.holders.valkey.trouble import IndexDown, Refused
from agent.oci.digest import Digest

_log = logging.getLogger(__name__)

_SAMPLE = 16  # a third of the keys is gone: one audit in 600 finds nothing
_SAMPLE_UNSURE = 48
_STARTS_PER_S = 1000.0  # nodes that take their numbers, or look after a reset, of the whole cluster
_NAMES_S = 600.0
_AWAY_S = 1.0  # until it is looked again whether the server is there
_ALIVE_MOST_S = ALIVE_S - 2.5  # between two signs of life: one falls into each period
_FLIGHT_RENEWED_S = FLIGHT_TTL_S / 3
_FLIGHTS_MAX = 256
_DENIED_MAX, _DENIED_S = 32, 60.0
_GATHER_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """When the server was found to have lost what it was told, and why that is thought."""

    at_s: float
    reason: str


class Teller:
    """Keeps the number, and tells. ``members_known``: returns when there is a list of members.

    ``growing``: whether a digest is still being fetched by this node.
    """

    def __init__(
        self,
        server: IndexServer,
        layout: Layout,
        *,
        lease: Lease,
        server_clock: ServerClock,
        members: Callable[[], int],
        on_reset: Callable[[], None],
        members_known: Callable[[], Awaitable[object]],
        growing: Callable[[Digest], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._server = server
        self._layout = layout
        self._lease = lease
        self._server_clock = server_clock
        self._members = members
        self._on_reset = on_reset
        self._members_known = members_known
        self._growing = growing
        self._clock = clock
        self._chance = chance
        self.announcements = Announcements(chance=chance, now_s=clock())
        self._flying: dict[Digest, float] = {}  # when each is to be told next
        self._flown: set[Digest] = set()  # those of them that were told, and those that have landed since
        self._wake = asyncio.Event()
        self._began_s = clock()
        self._denied: deque[float] = deque(maxlen=_DENIED_MAX)
        self._audit_s = 0.0
        self._alive_s = 0.0
        self._names_s = 0.0
        self._evicted = 0
        self._doubted_until_s = -math.inf
        self.resets = 0
        self.last_reset: Reset | None = None
        server.on_reset(self._may_be_gone)

    def have(self, digests: Iterable[Digest]) -> None:
        """This node has these."""
        some = [*digests]
        self.announcements.have(some, self._clock())
        for digest in some:
            self._flying.pop(digest, None)
        self._wake.set()

    def lack(self, digests: Iterable[Digest]) -> None:
        """This node no longer has these."""
        some = [*digests]
        self.announcements.lack(some, self._clock())
        self._flown.difference_update(some)
        self._wake.set()

    def fetching(self, digest: Digest) -> None:
        """This node fetches it now."""
        if digest not in self._flying and len(self._flying) < _FLIGHTS_MAX:
            self._flying[digest] = self._clock() + _GATHER_S
            self._wake.set()

    def denied(self, digest: Digest) -> None:
        """A peer asked for it in vain. An agent of this node before this one may have announced it.

        Its bits are there for two epochs. A peer that asks for anything costs a few commands a minute.
        """
        now_s = self._clock()
        if digest in self.announcements or now_s - self._began_s > BITMAP_TTL_S:
            return
        if len(self._denied) == _DENIED_MAX and now_s - self._denied[0] < _DENIED_S:
            return
        self._denied.append(now_s)
        self.lack([digest])

    def is_doubted(self, now_s: float) -> bool:
        """Whether the server lost some of what it was told, and may not know it again yet.

        It is told when an audit finds a gap. One that evicts keys takes other nodes' bits as well, and those
        may be told again as late as in the next epoch.
        """
        before, self._evicted = self._evicted, self._server.facts.evicted
        if self._evicted > before:
            self._doubt(now_s + EPOCH_S)
        return now_s < self._doubted_until_s

    def _doubt(self, until_s: float) -> None:
        self._doubted_until_s = max(self._doubted_until_s, until_s)

    async def run(self) -> None:
        """Tell, until cancelled. Before the members are known, nobody knows how slowly to begin."""
        await self._members_known()
        await asyncio.sleep(self._chance(0.0, self._members() / _STARTS_PER_S))
        while True:
            if not self._server.healthy:
                await asyncio.sleep(self._chance(0.5, 1.0) * _AWAY_S)
                continue
            try:
                await self._turn()
            except IndexDown as error:
                _log.debug("the index was not told: %s", error)
                await asyncio.sleep(self._chance(0.5, 1.0) * _AWAY_S)
                continue
            await self._pause()

    async def _turn(self) -> None:
        """Do what is due."""
        self.announcements.members(self._members())
        await self._audit_if_due()
        now_s = self._clock()
        epoch, left_s = self._server_clock.epoch(now_s), self._server_clock.left_s(now_s)
        if self.announcements.enter(epoch, now_s, left_s=left_s):
            self._reset("its clock jumped", told=True)
        if not self._server.writable or self._lease.number is None:
            return
        if now_s >= self._alive_s:
            if self._is_known:
                await self._server.call(*self._sign_of_life(self._lease.number, now_s))
            self._alive_s = now_s + _ALIVE_MOST_S
        if self._due_s(now_s) > now_s:
            return
        if not self._lease.is_sure:  # it was suspended, or audits are rare
            await self._audit(now_s)
        await self._tell_flights(now_s)
        batch = self.announcements.take(now_s)
        if batch is None:
            return
        if not batch:
            self.announcements.told(batch)
            return
        try:
            await self._tell(batch)
        except BaseException:
            self.announcements.failed(batch, self._clock())
            raise

    async def _pause(self) -> None:
        now_s = self._clock()
        until_s = min(self._audit_s, now_s + 60.0)
        if self._server.writable and self._lease.number is not None:
            until_s = min(until_s, self._alive_s, self._due_s(now_s))
        self._wake.clear()
        try:
            async with asyncio.timeout(max(_GATHER_S, until_s - now_s)):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_GATHER_S)  # what comes together is told together

    def _due_s(self, now_s: float) -> float:
        """When there is something to tell."""
        due_s = self.announcements.due_s(now_s)
        return min((math.inf if due_s is None else due_s, *self._flying.values()))

    @property
    def _is_known(self) -> bool:
        """Whether the server knows what this node has: from before, or it was told all of it by now."""
        tells = self.announcements.catching_up and self.announcements.pending > 0
        return not (self._lease.is_fresh and tells)

    def _sign_of_life(self, number: int, now_s: float) -> tuple[Command, ...]:
        """Says that the server takes this node's announcements. Whoever does not say so is asked itself."""
        key = self._layout.alive(self._server_clock.period(now_s))
        return _set_bit(key, number, 1, ALIVE_TTL_S)

    async def _audit_if_due(self) -> None:
        now_s = self._clock()
        if self._lease.number is None:
            if await self._lease.take():
                self.announcements.reset(now_s)
            self._next_audit(now_s)
            self._alive_s = now_s
            self._names_s = now_s + _NAMES_S * self._chance(0.8, 1.2)
        elif now_s >= self._audit_s:
            await self._audit(now_s)
            self._next_audit(now_s)
        elif now_s >= self._names_s:
            self._names_s = now_s + _NAMES_S * self._chance(0.8, 1.2)
            await self._lease.read_names()

    def _next_audit(self, now_s: float) -> None:
        self._audit_s = now_s + audit_s(self._members()) * self._chance(0.8, 1.2)

    async def _audit(self, now_s: float) -> None:
        number = self._lease.number
        assert number is not None, "the number is taken first"
        sample = self.announcements.sample(self._sample_size(now_s))
        byte = number // 8
        questions = self._lease.questions()
        sign = self._sign_of_life(number, now_s) if self._server.writable and self._is_known else ()
        replies = await self._server.call(
            *questions, *(("GETRANGE", self._key_of(digest), byte, byte) for digest in sample), *sign
        )
        if sign:
            self._alive_s = now_s + _ALIVE_MOST_S
        whose = self._lease.heard(replies)
        missing = [
            digest
            for digest, value in zip(sample, replies[len(questions) :], strict=False)
            if not _is_set(value, number)
        ]
        gone = bool(sample) and 2 * len(missing) > len(sample)
        if whose is not Whose.OWN:
            changed = await self._lease.take()
            if changed or gone or not sample:
                self._reset("its keys are gone" if whose is Whose.NOBODYS else "another node has the number")
                return
        elif gone and self.announcements.announced:
            self._reset("most of what it was told is gone")
            return
        if missing:
            self._doubt(now_s + self.announcements.warm_s)
        self.announcements.missing(missing, now_s)
        if self._server.writable:
            await self._lease.renew()

    def _sample_size(self, now_s: float) -> int:
        """Whoever lost something a moment ago may have lost more."""
        reset_s = -math.inf if self.last_reset is None else self.last_reset.at_s
        is_unsure = self.is_doubted(now_s) or now_s - reset_s < self.announcements.warm_s
        return _SAMPLE_UNSURE if is_unsure else _SAMPLE

    def _key_of(self, digest: Digest) -> str:
        told_in = self.announcements.told_in(digest)
        assert told_in is not None, "the sample is of what was told"
        return self._layout.bitmap(told_in, digest)

    def _reset(self, reason: str, *, told: bool = False) -> None:
        """``told``: the announcements know it already."""
        now_s = self._clock()
        if not told:
            self.announcements.reset(now_s)
        self._lease.renew_soon()
        self._alive_s = now_s
        self.resets += 1
        self.last_reset = Reset(at_s=now_s, reason=reason)
        _log.warning("the server of the index lost what it was told (%s): everything is told again", reason)
        self._on_reset()

    def _may_be_gone(self) -> None:
        """The connection was lost, or the server is another one: look soon, but not all nodes at once."""
        self._lease.renew_soon()
        self._audit_s = min(self._audit_s, self._clock() + self._chance(0.0, self._members() / _STARTS_PER_S))
        self._wake.set()

    async def _tell(self, batch: Batch) -> None:
        number = self._lease.number
        if number is None or not self._lease.is_sure:
            self.announcements.failed(batch, self._clock())
            return
        landed = self._flown.intersection(batch.added)
        commands = [
            command
            for digest in batch.added
            for command in _set_bit(self._layout.bitmap(batch.epoch, digest), number, 1, BITMAP_TTL_S)
        ]
        for key in await self._set_in(batch, number):
            commands += _set_bit(key, number, 0, BITMAP_TTL_S)
        for digest in landed:
            commands += _set_bit(self._layout.flight(digest), number, 0, FLIGHT_TTL_S)
        replies = await self._server.call(*commands, ("GET", self._layout.number(number)))
        whose = self._lease.whose(replies[-1])
        if whose is Whose.ANOTHERS:
            await self._take_back(batch, number)
            return
        self.announcements.told(batch)
        self._flown -= landed
        await self._remove_wrong(batch, commands, replies)
        if whose is Whose.NOBODYS:
            self._audit_s = self._clock()

    async def _set_in(self, batch: Batch, number: int) -> list[str]:
        """The bitmaps of what is removed in which this node's bit is set, of this epoch and the last.

        No others are touched: unsetting a bit makes the key, and whoever asks nodes for contents that nobody
        has could fill the server with them.
        """
        keys = [
            self._layout.bitmap(epoch, digest)
            for digest in batch.removed
            for epoch in (batch.epoch, batch.epoch - 1)
        ]
        byte = number // 8
        values = await self._server.call(*(("GETRANGE", key, byte, byte) for key in keys))
        return [key for key, value in zip(keys, values, strict=True) if _is_set(value, number)]

    async def _take_back(self, batch: Batch, number: int) -> None:
        """The number was another's by then. That node tells again what this takes from it by chance."""
        self.announcements.failed(batch, self._clock())
        self._lease.number, self._audit_s = None, self._clock()
        await self._server.call(
            *(("SETBIT", self._layout.bitmap(batch.epoch, digest), number, 0) for digest in batch.added)
        )

    async def _remove_wrong(self, batch: Batch, commands: Sequence[Command], replies: Sequence[Any]) -> None:
        """Remove values that no agent can have written, which are in the way, and tell those anew."""
        wrong = {
            str(command[1])
            for command, reply in zip(commands, replies, strict=False)
            if isinstance(reply, Refused) and command[0] == "SETBIT"
        }
        if wrong:
            await self._server.call(*(("DEL", key) for key in wrong))
            lost = [each for each in batch.added if self._layout.bitmap(batch.epoch, each) in wrong]
            self.announcements.missing(lost, self._clock())

    async def _tell_flights(self, now_s: float) -> None:
        """Say what is being fetched now, and what is no more."""
        number = self._lease.number
        if number is None or not self._lease.is_sure:
            return
        commands: list[Command] = []
        for digest in [each for each, due_s in self._flying.items() if due_s <= now_s]:
            flies = digest not in self._flown or self._growing(digest)
            key = self._layout.flight(digest)
            commands += (*_set_bit(key, number, int(flies), FLIGHT_TTL_S), ("EXPIRE", key, FLIGHT_TTL_S))
            if flies:
                self._flying[digest] = now_s + _FLIGHT_RENEWED_S
                self._flown.add(digest)
            else:
                del self._flying[digest]
                self._flown.discard(digest)
        if commands:
            await self._server.call(*commands)


def _set_bit(key: str, number: int, bit: int, ttl_s: int) -> tuple[Command, Command]:
    """A key is made with its time to live before a bit of it is set: none is left without one."""
    return ("SET", key, b"", "EX", ttl_s, "NX"), ("SETBIT", key, number, bit)


def _is_set(value: object, number: int) -> bool:
    return isinstance(value, bytes) and bool(value) and bool(value[0] & 0x80 >> number % 8)
