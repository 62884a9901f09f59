"""Answering peers who ask what this node has; the other end of ``transfer/questions.py``."""

import asyncio
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMsgType, web

from agent.holders.wire import QUESTION_MAX_BYTES, Question, Reply, decode_question, encode_reply
from agent.oci.errors import OciError, RequestInvalid

_IDLE_S = 300.0  # an asker that is quiet for so long connects anew when it has a question


class QuestionDesk:
    """Holds the peers' connections and answers what comes in on them."""

    def __init__(self, reply_to: Callable[[Question], Reply]) -> None:
        self._reply_to = reply_to
        self._open: set[web.WebSocketResponse] = set()

    async def serve(self, request: web.BaseRequest) -> web.WebSocketResponse:
        """Answer one peer until it leaves. Raises `RequestInvalid` for anything but a WebSocket."""
        socket = web.WebSocketResponse(compress=False, max_msg_size=QUESTION_MAX_BYTES, timeout=1.0)
        if not socket.can_prepare(request):
            raise RequestInvalid("questions about holders come over a WebSocket")
        await socket.prepare(request)
        self._open.add(socket)
        try:
            while True:
                message = await socket.receive(timeout=_IDLE_S)
                if message.type is not WSMsgType.BINARY:
                    break
                number, question = decode_question(message.data)
                await socket.send_bytes(encode_reply(number, question, self._reply_to(question)))
        except OciError:
            await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"not a question about holders")
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._open.discard(socket)
        await socket.close()
        return socket

    async def close(self) -> None:
        """Tell all peers that this agent goes away."""
        closing = [socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._open]
        await asyncio.gather(*closing, return_exceptions=True)
