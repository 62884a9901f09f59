"""Answers peers that ask what this node has. The other end of `agent.holders.wire.QUESTIONS`.

A large question is answered in parts, and other tasks run in between. What it costs is charged to the peer.
A question about claims may have to wait for its answer. It gets a task of its own, so that the look-ups that
come on the same connection do not wait behind it.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from agent.content.offer import KnownTag
from agent.documents.cluster import FiguresEntry
from agent.holders.claimdesk import ClaimDesk
from agent.holders.claims import Free
from agent.holders.claimwire import ClaimCall, ClaimReply
from agent.holders.wire import QUESTION_MAX_BYTES, Flying, Question, QuestionReading, Reply, encode_reply
from agent.oci.digest import Digest
from agent.oci.errors import OciError, RequestInvalid
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
from agent.tasks import end_all
from topology.placement import NodeName

_SEND_S = 5.0
_IDLE_S = 300.0  # a peer that was quiet for this long connects again when it has a question
CALLS_MAX = 512
"""Questions of one peer that wait for a verdict. A node pulls some tens of blobs at once."""

_LIMITS = AcceptLimits(
    total_max=2048,  # each costs some 40 kB; scatter is meant for 200 nodes
    address_max=64,  # behind one translated address there may be many agents
    message_max_bytes=QUESTION_MAX_BYTES,
)


class QuestionDesk:
    """Holds the connections of the peers that ask, and answers their questions.

    ``claims``: decides on claims; None: this node decides on none. ``figures``: what this node tells of
    itself; None: nothing. ``upgraded``, ``guarded``: see
    `agent.peering.accept`. ``introduction``: see `Acceptor`.
    """

    def __init__(
        self,
        reply_to: Callable[[Question], Reply],
        *,
        claims: ClaimDesk | None = None,
        figures: Callable[[], FiguresEntry] | None = None,
        upgraded: Upgraded,
        guarded: Guarded = lambda _request, _message_max_bytes: Unbounded(),
        introduction: Introduce = introduce_nothing,
    ) -> None:
        self._reply_to = reply_to
        self._claims = claims
        self._figures = figures
        self._acceptor = Acceptor(
            purpose="questions about holders",
            limits=_LIMITS,
            upgraded=upgraded,
            guarded=guarded,
            introduction=introduction,
        )

    async def serve(self, request: PeerRequest, address: str, node: NodeName | None = None) -> PeerResponse:
        """Answer the peer at this address until it leaves. Raises what `Acceptor.serve` raises.

        ``node``: the name that it proved. None: it proved none, and any name is believed.
        """
        return await self._acceptor.serve(request, address, partial(self._converse, node))

    async def close(self, stays: Stays = none_stays) -> None:
        """End all connections but those that stay. Cut those of peers that do not read that they end."""
        await self._acceptor.close(stays)

    async def _converse(self, node: NodeName | None, socket: PeerSocket, _address: str) -> None:
        calls: set[asyncio.Task[None]] = set()
        callers: set[NodeName] = set()
        try:
            while (message := await socket.receive(_IDLE_S)) is not None:
                reading = await self._answer(socket, message)
                if reading.claims is not None:
                    callers.add(_require(reading.claims, node))
                    await self._begin_call(socket, reading.number, reading.claims, calls)
                del message, reading  # a thousand peers wait here: none of their last questions is kept
        except OciError:
            await socket.reject(b"not a question about holders")
        finally:
            await end_all(calls)
            if self._claims is not None:
                for caller in callers:
                    self._claims.gone(caller)

    async def _begin_call(
        self, socket: PeerSocket, number: int, call: ClaimCall, calls: set[asyncio.Task[None]]
    ) -> None:
        """Answer a question about claims when there is something to say.

        If too many wait, the further ones can't, and nothing more is read until they are answered.
        """
        if len(calls) >= CALLS_MAX:
            await self._answer_call(socket, number, call, full=True)
            return
        task = asyncio.create_task(self._answer_call(socket, number, call, full=False), name="claim")
        calls.add(task)
        task.add_done_callback(calls.discard)

    async def _answer_call(self, socket: PeerSocket, number: int, call: ClaimCall, *, full: bool) -> None:
        reply: ClaimReply | None = None
        if self._claims is not None:
            reply = await self._claims.answer(replace(call, wait_s=0.0) if full else call)
            if full and call.ask is not None and reply.verdict is None:
                reply = replace(reply, verdict=Free())
        began_s = time.thread_time()
        with suppress(ConnectionError, TimeoutError):  # whoever receives notices it, too
            await socket.send(encode_reply(number, Question(), Reply(claims=reply)), _SEND_S)
        await socket.pay(time.thread_time() - began_s)

    async def _answer(self, socket: PeerSocket, message: bytes) -> QuestionReading:
        """Read a question, and answer it, unless it is about claims."""
        began_s = time.thread_time()
        reading = QuestionReading(message)
        while reading.read_on():
            began_s = await _pause(socket, began_s)
        if reading.claims is not None:
            await socket.pay(time.thread_time() - began_s)
            return reading
        question, held, tags = reading.question, set[Digest](), list[KnownTag]()
        in_flight: dict[Digest, Flying] = {}
        for number, part in enumerate(question.parts()):
            if number:
                began_s = await _pause(socket, began_s)
            reply = self._reply_to(part)
            held |= reply.held
            tags += reply.tags
            in_flight |= reply.in_flight
        figures = self._figures() if reading.figures and self._figures is not None else None
        answer = Reply(held=frozenset(held), tags=tuple(tags), in_flight=in_flight, figures=figures)
        await socket.send(encode_reply(reading.number, question, answer), _SEND_S)
        await socket.pay(time.thread_time() - began_s)
        return reading


def _require(call: ClaimCall, node: NodeName | None) -> NodeName:
    """The node that calls. Raises `OciError` if it says that it is another one than it proved to be."""
    if node not in (None, call.node):
        raise RequestInvalid("a claim of another node")
    return call.node


async def _pause(socket: PeerSocket, began_s: float) -> float:
    """Charge the CPU time since ``began_s``, and let other tasks run. Returns when it goes on."""
    await socket.pay(time.thread_time() - began_s)
    await asyncio.sleep(0)
    return time.thread_time()
