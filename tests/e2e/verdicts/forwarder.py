"""A user-space proxy, as kube-proxy's own one for localhost: forwarder.py LISTEN TO UID [transparent]

Run as a process of its own. UID: the user that it becomes once it listens.
"""

import asyncio
import contextlib
import os
import socket
import sys

_IP_TRANSPARENT = 19


async def _copy(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await incoming.read(65536):
            outgoing.write(data)
            await outgoing.drain()
    outgoing.close()


async def _main(listen: str, to: str, uid: str, *options: str) -> None:
    host, _, port = listen.rpartition(":")
    to_host, _, to_port = to.rpartition(":")

    async def forward(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        try:
            answers, asks = await asyncio.open_connection(to_host, int(to_port))
        except OSError:
            outgoing.close()
            return
        await asyncio.gather(_copy(incoming, asks), _copy(answers, outgoing))

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "transparent" in options:
        listener.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
    if int(uid):
        os.setgid(int(uid))
        os.setuid(int(uid))
    listener.bind((host, int(port)))
    server = await asyncio.start_server(forward, sock=listener)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
