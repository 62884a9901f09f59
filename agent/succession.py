"""This agent among the agents of its node: it takes over from an older one, and is taken over from.

At each moment at least one of them accepts connections. See `agent.handover` for what they say.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from agent import __version__
from agent.admin.readiness import Phase
from agent.app.parts import Parts
from agent.listen.http import HttpListener
from agent.observe.components import Component

if TYPE_CHECKING:
    from agent.handover.giving import Giver
    from agent.handover.messages import Claims, Offer, Yielded
    from agent.handover.taking import Older

_log = logging.getLogger("shorthaul")

_POLL_S = 0.05
_MEMBERS_S = 2.0  # for the first list of peers
_PROOF_S = 10.0  # a canary takes two seconds; a probe that is not there must not stop an upgrade


class Succession:
    """The listeners of this agent, and who serves on them. ``older``: the agent that gave them, if any."""

    def __init__(self, parts: Parts, older: "Older | None") -> None:
        self._parts = parts
        self._older = older
        self._listening: asyncio.Task[None] | None = None
        if older is not None:
            parts.core.records.book.known_programs = older.offer.programs
        self._giver = self._make_giver()

    @property
    def replaced(self) -> bool:
        """Whether a newer agent serves in this one's place."""
        return self._giver is not None and self._giver.stands_by

    async def get_ready(self) -> None:
        """Wait until this agent can do what the older one does, or that one stops or is gone.

        The older one serves meanwhile. It keeps serving while this node's store does not work here.
        """
        older = self._older
        if older is None:
            return
        self._parts.core.records.readiness.phase = Phase.TAKING_OVER
        self._listening = asyncio.create_task(self._follow(older), name="the older agent")
        fit = asyncio.create_task(self._fit(older), name="getting ready")
        urgent = asyncio.create_task(older.urgent.wait(), name="the older agent stops")
        try:
            await asyncio.wait((fit, urgent), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (fit, urgent):
                task.cancel()

    async def serve(self) -> None:
        """Accept connections. The older agent stops doing so, and a newer one may ask from now on."""
        inbound, core = self._parts.inbound, self._parts.core
        for listener in inbound.listeners.values():
            await listener.start()
        if self._older is not None:
            yielded = await self._older.serving([listener.place for listener in inbound.listeners.values()])
            if yielded is not None:
                core.content.offer.ages.take(yielded.ages)
                core.records.accepted.inherit(yielded.cookies, every=yielded.every)
            _log.info(
                "took over from the agent of this node",
                extra={"fields": {"version": self._older.offer.agent}},
            )
        core.records.readiness.phase = Phase.SERVING
        if self._giver is not None:
            self._giver.listen()

    async def leave(self) -> bool:
        """This agent stops. Returns whether another one serves in its place."""
        if self._giver is not None and await self._giver.leave():
            return True
        return self._older is not None and await self._older.resign()

    async def close(self) -> None:
        """End the conversations with the other agents."""
        if self._giver is not None:
            await self._giver.close()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    def claims(self) -> "Claims":
        """See `agent.handover.giving.Desk`."""
        from agent.handover.messages import Claims

        cookies, every = self._parts.core.records.accepted.cookies()
        return Claims(cookies=cookies, every=every)

    def offer(self) -> "Offer":
        """See `agent.handover.giving.Desk`."""
        from agent.handover.messages import Offer

        return Offer(
            agent=__version__, proved=self._is_proved(), programs=self._parts.core.records.book.programs
        )

    async def yield_to(self, places: Sequence[tuple[str, int]]) -> "Yielded":
        """See `agent.handover.giving.Desk`."""
        from agent.handover.messages import Yielded

        core = self._parts.core
        if core.records.readiness.phase is Phase.SERVING:
            core.records.readiness.phase = Phase.STANDING_BY
        self._parts.inbound.feed.end()  # pages connect to the newer agent at once
        for listener in self._open():
            if listener.place in places:  # where the newer agent does not listen, this one goes on
                listener.pause()
                # Clients move to the newer agent with their next response, but scrapers get none here.
                listener.end_connections(idle=listener is self._parts.inbound.listeners["admin"])
        cookies, every = core.records.accepted.cookies()
        return Yielded(cookies=cookies, every=every, ages=core.content.offer.ages.give())

    async def resume(self) -> None:
        """See `agent.handover.giving.Desk`."""
        for listener in self._open():
            if not listener.accepts:
                await listener.start()
        self._parts.core.content.offer.ages.take({})
        self._parts.core.records.readiness.phase = Phase.SERVING

    def _make_giver(self) -> "Giver | None":
        path = self._parts.settings.handover.socket
        if path is None:
            return None
        from agent.handover.giving import HINT, Giver

        node = self._parts.core.own
        giver = Giver(path, node=node, sockets=lambda: [one.socket for one in self._open()], desk=self)
        part = Component(
            name="the hand-over",
            key="handover",
            problem=lambda: giver.problem,
            hint=HINT,
            required=False,
            state=lambda: "a newer agent serves" if giver.stands_by else f"a newer agent can ask at {path}",
        )
        self._parts.core.records.readiness.watch([part])
        return giver

    def _open(self) -> list[HttpListener]:
        return [one for one in self._parts.inbound.listeners.values() if one.socket.fileno() >= 0]

    async def _follow(self, older: "Older") -> None:
        following = asyncio.create_task(older.run(), name="what the older agent says")
        try:
            while not following.done():
                if older.claims is not None:
                    self._parts.core.records.accepted.inherit(older.claims.cookies, every=older.claims.every)
                await asyncio.wait((following,), timeout=_POLL_S)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _is_proved(self) -> bool:
        return self._parts.core.records.book.proved(time.monotonic())[0]

    async def _fit(self, older: "Older") -> None:
        core = self._parts.core
        while core.content.store.problem is not None:  # noqa: ASYNC110 - a store does not tell when it works
            await asyncio.sleep(_POLL_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(_MEMBERS_S if self._parts.settings.membership.name != "none" else 0):
                await core.members.known.wait()
        if older.offer.proved:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PROOF_S):
                    while not self._is_proved():  # noqa: ASYNC110 - see above
                        await asyncio.sleep(_POLL_S)
