"""Speaking to other agents over HTTP. Checks every answer before anyone relies on it.

Foreign exceptions become `AttemptFailed`. Cancelling a fetch closes its connection.
"""

import asyncio
import weakref
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.oci.digest import digest_of
from agent.oci.errors import RangeInvalid
from agent.oci.manifest import SIZE_MAX_BYTES, Manifest, parse_manifest
from agent.oci.ranges import (
    ByteRange,
    RangeSpec,
    is_unsatisfiable,
    parse_content_range,
    parse_unsatisfied_range,
    select,
)
from agent.oci.reference import Addressed, Kind
from agent.pull.machine import Failure
from agent.transfer.questions import Connected, QuestionChannels

_IDLE_S = 15.0  # shorter than a server's http.idle_s, so that no request meets a connection that is closing
_READ_BYTES = 256 * 1024
_HEADERS = {"User-Agent": "shorthaul", "Accept-Encoding": "identity"}


class AttemptFailed(Exception):
    """A fetch gave nothing usable."""

    def __init__(self, failure: Failure, message: str, *, size_bytes: int | None = None) -> None:
        super().__init__(message)
        self.failure = failure
        self.size_bytes = size_bytes  # the content's size, with UNSATISFIABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to fetch from a peer. ``size_bytes``: the content's size where a manifest named it."""

    target: Addressed
    range_spec: RangeSpec | None = None
    head: bool = False
    size_bytes: int | None = None

    @property
    def url_path(self) -> str:
        """Path and query; the grammar of its parts needs no percent-encoding but for a port or brackets."""
        target = self.target
        room = "blobs" if target.kind is Kind.BLOB else "manifests"
        query = "" if target.registry is None else f"?ns={target.registry}"
        return f"/v2/{target.repository}/{room}/{target.digest}{query}"


class PeerBody:
    """A peer's checked answer: the head, the first bytes, and the way to the rest."""

    def __init__(
        self,
        response: aiohttp.ClientResponse | None,
        *,
        first: bytes,
        selected: ByteRange | None,
        size_bytes: int,
        manifest: Manifest | None = None,
    ) -> None:
        self._response = response
        self.first = first
        self.selected = selected
        self.size_bytes = size_bytes
        self.manifest = manifest  # verified and parsed, when a manifest was wanted

    @property
    def length(self) -> int:
        """How many body bytes there are in all, the first ones included."""
        return self.selected.length if self.selected else self.size_bytes

    async def read(self, stall_s: float) -> bytes:
        """The next bytes after the first; empty at the end.

        Raises `AttemptFailed` when it breaks or stalls.
        """
        if self._response is None:
            return b""
        try:
            async with asyncio.timeout(stall_s):
                return await self._response.content.readany()
        except TimeoutError as error:
            raise AttemptFailed(Failure.SILENT, f"no byte for {stall_s} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise AttemptFailed(Failure.BROKEN, str(error) or type(error).__name__) from error

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if self._response is not None:
            self._response.release() if self._response.content.at_eof() else self._response.close()
            self._response = None


class PeerClient:
    """One connection pool to all peers. Use as an async context manager."""

    def __init__(
        self, *, connect_s: float, stall_s: float, connected: Connected = lambda _peer, _socket: None
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        self._stall_s = stall_s
        self._connected = connected
        self._known: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._session: aiohttp.ClientSession | None = None
        self._questions: QuestionChannels | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            headers=_HEADERS,
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
        )
        self._questions = QuestionChannels(self._session, self._connected)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._questions is not None:
            await self._questions.close()
        if self._session is not None:
            await self._session.close()

    async def ask(self, peer: Peer, question: Question, timeout_s: float) -> Reply:
        """Put a question about holders to a peer. Raises `PeerSilent`."""
        assert self._questions is not None
        return await self._questions.ask(peer, question, timeout_s)

    async def fetch(self, peer: Peer, wanted: Wanted) -> PeerBody:
        """The peer's answer, checked, with its first bytes. Raises `AttemptFailed`.

        Has no deadline of its own before the first byte: the pull decides how long to wait.
        """
        assert self._session is not None
        url = URL(f"{peer.base_url}{wanted.url_path}", encoded=True)
        headers = {} if wanted.range_spec is None else {"Range": str(wanted.range_spec)}
        try:
            response = await self._session.request(
                "HEAD" if wanted.head else "GET", url, headers=headers, allow_redirects=False
            )
        except (aiohttp.ServerTimeoutError, aiohttp.ClientConnectorError, TimeoutError) as error:
            raise AttemptFailed(Failure.UNREACHABLE, str(error) or type(error).__name__) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise AttemptFailed(Failure.BROKEN, str(error) or type(error).__name__) from error
        self._tell_of(peer, response)
        try:
            return await self._checked(response, wanted)
        except BaseException:
            response.close()
            raise

    def _tell_of(self, peer: Peer, response: aiohttp.ClientResponse) -> None:
        """Tell of the connection if it is new: its handshake measured the way to the peer."""
        transport = None if response.connection is None else response.connection.transport
        if transport is not None and transport not in self._known:
            self._known.add(transport)
            self._connected(peer, transport.get_extra_info("socket"))

    async def _checked(self, response: aiohttp.ClientResponse, wanted: Wanted) -> PeerBody:
        _check_status(response, wanted)
        selected, size_bytes = _check_length(response, wanted)
        if wanted.head:
            first = b""
        elif wanted.target.kind is Kind.MANIFEST:
            return await self._manifest(response, wanted, size_bytes)
        else:
            first = await self._first(response, size_bytes)
        return PeerBody(response, first=first, selected=selected, size_bytes=size_bytes)

    async def _first(self, response: aiohttp.ClientResponse, size_bytes: int) -> bytes:
        try:
            first = await response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise AttemptFailed(Failure.BROKEN, str(error) or type(error).__name__) from error
        if not first and size_bytes:
            raise AttemptFailed(Failure.BROKEN, "no first byte")
        return first

    async def _manifest(self, response: aiohttp.ClientResponse, wanted: Wanted, size_bytes: int) -> PeerBody:
        """A manifest is small and steers everything after it: read it whole and verify it first."""
        if size_bytes > SIZE_MAX_BYTES:
            raise AttemptFailed(Failure.INVALID, f"a manifest of {size_bytes} bytes")
        try:
            async with asyncio.timeout(self._stall_s):
                content = await response.read()
        except TimeoutError as error:
            raise AttemptFailed(Failure.SILENT, "manifest stalled") from error
        except (aiohttp.ClientError, OSError) as error:
            raise AttemptFailed(Failure.BROKEN, str(error) or type(error).__name__) from error
        manifest = parse_manifest(content)
        if digest_of(content, like=wanted.target.digest) != wanted.target.digest or manifest is None:
            raise AttemptFailed(Failure.INVALID, "a manifest that does not match its digest")
        return PeerBody(None, first=content, selected=None, size_bytes=len(content), manifest=manifest)


def _check_status(response: aiohttp.ClientResponse, wanted: Wanted) -> None:
    status = response.status
    if status in (200, 206):
        return
    if status == 416 and wanted.range_spec is not None:
        size_bytes = parse_unsatisfied_range(response.headers.get("Content-Range"))
        if size_bytes is not None and is_unsatisfiable(wanted.range_spec, size_bytes):
            raise AttemptFailed(Failure.UNSATISFIABLE, "status 416", size_bytes=size_bytes)
    failure = {404: Failure.MISSING, 429: Failure.BUSY}.get(status, Failure.ERROR)
    raise AttemptFailed(failure, f"status {status}")


def _check_length(response: aiohttp.ClientResponse, wanted: Wanted) -> tuple[ByteRange | None, int]:
    """The range and the whole size that the head promises, if they fit what was asked and each other."""
    length = response.content_length
    if length is None or length < 0:
        raise AttemptFailed(Failure.INVALID, "no Content-Length")
    if response.status == 206:
        selected = parse_content_range(response.headers.get("Content-Range"))
        if selected is None or selected.length != length or wanted.range_spec is None:
            raise AttemptFailed(Failure.INVALID, "a Content-Range that does not fit")
        size_bytes = selected.size_bytes
    else:
        selected, size_bytes = None, length
    if size_bytes == 0 and digest_of(b"", like=wanted.target.digest) != wanted.target.digest:
        raise AttemptFailed(Failure.INVALID, "no bytes, where the digest is not that of none")
    if wanted.size_bytes is not None and size_bytes != wanted.size_bytes:
        raise AttemptFailed(
            Failure.INVALID, f"{size_bytes} bytes where the manifest says {wanted.size_bytes}"
        )
    try:
        expected = select(wanted.range_spec, size_bytes)
    except RangeInvalid as error:
        raise AttemptFailed(Failure.INVALID, "a range outside of the content") from error
    if expected != selected:
        raise AttemptFailed(Failure.INVALID, "not the range that was asked for")
    return selected, size_bytes
