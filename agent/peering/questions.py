"""Answering peers who ask what this node has; the other end of ``peering/channels.py``."""

import asyncio
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMsgType, web

from agent.holders.wire import QUESTION_MAX_BYTES, Question, Reply, decode_question, encode_reply
from agent.listen.http import end_with_peer
from agent.oci.errors import OciError, RequestInvalid

_SEND_S = 5.0
_GOODBYE_S = 1.0
_IDLE_S = 300.0  # an asker that is quiet for so long connects anew when it has a question


class QuestionDesk:
    """Holds the peers' connections and answers what comes in on them."""

    def __init__(self, reply_to: Callable[[Question], Reply]) -> None:
        self._reply_to = reply_to
        self._open: dict[web.WebSocketResponse, web.BaseRequest] = {}

    async def serve(self, request: web.BaseRequest) -> web.WebSocketResponse:
        """Answer one peer until it leaves. Raises `RequestInvalid` for anything but a WebSocket."""
        socket = web.WebSocketResponse(compress=False, max_msg_size=QUESTION_MAX_BYTES, timeout=1.0)
        if not socket.can_prepare(request):
            raise RequestInvalid("questions about holders come over a WebSocket")
        await socket.prepare(request)
        end_with_peer(request)
        self._open[socket] = request
        try:
            while True:
                message = await socket.receive(timeout=_IDLE_S)
                if message.type is not WSMsgType.BINARY:
                    break
                number, question = decode_question(message.data)
                reply = encode_reply(number, question, self._reply_to(question))
                async with asyncio.timeout(_SEND_S):
                    await socket.send_bytes(reply)
        except OciError:
            await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"not a question about holders")
        except (TimeoutError, ConnectionError):
            _abort(request)  # idle, or it takes no replies: there is nobody to say good-bye to
        finally:
            del self._open[socket]
        return socket

    async def close(self) -> None:
        """Tell all peers that this agent goes away; those that do not take it are cut off."""
        closing = [socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._open]
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await asyncio.gather(*closing, return_exceptions=True)
        except TimeoutError:
            for request in self._open.values():
                _abort(request)


def _abort(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
