"""Asks a few near peers themselves about what the server can't say: how far a fetch is, and what those have
that announce nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from agent.holders.flights import KEPT_S, Flights
from agent.holders.index import InFlight
from agent.holders.wire import DIGESTS_MAX, Question, Reply
from agent.members.member import Peer
from agent.oci.digest import Digest
from topology.placement import NodeName

_SILENT_S = 10.0  # for so long a peer that did not reply is left alone

AskPeer = Callable[[Peer, Question, float], Awaitable[Reply | None]]
"""Ask one peer, with a deadline in seconds. None: it does not reply."""


class NearPeers:
    """``follows``: whether content is taken from a node that is still fetching it. ``deadline_s``: of a
    question.
    """

    def __init__(
        self,
        ask_peer: AskPeer,
        *,
        follows: Callable[[NodeName], bool],
        deadline_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._ask_peer = ask_peer
        self._follows = follows
        self._deadline_s = deadline_s
        self._clock = clock
        self._flights = Flights()
        self._silent: dict[NodeName, float] = {}

    async def ask(self, wanted: Mapping[Digest, Iterable[Peer]]) -> dict[Digest, list[NodeName]]:
        """Ask these peers about these digests, each once. Returns who has all of it."""
        asked: dict[NodeName, tuple[Peer, list[Digest]]] = {}
        for digest, some in wanted.items():
            for peer in some:
                asked.setdefault(peer.name, (peer, []))[1].append(digest)
        replies = await asyncio.gather(
            *(self._ask_one(peer, digests) for peer, digests in asked.values() if self._replies(peer.name))
        )
        found: dict[Digest, list[NodeName]] = {}
        for name, reply in replies:
            for digest in reply.held & wanted.keys():
                found.setdefault(digest, []).append(name)
        return found

    def flights(self, digest: Digest, complete: Sequence[NodeName]) -> tuple[InFlight, ...]:
        """Who said a moment ago that it is fetching it. ``complete``: have all of it by now."""
        return self._flights.of(digest, self._clock(), complete=complete, kept_s=KEPT_S)

    def forget(self, digest: Digest, node: NodeName) -> None:
        """The peer gave nothing."""
        self._flights.forget(digest, node)

    def _replies(self, name: NodeName) -> bool:
        until_s = self._silent.get(name)
        if until_s is not None and self._clock() >= until_s:
            del self._silent[name]
        return name not in self._silent

    async def _ask_one(self, peer: Peer, digests: list[Digest]) -> tuple[NodeName, Reply]:
        question = Question(digests=tuple(digests[:DIGESTS_MAX]))
        reply = await self._ask_peer(peer, question, self._deadline_s)
        now_s = self._clock()
        if reply is None:
            self._silent[peer.name] = now_s + _SILENT_S
            return peer.name, Reply()
        if self._follows(peer.name):
            for digest, flying in reply.in_flight.items():
                self._flights.heard(digest, peer.name, flying, now_s)
        return peer.name, reply
