"""A server that has nothing to do with agents: ``python -m benchmarks.floods.sink ADDRESS PORT``.

It answers a request in the cheapest way and throws everything else away. The flood that goes to it shows what
the attacker's own work costs the others on this machine.
"""

import asyncio
import resource
import sys

import uvloop

_REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
_UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
_SLOW_S = 0.02


class _Sink(asyncio.Protocol):
    upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self.upgraded:
            # A sink that took all it is sent would keep the attacker busier than any agent does.
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(_SLOW_S, self._resume)
        elif b"Upgrade:" in data:
            self.upgraded = True
            self._transport.write(_UPGRADED)
        elif b"\r\n\r\n" in data:
            self._transport.write(_REFUSED)

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


async def _serve(address: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Sink, address, port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2])))
