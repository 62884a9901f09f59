"""The number of this node: taken, kept, and given up if another node has it.

``PREFIX:1:n:NUMBER`` says whose a number is. It lives longer than any bit that its owner may have set
(`agent.holders.valkey.layout.NUMBER_TTL_S`), so a number never comes to another node with bits of the one
before. A node is known by its name and its store: its next agent takes the same number, and during an upgrade
two agents of a node use it together, which is right, as they have the same store. A node that was set up anew
under its old name takes another number, so that nothing is left of what it had.

An agent that was suspended may have lost its number. It asks whose it is before it sets a bit, and once more
in the same call: what it set with a number that is another's is taken back.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

from agent.holders.bitmap import NUMBERS_MAX, numbers_of
from agent.holders.valkey.asked import Command, IndexServer
from agent.holders.valkey.layout import NUMBER_TTL_S, Layout
from agent.holders.valkey.numbers import RENEWED_S, SLOT_BYTES, Numbers, is_slot_of, slot_value
from agent.holders.valkey.serverclock import ServerClock
from agent.holders.valkey.trouble import of_garbage
from topology.placement import NodeName

_PIECE = 1 << 15  # numbers that are read at once: 400 kB
_TRIES = 64
_UNKNOWN_STORE = "-"
_DIGITS_MAX = 12  # of seconds: some ten thousand years
_TTL_MS = NUMBER_TTL_S * 1000
_CONFIRMED_S = 30.0  # after this time it is asked again whose the number is before it is used


def suspend_clock() -> float:
    """Seconds that also pass while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Whose(Enum):
    """Whose a number is."""

    OWN = auto()
    NOBODYS = auto()
    ANOTHERS = auto()


class Lease:
    """The number of this node. ``numbers``: learns those of all nodes. ``members``: how many there are.

    ``agent``, ``store``: words that tell this agent from the next one, and the store from one that is made
    anew; empty: it is not known. ``asleep_clock``: see `suspend_clock`.
    """

    def __init__(
        self,
        server: IndexServer,
        layout: Layout,
        *,
        own: NodeName,
        agent: str,
        numbers: Numbers,
        server_clock: ServerClock,
        members: Callable[[], int],
        store: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
        asleep_clock: Callable[[], float] = suspend_clock,
        chance: Callable[[int], int] = random.randrange,
    ) -> None:
        self._server = server
        self._layout = layout
        self._own = own
        self._agent = agent
        self._store = store
        self._numbers = numbers
        self._server_clock = server_clock
        self._members = members
        self._clock = clock
        self._asleep_clock = asleep_clock
        self._chance = chance
        self._confirmed_s = -math.inf
        self._renewed_s = -math.inf
        self.number: int | None = None
        """The number, or None if there is none yet."""
        self.is_fresh = True
        """Whether nothing on the server is left of what this node said with it before."""

    @property
    def is_sure(self) -> bool:
        """Whether the number was this node's a moment ago, however long the machine slept meanwhile."""
        return self.number is not None and self._asleep_clock() - self._confirmed_s < _CONFIRMED_S

    async def take(self) -> bool:
        """Get a number. Returns whether it is another one than before. Raises `IndexDown`."""
        before = self.number
        await self.read_names()
        own = self._numbers.number_of(self._own)
        tried: set[int] = set()
        for number in dict.fromkeys(each for each in (before, own) if each is not None):
            if await self._try(number, mine=True):
                return number != before
            tried.add(number)
        self.number = None
        while len(tried) < _TRIES:
            now_s = self._server_clock.time_s(self._clock())
            free = self._numbers.free(self._members(), now_s, self._chance, tried)
            if free is None:
                break
            if await self._try(free, mine=False):
                return True
            tried.add(free)
        return False

    def questions(self) -> tuple[Command, ...]:
        """What tells the time, and whose the number is. Put the replies into `heard`."""
        if self.number is None:
            return (("TIME",),)
        start = self.number * SLOT_BYTES
        slot = ("GETRANGE", self._layout.names, start, start + SLOT_BYTES - 1)
        return ("TIME",), ("GET", self._layout.number(self.number)), slot

    def heard(self, replies: Sequence[Any]) -> Whose:
        """The replies to `questions`."""
        self._hear_time(replies[0])
        if self.number is None:
            return Whose.NOBODYS
        if not is_slot_of(self._own, replies[2]):
            self.renew_soon()  # the others would not know whose the number is
        return self.whose(replies[1])

    def whose(self, value: object) -> Whose:
        """What the key of the number says."""
        if value is None:
            return Whose.NOBODYS
        if isinstance(value, bytes) and value.partition(b" ")[0] == self._own.encode():
            self._confirmed_s = self._asleep_clock()
            return Whose.OWN
        return Whose.ANOTHERS

    async def renew(self) -> None:
        """Keep the number, if it is time to. It has to be this node's. Raises `IndexDown`."""
        if self.number is not None and self._clock() - self._renewed_s >= RENEWED_S:
            await self._write(self.number)

    def renew_soon(self) -> None:
        """The server may have forgotten that it was renewed, or its clock was set."""
        self._renewed_s = -math.inf

    async def read_names(self) -> None:
        """Read all numbers. Raises `IndexDown`."""
        for first in range(0, NUMBERS_MAX, _PIECE):
            start = first * SLOT_BYTES
            last = start + _PIECE * SLOT_BYTES - 1
            time_, value = await self._server.call(("TIME",), ("GETRANGE", self._layout.names, start, last))
            self._hear_time(time_)
            if not isinstance(value, bytes):
                break
            self._learn(value, first)
            if len(value) < _PIECE * SLOT_BYTES:
                break

    async def read_some(self, bits: int) -> None:
        """Read whose these numbers are. Raises `IndexDown`."""
        numbers = [*numbers_of(bits)]
        values = await self._server.call(
            *(
                ("GETRANGE", self._layout.names, number * SLOT_BYTES, (number + 1) * SLOT_BYTES - 1)
                for number in numbers
            )
        )
        for number, value in zip(numbers, values, strict=True):
            if isinstance(value, bytes):
                self._learn(value, number)

    def _learn(self, value: bytes, first: int) -> None:
        now_s = self._server_clock.time_s(self._clock()) if self._server_clock.known else math.inf
        self._numbers.learn(value, first, now_s=now_s)

    async def _try(self, number: int, *, mine: bool) -> bool:
        """Whether this node has the number now. ``mine``: it may have been this node's before."""
        key = self._layout.number(number)
        taken, value = await self._server.call(("SET", key, self._value(), "NX", "PX", _TTL_MS), ("GET", key))
        if taken is None and not (mine and self._is_of_this_store(value)):
            return False
        self.number, self.is_fresh = number, taken is not None
        await self._write(number)
        return True

    def _value(self) -> bytes:
        return f"{self._own} {self._agent} {self._store() or _UNKNOWN_STORE}".encode()

    def _is_of_this_store(self, value: object) -> bool:
        """Whether the number is this node's, and was so with the same store, as far as both are known."""
        if self.whose(value) is not Whose.OWN or not isinstance(value, bytes):
            return False
        stores = {*value.split(b" ")[2:3], self._value().split(b" ")[2]} - {_UNKNOWN_STORE.encode()}
        return len(stores) <= 1

    async def _write(self, number: int) -> None:
        now_s = self._server_clock.time_s(self._clock())
        _, written, _ = await self._server.call(
            ("SET", self._layout.number(number), self._value(), "XX", "PX", _TTL_MS),
            ("SETRANGE", self._layout.names, number * SLOT_BYTES, slot_value(self._own, now_s)),
            ("EXPIRE", self._layout.names, NUMBER_TTL_S),
        )
        if not isinstance(written, int):  # a value that no agent wrote is in the way
            await self._server.call(("DEL", self._layout.names))
        self._confirmed_s = self._asleep_clock()
        self._renewed_s = self._clock()

    def _hear_time(self, reply: object) -> None:
        match reply:
            case [bytes() as seconds, bytes() as micros] if _is_number(seconds) and _is_number(micros):
                self._server_clock.heard(int(seconds) + int(micros) / 1e6, self._clock())
            case _:
                raise of_garbage("it does not say what time it is")


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= _DIGITS_MAX
