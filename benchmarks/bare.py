"""Servers that decide nothing, in a row: what a request through idle processes costs on this machine.

    python -m benchmarks.bare ADDRESS PORT [UPSTREAM]

Each is aiohttp's low-level server on uvloop, as in an agent. The last part of a request's path is a number:
so often, one time after the other, it asks the server at UPSTREAM (address and port) before it answers. Its
connection to that server stays open. `benchmarks.versions` measures two of them beside agents.
"""

import asyncio
import socket
import sys

import uvloop
from aiohttp import web

_ANSWER = b"x" * 200
_ASKED = b"GET /0 HTTP/1.1\r\nHost: bare\r\n\r\n"


class _Bare:
    def __init__(self, upstream: socket.socket | None) -> None:
        self._upstream = upstream

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        for _ in range(int(request.path.rpartition("/")[2])):
            assert self._upstream is not None, "a number other than 0 needs an upstream"
            await loop.sock_sendall(self._upstream, _ASKED)
            received = b""
            while not received.endswith(_ANSWER):
                received += await loop.sock_recv(self._upstream, 1 << 14)
        return web.Response(body=_ANSWER)


async def _serve(address: str, port: int, upstream: socket.socket | None) -> None:
    server = web.Server(_Bare(upstream).handle, access_log=None)
    async with await asyncio.get_running_loop().create_server(server, address, port) as listening:
        await listening.serve_forever()


def _connected(upstream: str) -> socket.socket:
    host, _, port = upstream.rpartition(":")
    own = socket.create_connection((host, int(port)))
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    own.setblocking(False)
    return own


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2]), _connected(sys.argv[3]) if len(sys.argv) > 3 else None))
