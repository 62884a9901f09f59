"""One connection to one endpoint, made from the node's own network namespace, as containerd's would be."""

import http.client
import socket
import struct
from dataclasses import dataclass
from typing import Self

from agent.config import Endpoint

_TIMEOUT_S = 2.0
_SO_COOKIE = 57
_USER_AGENT = "shorthaul-canary"
NODE_HEADER = "Shorthaul-Node"


def socket_cookie(sock: socket.socket) -> int:
    """The kernel's number of a socket (SO_COOKIE), by which its eBPF programs know it too."""
    cookie: int = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))[0]
    return cookie


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back. ``node``: whose agent it was, "" if it was none. ``error``: "" if something came."""

    node: str = ""
    error: str = ""


class CanaryConnection:
    """Made, asked, judged, closed: it stays open for as long as the context, so that it can be judged."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(_TIMEOUT_S)
        self.cookie = socket_cookie(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; the kernel tells of that as well."""
        self._socket.close()

    def ask(self) -> Answer:
        """Connect and ask ``GET /v2/``. Blocks for `_TIMEOUT_S` a step at most."""
        try:
            self._socket.connect((self._endpoint.host, self._endpoint.port))
            connection = http.client.HTTPConnection(self._endpoint.host, self._endpoint.port)
            connection.sock = self._socket
            connection.request("GET", "/v2/", headers={"User-Agent": _USER_AGENT})
            response = connection.getresponse()
            response.read(4096)
        except (OSError, http.client.HTTPException) as error:
            return Answer(error=str(error) or type(error).__name__)
        return Answer(node=response.getheader(NODE_HEADER, "")[:253])
