"""A Cluster: one connection to each of its primaries, and each command to the one that has its key.

What a slot that moves is asked for fails once, as if the server were not ready; then the new place is known.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from valkey.crc import key_slot

from agent.config import Endpoint
from agent.holders.valkey.lane import Lane, seen
from agent.holders.valkey.trouble import IndexDown, of_garbage, of_reply
from agent.holders.valkey.wire import Command, Reply

SLOTS = 16384
_KEY_PLACES = {"EVAL": 3, "EVALSHA": 3}
_KEYLESS = {"PING", "TIME", "INFO", "SCRIPT LOAD"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRange:
    """The slots from ``first`` to ``last`` are at ``primary``."""

    first: int
    last: int
    primary: Endpoint


def ranges_of(reply: object, seed: Endpoint) -> tuple[SlotRange, ...]:
    """The ranges in the answer to CLUSTER SLOTS of a node. A host that it leaves out is its own.

    Raises `IndexDown` if a slot is not served, or the answer makes no sense.
    """
    try:
        found = sorted((_range(each, seed) for each in _listed(reply)), key=lambda each: each.first)
    except (ValueError, TypeError, IndexError, AttributeError):
        raise of_garbage("its answer to CLUSTER SLOTS makes no sense") from None
    expected = 0
    for each in found:
        if each.first != expected:
            break
        expected = each.last + 1
    if expected != SLOTS:
        raise of_reply("CLUSTERDOWN") or of_garbage("slots")
    return tuple(found)


def _listed(reply: object) -> list[list[Reply]]:
    if not isinstance(reply, list):
        raise TypeError(reply)
    return reply


def _range(entry: list[Reply], seed: Endpoint) -> SlotRange:
    first, last, primary = int(entry[0]), int(entry[1]), entry[2]
    host = (primary[0] or b"").decode() or seed.host
    if host == "?" or not 0 <= first <= last < SLOTS:
        raise ValueError(entry)
    return SlotRange(first=first, last=last, primary=Endpoint(host=host, port=int(primary[1])))


def slot_of(command: Command) -> int | None:
    """The slot of a command's first key. None: it has no key."""
    name = str(command[0])
    if name in _KEYLESS:
        return None
    key = command[_KEY_PLACES.get(name, 1)]
    return int(key_slot(key if isinstance(key, bytes) else str(key).encode()))


class Shards:
    """``lanes``: a connection to each primary. ``lost``: done when one of them has ended; says why."""

    is_tracking = False
    is_clustered = True

    def __init__(self, ranges: Sequence[SlotRange], lanes: Mapping[Endpoint, Lane]) -> None:
        self.lost: asyncio.Future[IndexDown] = asyncio.get_running_loop().create_future()
        self._lanes = dict(lanes)
        self._starts = [each.first for each in ranges]
        self._owners = [each.primary for each in ranges]
        self._moved: dict[int, Endpoint] = {}
        for lane in self.lanes:
            lane.moved = self._move
            lane.lost.add_done_callback(self._one_lost)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The connections."""
        return tuple(self._lanes.values())

    def send(self, commands: Sequence[Command], *, tracked: bool = False) -> "asyncio.Future[list[Reply]]":
        """Like `Lane.send`, to whoever has the keys."""
        places: dict[Lane, list[int]] = {}
        for place, command in enumerate(commands):
            places.setdefault(self._lane_of(command), []).append(place)
        if len(places) == 1:
            (lane,) = places
            return lane.send(commands)
        parts = [(mine, lane.send([commands[each] for each in mine])) for lane, mine in places.items()]
        return _gathered(len(commands), parts)

    def give_up(self, error: IndexDown) -> None:
        """Like `Lane.give_up`."""
        for lane in self.lanes:
            lane.give_up(error)

    async def drained(self) -> None:
        """Like `Lane.drained`."""
        for lane in self.lanes:
            await lane.drained()

    async def close(self) -> None:
        """Like `Lane.close`."""
        await asyncio.gather(*(lane.close() for lane in self.lanes))

    def _lane_of(self, command: Command) -> Lane:
        slot = slot_of(command)
        if slot is None:
            return self.lanes[0]
        owner = self._moved.get(slot) or self._owners[bisect_right(self._starts, slot) - 1]
        return self._lanes[owner]

    def _move(self, text: str) -> None:
        """``MOVED SLOT HOST:PORT``. A primary that is not known yet: everything is connected to anew."""
        words = text.split()
        host, _, port = words[-1].rpartition(":")
        if len(words) == 3 and words[1].isdecimal() and port.isdecimal():
            owner = Endpoint(host=host.strip("[]"), port=int(port))
            if owner in self._lanes:
                self._moved[int(words[1])] = owner
                return
        self._end(of_reply("MOVED") or of_garbage(text))

    def _one_lost(self, lost: "asyncio.Future[IndexDown]") -> None:
        self._end(lost.result())

    def _end(self, error: IndexDown) -> None:
        if not self.lost.done():
            self.lost.set_result(error)
            self.give_up(error)


def _gathered(
    count: int, parts: "Sequence[tuple[Sequence[int], asyncio.Future[list[Reply]]]]"
) -> "asyncio.Future[list[Reply]]":
    """The replies of several connections as those of one call. The first error is that of the whole call."""
    whole: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
    whole.add_done_callback(seen)
    replies: list[Reply] = [None] * count
    left = len(parts)

    def came(places: Sequence[int], part: "asyncio.Future[list[Reply]]") -> None:
        nonlocal left
        error = part.exception()
        if whole.done():
            return
        if error is not None:
            whole.set_exception(error)
            return
        for place, reply in zip(places, part.result(), strict=True):
            replies[place] = reply
        left -= 1
        if not left:
            whole.set_result(replies)

    for places, part in parts:
        part.add_done_callback(partial(came, places))
    return whole
