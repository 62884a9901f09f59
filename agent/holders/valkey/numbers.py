"""Node numbers: which are whose, and which one a new node tries. Pure.

All numbers are in one value of the server, ``PREFIX:1:names``, with `SLOT_BYTES` for each number: a hash of
the node's name, and when it was last renewed by the server's clock. So thousands of nodes cost a reader one
question of some ten kilobytes, and a number that is unknown costs a few bytes. Names come from this node's
own list of members, and never from the server.

The value only tells. Who may use a number is decided by the number's own key: see `Lease` beside it.
"""

import hashlib
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from agent.holders.bitmap import NUMBERS_MAX
from agent.holders.valkey.layout import EPOCH_S, NUMBER_TTL_S
from topology.placement import NodeName

_SLOT = struct.Struct(">QI")  # hash of the name, seconds by the server's clock
_WHO_BYTES = 8
SLOT_BYTES = _SLOT.size
TABLE_BYTES_MAX = SLOT_BYTES * NUMBERS_MAX
"""1.5 MiB: nobody reads more of it."""

RENEWED_S = 600.0
"""A node says so often that it keeps its number."""

_AHEAD_S = RENEWED_S  # so far may the clocks of a server and of the one before it differ

_ENDED_S = 2 * EPOCH_S
_ROOM = 1.25  # so many times as many numbers as members are tried: few tries, and short bitmaps
_LEAST = 64
_FREE_LEAST = 8  # one of so many has to be free, else nodes that start together would get in each other's way


class Slot(NamedTuple):
    """What the value says of one number. ``renewed_s``: by the server's clock."""

    who: int
    renewed_s: int


def who_of(name: NodeName) -> int:
    """The hash of a node's name, never 0. Of 10,000 names two are alike with a chance of 1 to 10^11."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") or 1


def slot_value(name: NodeName, now_s: float) -> bytes:
    """What a node writes into its slot. ``now_s``: by the server's clock."""
    return _SLOT.pack(who_of(name), int(now_s) & 0xFFFFFFFF)


def is_slot_of(name: NodeName, value: object) -> bool:
    """Whether a slot is this node's."""
    return isinstance(value, bytes) and value[:_WHO_BYTES] == who_of(name).to_bytes(_WHO_BYTES, "big")


class Numbers:
    """The numbers as far as they are known."""

    def __init__(self) -> None:
        self._slots: dict[int, Slot] = {}
        self._by_who: dict[int, int] = {}
        self.generation = 0
        """Changes when a number changes hands."""
        self.readings = 0
        """How often a part of the value was read."""
        self.bits = 0
        """The bits of all numbers that somebody has or had."""

    def learn(self, value: bytes, first: int = 0, *, now_s: float = math.inf) -> None:
        """Use a part of the value that begins with the number ``first``. What is no whole slot is ignored.

        ``now_s``: by the server's clock; infinite: it is not known. A slot that was renewed later than that
        counts as never renewed: else one that was written with a wrong time would hide its node's own for as
        long as agents run. One that was not renewed for two epochs is forgotten: no bit of its node is left,
        so a bit with this number is that of a node which has it now.
        """
        self.readings += 1
        latest_s, ended_s = now_s + _AHEAD_S, -math.inf if math.isinf(now_s) else now_s - _ENDED_S
        whole = len(value) - len(value) % SLOT_BYTES
        for number, (who, renewed_s) in enumerate(_SLOT.iter_unpack(memoryview(value)[:whole]), first):
            if not who or number >= NUMBERS_MAX:
                continue
            if renewed_s <= ended_s:
                self._forget(number)
            else:
                self._learn(number, who, renewed_s if renewed_s <= latest_s else 0)

    def number_of(self, name: NodeName) -> int | None:
        """The node's number. None: it has none, or it is not known."""
        return self._by_who.get(who_of(name))

    def of(self, names: Iterable[NodeName]) -> Mapping[NodeName, int]:
        """The numbers of those nodes whose number is known. O(names)."""
        return {name: number for name in names if (number := self.number_of(name)) is not None}

    def unknown(self, bits: int) -> int:
        """Those bits of a bitmap whose numbers were never heard of."""
        return bits & ~self.bits

    def free(
        self, members: int, now_s: float, chance: Callable[[int], int], tried: Iterable[int]
    ) -> int | None:
        """A number to try: one that nobody has, as far as is known. None: there is none.

        ``members``: how many nodes there are. ``now_s``: by the server's clock. ``chance``: a random number
        below another. Nodes that start together each try another one, and the numbers stay low.
        """
        avoided, room = {*tried}, max(_LEAST, int(members * _ROOM))
        while True:
            free = [each for each in range(room) if each not in avoided and not self._is_taken(each, now_s)]
            if free and (len(free) * _FREE_LEAST >= room or room == NUMBERS_MAX):
                return free[chance(len(free))]
            if room == NUMBERS_MAX:
                return None
            room = min(2 * room, NUMBERS_MAX)

    def _is_taken(self, number: int, now_s: float) -> bool:
        slot = self._slots.get(number)
        return slot is not None and abs(now_s - slot.renewed_s) < NUMBER_TTL_S

    def _learn(self, number: int, who: int, renewed_s: int) -> None:
        known = self._slots.get(number)
        self._slots[number] = Slot(who, renewed_s)
        if known is None:
            self.bits |= 1 << number
        elif known.who != who and self._by_who.get(known.who) == number:
            del self._by_who[known.who]
            self.generation += 1
        held = self._by_who.get(who)
        if held != number and (held is None or self._slots[held].renewed_s <= renewed_s):
            self._by_who[who] = number
            self.generation += 1

    def _forget(self, number: int) -> None:
        slot = self._slots.pop(number, None)
        if slot is None:
            return
        self.bits &= ~(1 << number)
        if self._by_who.get(slot.who) == number:
            del self._by_who[slot.who]
            self.generation += 1
