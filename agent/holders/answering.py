"""Answers peers that ask what this node has. The other end of `agent.holders.wire.QUESTIONS`."""

from collections.abc import Callable

from agent.holders.wire import QUESTION_MAX_BYTES, Question, Reply, decode_question, encode_reply
from agent.oci.errors import OciError
from agent.peering.accept import (
    AcceptLimits,
    Acceptor,
    Introduce,
    PeerRequest,
    PeerResponse,
    Upgraded,
    introduce_nothing,
)
from agent.peering.websocket import PeerSocket

_SEND_S = 5.0
_IDLE_S = 300.0  # a peer that was quiet for this long connects again when it has a question
_LIMITS = AcceptLimits(
    total_max=2048,  # each costs some 40 kB; scatter is meant for 200 nodes
    address_max=64,  # behind one translated address there may be many agents
    message_max_bytes=QUESTION_MAX_BYTES,
)


class QuestionDesk:
    """Holds the connections of the peers that ask, and answers their questions.

    ``upgraded``: see `agent.peering.accept.Upgraded`. ``introduction``: see `Acceptor`.
    """

    def __init__(
        self,
        reply_to: Callable[[Question], Reply],
        *,
        upgraded: Upgraded,
        introduction: Introduce = introduce_nothing,
    ) -> None:
        self._reply_to = reply_to
        self._acceptor = Acceptor(
            purpose="questions about holders", limits=_LIMITS, upgraded=upgraded, introduction=introduction
        )

    async def serve(self, request: PeerRequest, address: str) -> PeerResponse:
        """Answer the peer at this address until it leaves. Raises what `Acceptor.serve` raises."""
        return await self._acceptor.serve(request, address, self._converse)

    async def close(self) -> None:
        """Tell all peers that this agent stops. Cut the connections of peers that do not read that."""
        await self._acceptor.close()

    async def _converse(self, socket: PeerSocket, _address: str) -> None:
        try:
            while (message := await socket.receive(_IDLE_S)) is not None:
                number, question = decode_question(message)
                await socket.send(encode_reply(number, question, self._reply_to(question)), _SEND_S)
        except OciError:
            await socket.reject(b"not a question about holders")
