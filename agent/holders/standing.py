"""Keeps the connections for questions open, so that a look-up does not begin with opening them.

Every peer that a look-up asks at once is greeted with an empty question: soon after it became a member, and
again before its end would close an idle connection, whoever else comes and goes meanwhile. Peers are greeted
one after another, the nearest first, because opening a connection takes each end about a millisecond of
processor time. The replies also tell how long each peer usually takes. The nearest few are met, too, once: a
first request for nothing opens the connection that the first body will come on, and brings the code for it
into memory on both ends. A peer that did not answer, and now shows itself, is greeted at once: so it is known
again before a pull needs it. Nobody is blamed for not replying.
"""

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

from agent.members.member import Peer
from agent.members.roster import Roster
from topology.placement import NodeName

_EVERY_S = 120.0  # less than half of the time after which the other end closes an idle connection
_MET_MAX = 4  # the first body comes from one of the nearest
_RETURNED_MAX = 256  # peers that wait to be greeted; others have to wait for their turn
_PAUSE_S = 0.02  # between two peers: all 64 take little more than a second, and a twentieth of a core

Greet = Callable[[Peer], Awaitable[None]]
"""Ask a peer for nothing, and wait for its reply. Raises nothing because of the peer."""


class StandingChannels:
    """Greets the nearest members of a roster. ``at_once``: how many, see `LookupSettings`.

    ``greet``: with an empty question. ``meet``: with a request.
    """

    def __init__(
        self, *, roster: Roster, greet: Greet, meet: Greet, at_once: int, every_s: float = _EVERY_S
    ) -> None:
        self._roster = roster
        self._greet = greet
        self._meet = meet
        self._met: frozenset[Peer] = frozenset()
        self._at_once = at_once
        self._every_s = every_s
        self._changed = asyncio.Event()
        self._returned: dict[NodeName, None] = {}
        self._someone_returned = asyncio.Event()
        roster.on_change(lambda _members: self._changed.set())

    def returned(self, name: NodeName) -> None:
        """This peer did not answer, and now it shows itself: greet it soon."""
        if len(self._returned) < _RETURNED_MAX:
            self._returned[name] = None
            self._someone_returned.set()

    async def run(self) -> None:
        """Greet until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._greet_returned(), name="greet who returned")
            await self._greet_nearest()

    async def _greet_returned(self) -> None:
        while True:
            await self._someone_returned.wait()
            self._someone_returned.clear()
            while self._returned:
                name = next(iter(self._returned))
                peer = self._roster.peer(name)
                if peer is not None:
                    await self._greet(peer)
                self._returned.pop(name, None)
                await asyncio.sleep(_PAUSE_S)

    async def _greet_nearest(self) -> None:
        loop = asyncio.get_running_loop()
        greeted_s: dict[tuple[NodeName, str], float] = {}
        while True:
            self._changed.clear()
            nearest = [*itertools.islice(itertools.chain.from_iterable(self._roster.rings), self._at_once)]
            known, self._met = self._met, frozenset(nearest[:_MET_MAX])
            places = {(peer.name, peer.authority) for peer in nearest}
            greeted_s = {place: at_s for place, at_s in greeted_s.items() if place in places}
            for peer in nearest:
                place = peer.name, peer.authority
                if self._roster.peer(peer.name) != peer:
                    continue  # it left or moved meanwhile
                # In a large cluster somebody comes or goes every few seconds.
                is_due = loop.time() - greeted_s.get(place, -math.inf) >= self._every_s
                is_new = peer in self._met - known
                if is_due:
                    greeted_s[place] = loop.time()
                    await self._greet(peer)
                if is_new:
                    await self._meet(peer)
                if is_due or is_new:
                    await asyncio.sleep(_PAUSE_S)
            due_s = min(greeted_s.values(), default=loop.time()) + self._every_s
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due_s):
                    await self._changed.wait()
