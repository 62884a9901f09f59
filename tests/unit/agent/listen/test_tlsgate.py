"""Handshakes at a listener: who gets in, who is told why not, and how many at once.

On asyncio's loop. Agents run on uvloop: tests/server/test_tls.py.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from agent.listen.accepting import Accepting
from agent.listen.tlsgate import FailureLog, TlsGate
from agent.peering.tls import PeerTls
from agent.peering.tlsfailure import TlsFailure, TlsReason, TlsRefused
from agent.peering.tlsfiles import make_contexts, read_contents
from agent.peering.tlssocket import opened, receive, send_all
from benchmarks.lab.certificates import Authority
from tests.unit.agent.peering.test_tlsfiles import settings
from tests.unit.agent.transfer.scripted import until
from tests.unit.twins import node

DAY = timedelta(days=1)


class Greeting(asyncio.Protocol):
    """Says hello, and closes when the client does."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")


class Door:
    """A gate that accepts on a port of its own. ``counted``: the reasons."""

    def __init__(self, tls: PeerTls, counted: list[str], **bounds: float) -> None:
        self.gate = TlsGate(tls, is_member=lambda _address: self.members, **bounds)  # type: ignore[arg-type]
        self.members = True
        self.counted = counted
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.place = listener.getsockname()
        self._accepting = Accepting(
            listener, Greeting, name="peer", bounds=None, open_now=lambda: 0, gate=self.gate
        )
        self._accepting.start()

    def connected(self) -> socket.socket:
        own = socket.create_connection(self.place)
        own.setblocking(False)
        return own

    async def close(self) -> None:
        self._accepting.close()
        await self.gate.close()


@pytest.fixture
def door(authority: Authority, tmp_path: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[Door]]:
    folder = authority.issue(tmp_path / "door", "DNS:a")

    @asynccontextmanager
    async def make(**bounds: float) -> AsyncIterator[Door]:
        counted: list[str] = []
        tls = PeerTls(
            settings(folder),
            own=node("a"),
            address=None,
            count=lambda end, reason: counted.append(f"{end} {reason}"),
        )
        made = Door(tls, counted, **bounds)
        try:
            yield made
        finally:
            await made.close()

    return make


Make = Callable[..., contextlib.AbstractAsyncContextManager[Door]]


def client(folder: Path) -> ssl.SSLContext:
    return make_contexts(read_contents(settings(folder))).client


@pytest.fixture
def good(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    return client(authority.issue(tmp_path / "good", "DNS:b"))


async def test_a_client_with_a_good_certificate_gets_in(door: Make, good: ssl.SSLContext) -> None:
    async with door() as made:
        with await opened(good, made.connected()) as own:
            assert await receive(own, 10) == b"hello"
            assert made.gate.opening == 0
        assert made.counted == []


async def test_a_member_waits_while_others_shake_hands_and_is_not_turned_away(
    door: Make, good: ssl.SSLContext
) -> None:
    async with door(most=2, handshake_s=0.5) as made:
        with made.connected(), made.connected():
            await until(lambda: made.gate.opening == 2, "two that never say anything")
            with await opened(good, made.connected()) as own:
                assert await receive(own, 10) == b"hello"
        assert made.counted == ["accepted silent"] * 2


@pytest.mark.parametrize(
    ("valid", "reason"), [((-2 * DAY, -DAY), "expired"), ((DAY, 2 * DAY), "not_yet_valid")]
)
async def test_a_certificate_out_of_its_time_is_told_at_both_ends(
    door: Make, authority: Authority, tmp_path: Path, valid: tuple[timedelta, timedelta], reason: str
) -> None:
    bad = client(authority.issue(tmp_path / "bad", "DNS:b", valid=valid))
    async with door() as made:
        with await opened(bad, made.connected()) as own, pytest.raises(TlsRefused) as raised:
            await receive(own, 10)
        assert raised.value.failure.is_of_own_certificate
        await until(lambda: made.counted == [f"accepted {reason}"], "it is counted")
        await until(lambda: made.gate.opening == 0, "it is over")


async def test_a_certificate_of_another_ca_is_told_at_both_ends(door: Make, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    folder = other.issue(tmp_path / "bad", "DNS:b")
    context = client(folder)
    context.verify_mode = ssl.CERT_NONE
    async with door() as made:
        with await opened(context, made.connected()) as own, pytest.raises(TlsRefused) as raised:
            await receive(own, 10)
        assert raised.value.failure.reason is TlsReason.ISSUER
        await until(lambda: made.counted == ["accepted issuer"], "it is counted")


async def test_a_client_without_a_certificate_is_told_at_both_ends(door: Make, good: ssl.SSLContext) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    bare.sslsocket_class = good.sslsocket_class
    async with door() as made:
        with await opened(bare, made.connected()) as own, pytest.raises(TlsRefused) as raised:
            await receive(own, 10)
        assert raised.value.failure.reason is TlsReason.MISSING
        await until(lambda: made.counted == ["accepted no_certificate"], "it is counted")


async def test_plain_http_is_answered_in_plain_http(door: Make) -> None:
    async with door() as made:
        with made.connected() as own:
            await send_all(own, b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while part := await receive(own, 4096):
                answer += part
        assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
        assert b"this port speaks TLS only" in answer
        assert b"set peering.tls on both nodes" in answer
        assert made.counted == ["accepted no_tls"]
        await until(lambda: made.gate.opening == 0, "it is over")


async def test_tls_1_1_is_refused_and_counted(door: Make) -> None:
    # A ClientHello of TLS 1.1: no client here speaks it any more.
    body = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x02\xc0\x0a" + b"\x01\x00"
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    async with door() as made:
        with made.connected() as own:
            await send_all(own, b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello)
            alert = await receive(own, 100)
            assert (alert[0], alert[5:7]) == (0x15, b"\x02\x46"), "a fatal alert: protocol_version"
        await until(lambda: made.counted == ["accepted version"], "it is counted")


@pytest.mark.parametrize("begins", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_silent_client_has_a_short_time(door: Make, begins: bytes) -> None:
    async with door(handshake_s=0.05) as made:
        with made.connected() as own:
            await send_all(own, begins)
            assert await receive(own, 1) == b""
        assert made.counted == ["accepted silent"]
        assert made.gate.opening == 0


async def test_a_client_that_leaves_is_counted(door: Make) -> None:
    async with door() as made:
        made.connected().close()
        await until(lambda: made.counted == ["accepted closed"], "it is counted")


async def test_garbage_is_refused(door: Make) -> None:
    async with door() as made:
        with made.connected() as own:
            await send_all(own, b"\x16\x03\x01\x00\x05hello" * 100)
            with contextlib.suppress(ConnectionError):
                await receive(own, 100)
        await until(lambda: len(made.counted) == 1, "it is counted")
        await until(lambda: made.gate.opening == 0, "it is over")


async def test_handshakes_are_bounded_in_number_and_members_go_before_strangers(
    door: Make, good: ssl.SSLContext
) -> None:
    async with door(most=4, strangers_most=2) as made:
        made.members = False
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(made.connected())
            await until(lambda: made.counted == ["accepted too_many"] * 2, "two of them are too many")
            made.members = True
            with await opened(good, made.connected()) as own:
                assert await receive(own, 10) == b"hello"
        await until(lambda: made.gate.opening == 0, "they left")


async def test_strangers_begin_a_bounded_number_of_handshakes_a_second(door: Make) -> None:
    async with door(most=1000, strangers_most=1000, address_most=1000) as made:
        made.members = False
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(made.connected())
            await until(lambda: "accepted too_many" in made.counted, "some are too many")
        await until(lambda: made.gate.opening == 0, "they left")


async def test_one_address_can_not_have_all_handshakes(door: Make) -> None:
    async with door(address_most=1) as made:
        with made.connected(), made.connected():
            await until(lambda: made.counted == ["accepted too_many"], "the second is too many")
            assert made.gate.opening == 1


async def test_closing_ends_the_handshakes_that_are_not_done(door: Make) -> None:
    async with door() as made:
        with made.connected() as own:
            await until(lambda: made.gate.opening == 1, "it waits")
            await made.close()
            assert made.gate.opening == 0
            assert await receive(own, 1) == b""


def test_each_reason_is_logged_once_a_minute_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    now_s, counted = [0.0], list[str]()
    log = FailureLog(counted.append, clock=lambda: now_s[0])
    silent = TlsFailure(reason=TlsReason.SILENT, told=False, words="it is silent")
    for now_s[0] in (0.0, 1.0, 59.0, 61.0):
        log.add("192.0.2.1", silent)
    log.heard_tls("peer", "192.0.2.2")
    assert counted == ["silent"] * 4 + ["no_tls"]
    assert [record.getMessage() for record in caplog.records] == [
        "no TLS with 192.0.2.1: it is silent",
        "no TLS with 192.0.2.1: it is silent",
        "no TLS with 192.0.2.2: it speaks TLS to listen.peer, which speaks plain HTTP",
    ]
