"""A client of a running agent's admin port: it requests a page, with a deadline, and decodes the document.

The port may be another node's: then it is shown the cluster's admin token, if it asks for one. It may be the
agent's own Unix socket, as ``unix:PATH``.

Only commands that need it import it, because the agent's process does not. Every text of a document is made
printable here: labels come from other machines, and a terminal obeys control characters.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

from agent.cli.errors import CommandError
from agent.documents.api import ACTION, ACTION_HEADER, NO_SUCH_PAGE, ErrorDocument
from agent.documents.codec import DocumentInvalid, decode
from agent.documents.topology import TopologyDocument

_T = TypeVar("_T")

UNIX = "unix:"
"""What a URL begins with that is the path of a Unix socket."""

_HEADERS = {"Accept": "application/json", ACTION_HEADER: ACTION}  # only actions need the second one

_DEADLINE_S = 15.0  # an explanation waits for peers, a few seconds at most
_PART_BYTES = 64 * 1024
_ANSWER_MAX_BYTES = 64 * 1024 * 1024  # 5,000 nodes are about 2 MB; a server that sends more is no agent
_IS_IT_RUNNING = "is it running? name its admin port with --url (listen.admin of its settings)"


def request_json(
    url: str,
    path: str,
    query: dict[str, str] | None = None,
    *,
    method: str = "GET",
    deadline_s: float = _DEADLINE_S,
    token: Callable[[], str | None] = lambda: None,
    is_list: bool = False,
) -> Any:
    """The JSON object that the admin port at ``url`` answers for ``path``. Raises `CommandError`.

    ``is_list``: the answer is a list of objects.

    ``deadline_s``: the limit for each wait for the agent, and for reading the whole body. ``token``: the
    cluster's admin token, None without one; it is asked for only if the agent wants one.
    """
    place = _place(url)
    target = f"{place.prefix}{path}" + (f"?{urlencode(query)}" if query else "")
    try:
        status, body = _exchange(place, method, target, deadline_s, _HEADERS)
        shown = token() if status == http.client.UNAUTHORIZED else None
        if shown is not None:
            proof = {"Authorization": f"Bearer {shown}"}
            status, body = _exchange(place, method, target, deadline_s, _HEADERS | proof)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an impossible host
        raise _unreachable(url, error, deadline_s) from error
    return _answer(printable(url), path, status, body, is_list=is_list)


def read(kind: type[_T], answer: Any) -> _T:
    """The answer as a document, with printable texts. Raises `CommandError` if it is something else."""
    try:
        return decode(kind, answer, text=printable)
    except DocumentInvalid as error:
        raise _unreadable(str(error)) from error


def read_topology(answer: Any) -> TopologyDocument:
    """The answer of ``/api/topology``. Raises `CommandError` if a cell of a matrix is missing."""
    topology = read(TopologyDocument, answer)
    sides = [len(topology.zones)] * len(topology.zones)
    for matrix in (topology.matrix_us, topology.matrix_source):
        if [len(row) for row in matrix] != sides:
            raise _unreadable("the matrix is not as large as the list of zones")
    rows = zip(topology.matrix_us, topology.matrix_source, strict=True)
    cells = (cell for costs_us, sources in rows for cell in zip(costs_us, sources, strict=True))
    if any(source is None and cost_us is not None for cost_us, source in cells):
        raise _unreadable("a cost in the matrix has no source")
    return topology


def printable(text: str) -> str:
    r"""``text`` with escapes such as ``\x1b`` in place of characters that are not printable."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _parse_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname) and parts.port != 0 and parts.path.isascii()
    except ValueError:
        good = False
    else:
        if "://" in url and parts.scheme == "https":
            raise CommandError(
                f"{printable(url)}: the admin port speaks plain HTTP", hint="write http://", status=2
            )
        good = good and parts.scheme == "http" and not (parts.query or parts.fragment or parts.username)
    if not good:
        raise CommandError(
            f"{printable(url)!r} is no URL of an admin port",
            hint="write http://HOST:PORT, for example http://127.0.0.1:9090",
            status=2,
        )
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where to connect to. ``socket``: a Unix socket; else a host and a port."""

    host: str = "localhost"
    port: int = 80
    prefix: str = ""
    socket: str = ""

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that is not open yet."""
        if self.socket:
            return _UnixConnection(self.socket, timeout_s)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _place(url: str) -> _Place:
    if url.startswith(UNIX):
        return _Place(socket=url.removeprefix(UNIX))
    base = _parse_url(url)
    return _Place(host=base.hostname or "", port=base.port or 80, prefix=base.path.rstrip("/"))


def _exchange(
    place: _Place, method: str, target: str, deadline_s: float, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    connection = place.connection(deadline_s)
    try:
        connection.request(method, target, headers=headers)
        with connection.getresponse() as response:
            end_s = time.monotonic() + deadline_s  # the socket's time-out begins again with every byte
            body = bytearray()
            while len(body) <= _ANSWER_MAX_BYTES and (part := response.read1(_PART_BYTES)):
                body += part
                if time.monotonic() > end_s:
                    raise TimeoutError
            return response.status, bytes(body)
    finally:
        connection.close()


def _unreachable(url: str, error: Exception, deadline_s: float) -> CommandError:
    url = printable(url)
    if isinstance(error, TimeoutError):
        return CommandError(f"no answer from {url} within {deadline_s:g} s", hint=_IS_IT_RUNNING)
    if isinstance(error, http.client.HTTPException | ConnectionResetError | BrokenPipeError):
        # Before OSError, because RemoteDisconnected is both, and here something accepted the connection.
        return CommandError(
            f"what answers at {url} does not speak HTTP as an agent does ({_words(error)})",
            hint="name the agent's admin port with --url, not one of its other listeners",
        )
    hint = _IS_IT_RUNNING
    if url.startswith(UNIX):
        hint = "is it running, is that its health.socket, and do you ask as root or as its user?"
    return CommandError(f"no agent answers at {url} ({_words(error)})", hint=hint)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)
    return printable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)[:200]


def _answer(url: str, path: str, status: int, body: bytes, *, is_list: bool) -> Any:
    if len(body) > _ANSWER_MAX_BYTES:
        raise CommandError(
            f"what answers at {url} sends more than {_ANSWER_MAX_BYTES >> 20} MiB",
            hint="that is no agent's admin port; name it with --url",
        )
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if status != 200:
        raise _refused(url, path, status, answer)
    if not isinstance(answer, list if is_list else dict):
        raise CommandError(
            f"what answers at {url} gives no JSON {'list' if is_list else 'object'} for {path}",
            hint="that is no agent's admin port; name it with --url",
        )
    return answer


def _refused(url: str, path: str, status: int, answer: Any) -> CommandError:
    """The agent's own error. If something else answered, what its error may mean."""
    try:
        error = decode(ErrorDocument, answer, text=printable)
    except DocumentInvalid:
        error = None
    if error is not None and error.code != NO_SUCH_PAGE:
        return CommandError(error.message, hint=error.hint or f"{url} answered {status}")
    if status == 404:
        return CommandError(
            f"what answers at {url} has no {path}",
            hint="is that the agent's admin port, and is the agent as new as this command?",
        )
    return CommandError(
        f"{url} answered {status} to {path}", hint="the agent's log tells more, if that is its admin port"
    )


def _unreadable(problem: str) -> CommandError:
    return CommandError(
        f"the agent's answer can't be shown: {problem}",
        hint="agent and command may be of different versions; --json shows the answer as it is",
    )
