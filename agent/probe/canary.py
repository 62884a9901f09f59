"""A canary: a connection that the probe makes to one endpoint to test its path.

It comes from the node's own network namespace, like containerd's connections.
"""

import re
import socket
import time
from dataclasses import dataclass
from typing import Self

from agent.config import Endpoint
from agent.flows.messages import NODE_HEADER, SOCKET_HEADER
from agent.probe.sockets import socket_cookie

_ALL_S = (
    2.0  # limit for the whole exchange, so that a server that sends slowly does not delay the next canary
)
_HEAD_MAX = 8192
_NODE_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")  # an unknown server may answer anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a canary.

    ``node``: the node of the agent that answered, "" if it was not an agent. ``cookie``: the cookie of the
    agent's socket, as the agent says; 0 if it does not say. ``error``: "" if an HTTP answer came.
    """

    node: str = ""
    cookie: int = 0
    error: str = ""


class CanaryConnection:
    """A context manager around one canary's socket. The socket stays open so that the flow can be judged.

    ``authorization``: the header that containerd sends to the endpoint; empty: none.
    """

    def __init__(self, endpoint: Endpoint, authorization: str = "") -> None:
        self._endpoint = endpoint
        self._authorization = authorization
        family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self.cookie = socket_cookie(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. The kernel reports that as an event too."""
        self._socket.close()

    def request(self) -> Answer:
        """Connect and send ``GET /v2/``. Blocks for at most `_ALL_S`."""
        until_s = time.monotonic() + _ALL_S
        lines = ["GET /v2/ HTTP/1.1", f"Host: {self._endpoint}", "User-Agent: shorthaul-canary"]
        if self._authorization:
            lines.append(f"Authorization: {self._authorization}")
        request = "\r\n".join((*lines, "", ""))
        head = b""
        try:
            self._socket.settimeout(_ALL_S)
            self._socket.connect((self._endpoint.host, self._endpoint.port))
            self._socket.sendall(request.encode())
            while b"\r\n\r\n" not in head and len(head) < _HEAD_MAX:
                self._socket.settimeout(max(0.001, until_s - time.monotonic()))
                received = self._socket.recv(_HEAD_MAX)
                if not received:
                    break
                head += received
        except OSError as error:
            return Answer(error=error.strerror or str(error))
        if not head.startswith(b"HTTP/1."):
            return Answer(error="the answer is not HTTP" if head else "closed without an answer")
        cookie = _header(head, SOCKET_HEADER)
        known = int(cookie) if cookie.isascii() and cookie.isdigit() and len(cookie) < 21 else 0
        node = _header(head, NODE_HEADER)
        return Answer(node=node if _NODE_NAME.fullmatch(node) else "", cookie=known)


def _header(head: bytes, name: str) -> str:
    """A field of an HTTP/1 head, "" if it is missing (RFC 9112, section 5)."""
    for line in head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name.lower():
            return value.strip()[:253]
    return ""
