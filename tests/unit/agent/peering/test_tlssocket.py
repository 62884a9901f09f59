"""TLS sockets that are used like plain ones, against the standard library's blocking TLS at the other end."""

import asyncio
import contextlib
import socket
import ssl
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from agent.peering.tlsfailure import TlsReason, TlsRefused
from agent.peering.tlsfiles import Contexts
from agent.peering.tlssocket import (
    TellingTls,
    TlsSocket,
    is_quiet,
    opened,
    peer_certificate,
    receive,
    refusing,
    send_all,
)
from benchmarks.lab.certificates import Authority
from tests.unit.agent.peering.test_tlsfiles import made
from tests.unit.agent.transfer.scripted import until

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def good(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    return made(authority.issue(tmp_path_factory.mktemp("good"), "DNS:a"))


class Server:
    """Accepts one connection with TLS in a thread, and does with it what it is told."""

    def __init__(self, context: ssl.SSLContext, script: Callable[[ssl.SSLSocket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, args=(context, script))
        self._thread.start()
        self.error: Exception | None = None

    def connected(self) -> socket.socket:
        own = socket.create_connection(self._listener.getsockname())
        own.setblocking(False)
        return own

    def _run(self, context: ssl.SSLContext, script: Callable[[ssl.SSLSocket], None]) -> None:
        with self._listener:
            connection, _ = self._listener.accept()
        connection.settimeout(20.0)
        try:
            with context.wrap_socket(connection, server_side=True) as secured:
                script(secured)
        except Exception as error:  # noqa: BLE001 - it is what the test is about, or it shows there
            self.error = error
            connection.close()

    async def ended(self) -> None:
        await asyncio.to_thread(self._thread.join)


@pytest.fixture
async def serve(good: Contexts) -> AsyncIterator[Callable[[Callable[[ssl.SSLSocket], None]], Server]]:
    """Makes servers. They have ended at the end."""
    servers: list[Server] = []

    def make(script: Callable[[ssl.SSLSocket], None], context: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(context or good.server, script))
        return servers[-1]

    yield make
    for server in servers:
        await server.ended()


Serve = Callable[..., Server]


async def everything(own: socket.socket) -> bytes:
    content = b""
    while part := await receive(own, 50_000):
        content += part
    return content


async def test_bytes_arrive_whole_in_both_directions(serve: Serve, good: Contexts) -> None:
    sent = bytes(range(256)) * 8192

    def echo(secured: ssl.SSLSocket) -> None:
        got = b""
        while len(got) < len(sent):
            got += secured.recv(65536)
        secured.sendall(got)

    own = await opened(good.client, serve(echo).connected())
    with own:
        await send_all(own, sent)
        assert await everything(own) == sent


async def test_one_call_receives_more_than_one_record(serve: Serve, good: Contexts) -> None:
    own = await opened(good.client, serve(lambda secured: secured.sendall(bytes(100_000))).connected())
    with own:
        await until(lambda: _waiting_bytes(own) > 100_000, "all is there")
        assert own.recv_into(bytearray(100_001)) == 100_000
        assert own.recv(10) == b"", "it closed"


def _waiting_bytes(own: socket.socket) -> int:
    try:
        return len(socket.socket.recv(own, 200_000, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


async def test_a_socket_without_bytes_blocks_as_a_plain_one_does(serve: Serve, good: Contexts) -> None:
    go_on = threading.Event()
    own = await opened(good.client, serve(lambda secured: go_on.wait(20.0)).connected())
    with own:
        with pytest.raises(BlockingIOError):
            own.recv(1)
        with pytest.raises(BlockingIOError):
            own.recv_into(bytearray(10))
        with pytest.raises(BlockingIOError):
            _fill(own)
        go_on.set()


def _fill(own: TlsSocket) -> None:
    while own.send(bytes(65536)):
        pass


async def test_a_connection_is_quiet_until_something_comes(serve: Serve, good: Contexts) -> None:
    go_on = threading.Event()

    def script(secured: ssl.SSLSocket) -> None:
        secured.sendall(b"ab")
        go_on.wait(20.0)

    own = await opened(good.client, serve(script).connected())
    with own:
        assert await receive(own, 1) == b"a"
        assert not is_quiet(own), "half of a record is not read"
        assert await receive(own, 1) == b"b"
        assert is_quiet(own)
        go_on.set()
        await until(lambda: not is_quiet(own), "it closed")


async def test_the_certificate_of_the_other_end_is_known(serve: Serve, good: Contexts) -> None:
    own = await opened(good.client, serve(lambda secured: secured.recv(1)).connected())
    certificate = peer_certificate(own)
    assert certificate is not None
    assert certificate.names == {"a"}
    own.close()
    assert peer_certificate(None) is None


async def test_plain_sockets_are_used_in_the_same_way() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        assert is_quiet(near)
        await send_all(far, b"x")
        assert not is_quiet(near)
        assert await receive(near, 10) == b"x"


@pytest.mark.parametrize(
    ("valid", "reason"),
    [((-2 * DAY, -DAY), TlsReason.EXPIRED), ((DAY, 2 * DAY), TlsReason.NOT_YET_VALID)],
)
async def test_a_server_out_of_its_time_is_refused_and_told(
    serve: Serve,
    good: Contexts,
    authority: Authority,
    tmp_path: Path,
    valid: tuple[timedelta, timedelta],
    reason: TlsReason,
) -> None:
    bad = made(authority.issue(tmp_path, "DNS:a", valid=valid))
    server = serve(lambda secured: None, bad.server)
    with pytest.raises(TlsRefused) as raised:
        await opened(good.client, server.connected())
    assert (raised.value.failure.reason, raised.value.failure.told) == (reason, False)
    await server.ended()
    assert "alert" in str(server.error)


async def test_a_client_out_of_its_time_is_told_when_it_reads(
    serve: Serve, good: Contexts, authority: Authority, tmp_path: Path
) -> None:
    bad = made(authority.issue(tmp_path, "DNS:a", valid=(-2 * DAY, -DAY)))
    own = await opened(bad.client, serve(lambda secured: None).connected())
    with own, pytest.raises(TlsRefused) as raised:
        await receive(own, 1)
    assert raised.value.failure.is_of_own_certificate
    assert raised.value.failure.reason is TlsReason.EXPIRED


async def test_a_server_of_tls_1_1_is_refused(serve: Serve, good: Contexts) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(TlsRefused) as raised:
        await opened(good.client, serve(lambda secured: None, old).connected())
    assert raised.value.failure.reason is TlsReason.VERSION


async def test_a_server_without_tls_is_told_from_others(good: Contexts) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        own = socket.create_connection(server.sockets[0].getsockname())
        own.setblocking(False)
        with pytest.raises(TlsRefused) as raised:
            await opened(good.client, own)
        assert raised.value.failure.reason is TlsReason.PLAIN
        assert own.fileno() == -1


async def test_cancelling_a_handshake_closes_the_socket(good: Contexts) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with far:
        task = asyncio.create_task(opened(good.client, near))
        far.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(far, 1), "it began"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while await asyncio.get_running_loop().sock_recv(far, 65536):
            pass  # the rest of its hello, and the end


async def test_the_alert_goes_out_before_a_failed_handshake_is_over(
    good: Contexts, authority: Authority, tmp_path: Path
) -> None:
    bad = made(authority.issue(tmp_path, "DNS:a", valid=(-2 * DAY, -DAY)))
    told: list[ssl.SSLError] = []
    refusing.set(told.append)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = bad.client.wrap_bio(to_client, to_server)
    server = good.server.wrap_bio(to_server, to_client, server_side=True)
    assert isinstance(server, TellingTls)
    for end in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    assert isinstance(told[0], ssl.SSLCertVerificationError)
    with pytest.raises(ssl.SSLError, match="alert certificate expired"):
        client.read(1)
    assert isinstance(good.client.sslsocket_class, type(TlsSocket))
