"""Asks this node's own agent for its pages: at its own Unix socket, or else at its admin port."""

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent.config import Endpoint
from agent.documents.codec import DocumentInvalid, decode
from agent.preflight.check import shown

_MOST_BYTES = 16 << 20
_PART_BYTES = 1 << 16
_SHOWN_MAX = 300

_T = TypeVar("_T")


class AgentSilent(Exception):
    """The agent gave no usable answer. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPages:
    """Where the agent answers. ``path``: ``health.socket``, used if it is there."""

    admin: Endpoint
    path: Path | None = None

    def __str__(self) -> str:
        return str(self.path if self._by_socket else self.admin)

    @property
    def _by_socket(self) -> bool:
        return self.path is not None and self.path.exists()

    def document(self, kind: type[_T], page: str, *, at_most_s: float) -> _T:
        """A page as a document. Raises `AgentSilent`."""
        status, body = self.ask(page, at_most_s=at_most_s)
        if status != 200:
            raise AgentSilent(f"the agent at {self} answers {status} to {page}: is it of this release?")
        try:
            return decode(kind, json.loads(body), text=lambda text: shown(text, _SHOWN_MAX))
        except (ValueError, RecursionError, DocumentInvalid) as error:
            raise AgentSilent(f"what answers at {self} is no agent: {shown(str(error))}") from error

    def ask(self, page: str, *, at_most_s: float) -> tuple[int, str]:
        """The status and the body of a page. Raises `AgentSilent`."""
        try:
            answer = self._exchange(page, time.monotonic() + at_most_s)
        except TimeoutError as error:
            raise AgentSilent(f"the agent at {self} does not answer within {at_most_s:g} s") from error
        except OSError as error:
            raise AgentSilent(
                f"no agent answers at {self}: {(error.strerror or str(error)).lower()}"
            ) from error
        head, _, body = answer.partition(b"\r\n\r\n")
        words = head.split(maxsplit=2)
        if not head.startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            raise AgentSilent(f"what answers at {self} does not speak HTTP")
        status = int(words[1])
        if status == 401:
            raise AgentSilent(
                f"the agent at {self} wants its admin token there; at health.socket it wants none"
            )
        return status, body.decode(errors="replace")

    def _exchange(self, page: str, until_s: float) -> bytes:
        with self._connected(until_s) as connection:
            connection.sendall(f"GET {page} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = bytearray()
            while len(answer) < _MOST_BYTES:
                connection.settimeout(max(until_s - time.monotonic(), 0.001))
                part = connection.recv(_PART_BYTES)
                if not part:
                    break
                answer += part
        return bytes(answer)

    def _connected(self, until_s: float) -> socket.socket:
        left_s = max(until_s - time.monotonic(), 0.001)
        if not self._by_socket:
            return socket.create_connection((self.admin.host, self.admin.port), timeout=left_s)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(left_s)
            connection.connect(str(self.path))
        except BaseException:
            connection.close()
            raise
        return connection
