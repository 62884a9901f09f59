"""Keeps the connections for questions open, so that a look-up does not begin with opening them.

Every peer that a look-up asks at once is greeted with an empty question: soon after it became a member, and
again before its end would close an idle connection. Peers are greeted one after another, the nearest first,
because opening a connection takes each end about a millisecond of processor time. The replies also tell how
long each peer usually takes. The nearest few are met, too, once: a first request for nothing opens the
connection that the first body will come on, and brings the code for it into memory on both ends. Nobody is
blamed for not replying.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress

from agent.members.member import Peer
from agent.members.roster import Roster

_EVERY_S = 120.0  # less than half of the time after which the other end closes an idle connection
_MET_MAX = 4  # the first body comes from one of the nearest
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
        roster.on_change(lambda _members: self._changed.set())

    async def run(self) -> None:
        """Greet until cancelled."""
        while True:
            self._changed.clear()
            nearest = [*itertools.islice(itertools.chain.from_iterable(self._roster.rings), self._at_once)]
            known, self._met = self._met, frozenset(nearest[:_MET_MAX])
            for peer in nearest:
                if self._roster.peer(peer.name) == peer:  # it may have left or moved meanwhile
                    await self._greet(peer)
                    if peer in self._met - known:
                        await self._meet(peer)
                    await asyncio.sleep(_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._changed.wait()
