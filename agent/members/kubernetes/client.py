"""One request to the API server: bounded in time and size, with errors in words. Nothing else knows the
package ``kubernetes``.

Of its asyncio client this takes the transport, which knows certificates, proxies and timeouts. Its generated
classes would cost 20 MiB in every agent, for a dozen fields that are read as JSON here. The token and the
certificate of the API server are read again when they change: the kubelet replaces the token every hour.
"""

import asyncio
import importlib.util
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp

from agent.files import read_regular
from agent.heartbeat import Heartbeat, start_heartbeat


@contextmanager
def _bare_packages(*names: str) -> Iterator[None]:
    """Let modules be imported from these packages without what the packages themselves import."""
    before = {name: sys.modules.get(name) for name in names}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"no package {name}", name=name)
        bare = ModuleType(name)
        bare.__path__, bare.__spec__ = spec.submodule_search_locations, spec
        sys.modules[name] = bare
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


with _bare_packages("kubernetes", "kubernetes.aio", "kubernetes.aio.client", "kubernetes.aio.utils"):
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.client.rest import RESTClientObject

_ERROR_MAX_BYTES = 64 << 10
_SECRET_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds on an answer.

    ``connect_s``, ``head_s``: for the connection, and for the first byte. ``list_s``: for a whole list or
    object. ``silence_s``: a watch on which nothing comes for so long is given up; bookmarks come about once a
    minute. ``list_max_bytes``: the list of 5,000 agents has 1.7 MB. ``event_max_bytes``: etcd keeps objects
    of up to 1.5 MiB.
    """

    connect_s: float = 5.0
    head_s: float = 30.0
    list_s: float = 60.0
    silence_s: float = 150.0
    list_max_bytes: int = 64 << 20
    event_max_bytes: int = 8 << 20


_SHOWN_MAX = 300
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;q=0.9"
_METADATA_KINDS = frozenset({"PartialObjectMetadata"})


class Failed(Exception):
    """A request failed. ``hint``: what a person can do about it. ``retry_after_s``: what the server asked
    for.

    ``status``: the HTTP status. 0: there was none.
    """

    def __init__(self, message: str, *, hint: str, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def doubts_version(self) -> bool:
        """Whether the version from which to go on may be the reason: one that the server does not have yet.

        A server that is away or busy says nothing about it.
        """
        return self.status in _OF_VERSIONS

    @staticmethod
    def of_status(document: Any, status: int = 0, retry_after_s: float = 0.0) -> "Failed | Expired":
        """What a ``Status`` object means, or an answer of this status that is none."""
        fields = document if isinstance(document, dict) else {}
        code = fields.get("code")
        code = code if isinstance(code, int) and not isinstance(code, bool) else status
        message = fields.get("message")
        said = _short(message) if isinstance(message, str) and message else "an answer without a message"
        if code == 410:
            return Expired(said)
        return Failed(
            f"{said} (status {code})",
            hint=_HINTS.get(code, "the API server's log says more"),
            status=code,
            retry_after_s=retry_after_s,
        )


class Malformed(Failed):
    """An answer that is none."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="does an API server answer at this address, or something in between?")

    @property
    def doubts_version(self) -> bool:
        """See `Failed.doubts_version`."""
        return True


class Expired(Exception):
    """The server no longer has the version from which to go on: status 410."""


_GOOD = frozenset({200, 201, 202})
_OF_VERSIONS = frozenset({400, 500, 504})
_HINTS = {
    401: "is the token of the pod's service account mounted, and is it one of this cluster?",
    403: "grant the service account list and watch on endpointslices (discovery.k8s.io) in that namespace",
    404: "is the name right, and does this API server have this kind of object?",
    429: "the API server has too much to do; it is asked again later",
}
_REACH = "is the API server up, and does the network let this node reach it? What was known stays in use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach the API server. ``url``: without a final slash. The files may not be there yet.

    ``token``: what a kubeconfig says itself, in place of a file. ``certificate_file``, ``key_file``: of the
    user, where that is who proves to be one by a certificate.
    """

    url: str
    ca_file: Path | None
    token_file: Path | None
    token: str = field(default="", repr=False)
    certificate_file: Path | None = None
    key_file: Path | None = None


_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def access(
    api: str | None,
    ca_file: Path | None,
    token_file: Path | None,
    environment: Mapping[str, str] = os.environ,
) -> Access:
    """The access that is configured.

    What is left out is the pod's own, which its service account gives it.
    """
    if api is not None:
        return Access(url=api.rstrip("/"), ca_file=ca_file, token_file=token_file)
    host = environment.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    return Access(
        url=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ca_file=ca_file or _POD / "ca.crt",
        token_file=token_file or _POD / "token",
    )


class ApiServer:
    """One API server. Use as an async context manager. ``agent``: the User-Agent.

    ``connections``: so many requests at once; 0: any number. An agent has two watches and a list.
    ``date``: the time that it said last, as HTTP has it.
    """

    def __init__(
        self, access: Access, *, agent: str, limits: Limits | None = None, connections: int = 8
    ) -> None:
        self._access = access
        self._connections = connections
        self._agent = agent
        self._limits = limits or Limits()
        self._client: Any = None
        self._client_ca: bytes | None = None
        self.date = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def read(
        self, path: str, query: Mapping[str, str], *, kinds: Collection[str], metadata_only: bool = False
    ) -> dict[str, Any]:
        """A list or an object of one of these kinds. Raises `Failed` and `Expired`."""
        asked = self._ask("GET", path, query, metadata_only=metadata_only, silence_s=self._limits.head_s)
        async with asked as response:
            body = await self._body(response, self._limits.list_max_bytes)
        return _of_kind(body, {*kinds, *(_METADATA_KINDS if metadata_only else ())})

    async def create(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object; what the server made of it. Raises `Failed` and `Expired`.

        An answer that gets lost leaves open whether there is the object.
        """
        asked = self._ask("POST", path, {}, document=document, silence_s=self._limits.head_s)
        async with asked as response:
            body = await self._body(response, self._limits.event_max_bytes)
        return _of_kind(body, {str(document["kind"])})

    async def delete(self, path: str, query: Mapping[str, str]) -> bool:
        """Delete an object. Returns whether there was one. Raises `Failed` and `Expired`."""
        try:
            async with self._ask("DELETE", path, query, silence_s=self._limits.head_s) as response:
                await self._body(response, self._limits.event_max_bytes)
        except Failed as error:
            if error.status == 404:
                return False
            raise
        return True

    @asynccontextmanager
    async def lines(
        self, path: str, query: Mapping[str, str], *, silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a text that goes on, as a pod's log does. The last one may be cut.

        ``silence_s``: nothing comes for so long. Raises `Failed`, also between lines.
        """
        async with self._ask("GET", path, query, silence_s=silence_s) as response:
            yield _lines(response, self._limits.event_max_bytes)

    @asynccontextmanager
    async def watch(
        self, path: str, query: Mapping[str, str], *, metadata_only: bool = False
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """The events of a watch, until the server ends it.

        Raises `Failed` and `Expired`, also between events.
        """
        asked = self._ask("GET", path, query, metadata_only=metadata_only, silence_s=self._limits.silence_s)
        async with asked as response:
            connection = response.connection
            transport = None if connection is None else connection.transport
            if transport is not None:
                start_heartbeat(transport.get_extra_info("socket"), Heartbeat())
            yield _events(response, self._limits.event_max_bytes)

    @asynccontextmanager
    async def messages(
        self, path: str, query: Sequence[tuple[str, str]], *, protocol: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The messages of a WebSocket that are not empty, until the server ends it. Raises `Failed`.

        The caller bounds the time.
        """
        client, token = await self._opened(), await self._token()
        headers = {"User-Agent": self._agent, **({"Authorization": f"Bearer {token}"} if token else {})}
        connector = aiohttp.TCPConnector(ssl=client.ssl_context)
        url = f"{self._access.url}{path}?{urlencode(query)}"
        try:
            async with (
                aiohttp.ClientSession(connector=connector, trace_configs=[_without_redirects()]) as session,
                session.ws_connect(
                    url, protocols=[protocol], headers=headers, max_msg_size=self._limits.event_max_bytes
                ) as socket,
            ):
                yield _messages(socket)
        except aiohttp.WSServerHandshakeError as error:
            raise Failed(
                f"{_short(error.message)} (status {error.status})",
                hint=_HINTS.get(error.status, "the API server's log says more"),
                status=error.status,
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(_in_words(error)) from error

    async def _body(self, response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
        try:
            async with asyncio.timeout(self._limits.list_s):
                return await _whole(response, most_bytes)
        except TimeoutError as error:
            raise self._unreachable(f"no end of an answer within {self._limits.list_s:g} s") from error

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        silence_s: float,
        metadata_only: bool = False,
        document: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request, if it is a good one. ``document``: what is sent with it."""
        url = f"{self._access.url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"User-Agent": self._agent, "Accept": _METADATA if metadata_only else "application/json"}
        response: aiohttp.ClientResponse | None = None
        try:
            client = await self._opened()
            token = await self._token()
            if token:
                headers["Authorization"] = f"Bearer {token}"
            async with asyncio.timeout(self._limits.head_s):
                answer = await client.request(
                    method,
                    url,
                    headers=headers,
                    body=document,
                    _request_timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=self._limits.connect_s, sock_read=silence_s
                    ),
                )
            response = answer.response
            self.date = response.headers.get("Date", self.date)
            if response.status not in _GOOD:
                raise await self._refusal(response)
            yield response
        except TimeoutError as error:
            raise self._unreachable(str(error) or f"no answer within {self._limits.head_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(_in_words(error)) from error
        finally:
            if response is not None:
                response.close()

    async def _refusal(self, response: aiohttp.ClientResponse) -> "Failed | Expired":
        retry_after = response.headers.get("Retry-After", "")
        try:
            document = json.loads(await _whole(response, _ERROR_MAX_BYTES))
        except (ValueError, RecursionError, Malformed):
            document = {}
        wait_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return Failed.of_status(document, response.status, wait_s)

    async def _token(self) -> str:
        path = self._access.token_file
        if path is None:
            return self._access.token
        content = await asyncio.to_thread(read_regular, path, most_bytes=_SECRET_MAX_BYTES)
        token = content.decode("ascii", errors="replace").strip()
        if not token or not token.isascii() or not token.isprintable():
            raise Failed(f"{path}: not a token", hint=_HINTS[401])
        return token

    async def _opened(self) -> Any:
        """The transport. A new one if the certificate was replaced."""
        path = self._access.ca_file
        ca = None
        if path is not None and self._access.url.startswith("https:"):
            ca = await asyncio.to_thread(read_regular, path, most_bytes=_SECRET_MAX_BYTES)
            if not ca.strip():  # without a certificate, those of the system would count
                raise Failed(f"{path}: empty", hint="it has to be the certificate of the API server's issuer")
        if self._client is None or ca != self._client_ca:
            old, self._client, self._client_ca = (
                self._client,
                _transport(self._access, ca, self._connections),
                ca,
            )
            if old is not None:
                await old.close()
        return self._client

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _unreachable(self, why: str) -> Failed:
        return Failed(f"{self._access.url}: {why}", hint=_REACH)


def _transport(access: Access, ca: bytes | None, connections: int) -> Any:
    """Connections to the API server. Raises OSError for a certificate that is none."""
    configuration = Configuration(
        host=access.url,
        ca_cert_data=None if ca is None else ca.decode("ascii", errors="ignore"),
        connection_pool_maxsize=connections,
        client_session_kwargs={
            "read_bufsize": 1 << 18,
            "cookie_jar": aiohttp.DummyCookieJar(),
            "trace_configs": [_without_redirects()],
        },
    )
    # Python 3.13 refuses certificates that are not strictly those of RFC 5280, as clusters have them: without
    # the identifier of their issuer's key, for example. Go, and so everything else in a cluster, takes them.
    configuration.disable_strict_ssl_verification = True
    if access.certificate_file is not None:
        configuration.cert_file = str(access.certificate_file)
        configuration.key_file = None if access.key_file is None else str(access.key_file)
    return RESTClientObject(configuration)


def _without_redirects() -> aiohttp.TraceConfig:
    """An API server redirects nobody. aiohttp would ask whatever address the answer names, and believe it."""

    async def refuse(_session: Any, _context: Any, told: aiohttp.TraceRequestRedirectParams) -> None:
        told.response.close()
        raise Malformed(f"a redirect (status {told.response.status}), which is not followed")

    watching = aiohttp.TraceConfig()
    watching.on_request_redirect.append(refuse)
    return watching


async def _whole(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most_bytes:
            raise Malformed(f"an answer of more than {most_bytes} bytes")
    return bytes(body)


async def _messages(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[bytes]:
    async for message in socket:
        content = message.data.encode() if message.type is aiohttp.WSMsgType.TEXT else message.data
        if isinstance(content, bytes) and content:
            yield content


async def _lines(response: aiohttp.ClientResponse, most_bytes: int) -> AsyncIterator[bytes]:
    async for line, _ in _split(response, most_bytes):
        yield line


async def _split(response: aiohttp.ClientResponse, most_bytes: int) -> AsyncIterator[tuple[bytes, bool]]:
    """The lines of an answer, and whether each is finished: the last one may be cut."""
    line = bytearray()
    async for chunk in response.content.iter_any():
        first, *others = chunk.split(b"\n")
        line += first
        for other in others:
            yield bytes(line), True
            line = bytearray(other)
        if len(line) > most_bytes:
            raise Malformed(f"a line of more than {most_bytes} bytes")
    if line:
        yield bytes(line), False


async def _events(response: aiohttp.ClientResponse, most_bytes: int) -> AsyncIterator[Any]:
    """The events of a watch. A line that the server did not finish is no event."""
    async for line, finished in _split(response, most_bytes):
        if finished and line.strip():
            yield _parsed(line)


def _of_kind(body: bytes, kinds: Collection[str]) -> dict[str, Any]:
    document = _parsed(body)
    if document.get("kind") not in kinds:
        raise Malformed(f"an answer of the kind {_short(str(document.get('kind')))}")
    return document


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {_short(str(error))}") from error
    if not isinstance(document, dict):
        raise Malformed("JSON, but no object")
    return document


def _in_words(error: Exception) -> str:
    """The system's own words for an error of the network, where it has some."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError):
        where = f"{cause.filename}: " if cause.filename else ""
        return f"{where}{os.strerror(cause.errno).lower()}"
    return _short(str(error) or type(error).__name__)


def _short(text: str) -> str:
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= _SHOWN_MAX else f"{plain[:_SHOWN_MAX]}…"
