"""Answers peers that ask what this node has. The other end of `agent.holders.wire.QUESTIONS`.

A large question is answered in parts, and other tasks run in between. What it costs is charged to the peer.
"""

import asyncio
import time
from collections.abc import Callable

from agent.content.offer import KnownTag
from agent.holders.wire import QUESTION_MAX_BYTES, Flying, Question, QuestionReading, Reply, encode_reply
from agent.oci.digest import Digest
from agent.oci.errors import OciError
from agent.peering.accept import (
    AcceptLimits,
    Acceptor,
    Guarded,
    Introduce,
    PeerRequest,
    PeerResponse,
    Stays,
    Upgraded,
    introduce_nothing,
    none_stays,
)
from agent.peering.websocket import PeerSocket, Unbounded

_SEND_S = 5.0
_IDLE_S = 300.0  # a peer that was quiet for this long connects again when it has a question
_LIMITS = AcceptLimits(
    total_max=2048,  # each costs some 40 kB; scatter is meant for 200 nodes
    address_max=64,  # behind one translated address there may be many agents
    message_max_bytes=QUESTION_MAX_BYTES,
)


class QuestionDesk:
    """Holds the connections of the peers that ask, and answers their questions.

    ``upgraded``, ``guarded``: see `agent.peering.accept`. ``introduction``: see `Acceptor`.
    """

    def __init__(
        self,
        reply_to: Callable[[Question], Reply],
        *,
        upgraded: Upgraded,
        guarded: Guarded = lambda _request, _message_max_bytes: Unbounded(),
        introduction: Introduce = introduce_nothing,
    ) -> None:
        self._reply_to = reply_to
        self._acceptor = Acceptor(
            purpose="questions about holders",
            limits=_LIMITS,
            upgraded=upgraded,
            guarded=guarded,
            introduction=introduction,
        )

    async def serve(self, request: PeerRequest, address: str) -> PeerResponse:
        """Answer the peer at this address until it leaves. Raises what `Acceptor.serve` raises."""
        return await self._acceptor.serve(request, address, self._converse)

    async def close(self, stays: Stays = none_stays) -> None:
        """End all connections but those that stay. Cut those of peers that do not read that they end."""
        await self._acceptor.close(stays)

    async def _converse(self, socket: PeerSocket, _address: str) -> None:
        try:
            while (message := await socket.receive(_IDLE_S)) is not None:
                await self._answer(socket, message)
        except OciError:
            await socket.reject(b"not a question about holders")

    async def _answer(self, socket: PeerSocket, message: bytes) -> None:
        began_s = time.thread_time()
        reading = QuestionReading(message)
        while reading.read_on():
            began_s = await _pause(socket, began_s)
        question, held, tags = reading.question, set[Digest](), list[KnownTag]()
        in_flight: dict[Digest, Flying] = {}
        for number, part in enumerate(question.parts()):
            if number:
                began_s = await _pause(socket, began_s)
            reply = self._reply_to(part)
            held |= reply.held
            tags += reply.tags
            in_flight |= reply.in_flight
        answer = Reply(held=frozenset(held), tags=tuple(tags), in_flight=in_flight)
        await socket.send(encode_reply(reading.number, question, answer), _SEND_S)
        await socket.pay(time.thread_time() - began_s)


async def _pause(socket: PeerSocket, began_s: float) -> float:
    """Charge the CPU time since ``began_s``, and let other tasks run. Returns when it goes on."""
    await socket.pay(time.thread_time() - began_s)
    await asyncio.sleep(0)
    return time.thread_time()
