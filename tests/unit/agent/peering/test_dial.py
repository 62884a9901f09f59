"""Opening connections to peers: from which address, with which headers, and that no other module does it."""

import ast
import asyncio
import errno
import os
import socket
from typing import cast

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from agent.heartbeat import Heartbeat
from agent.members.introduction import Answer, Introduction
from agent.members.member import Peer
from agent.peering.dial import CutOff, Dialer, Exhausted, OwnFault, Refused, Unreachable
from tests.unit.agent.peering.raw import PATH, accept_upgrade
from tests.unit.agent.transfer.scripted import Connection, NoLeak, answer, scripted
from tests.unit.twins import CREDENTIALS, REPOSITORY_ROOT
from topology.placement import NodeName, Placement

KEY = ConnectionKey("host", 1, False, True, None, None, None)
NO_REQUEST = cast(aiohttp.RequestInfo, None)
CONNECTING = {"ClientSession", "ws_connect", "sock_connect", "open_connection"}


async def accept_all(connection: Connection) -> None:
    await accept_upgrade(connection)
    await connection.closed()


async def test_every_request_says_that_an_agent_asks() -> None:
    heads = []

    async def script(connection: Connection) -> None:
        heads.append(await connection.request())
        await connection.send(answer(status=404))

    async with scripted(script) as server, Dialer(credentials=CREDENTIALS, connect_s=5.0) as dialer:
        with pytest.raises(Unreachable):
            await dialer.open_websocket(server.peer, PATH, timeout_s=5.0, message_max_bytes=10)
        assert heads[0].startswith(f"GET {PATH} HTTP/1.1\r\n")
        for name, value in CREDENTIALS.headers(server.peer, "GET", PATH).items():
            assert f"\r\n{name}: {value}\r\n" in heads[0]
        assert CREDENTIALS.headers(server.peer, "GET", PATH)["User-Agent"] == "shorthaul"
        more = CREDENTIALS.headers(server.peer, "GET", PATH, {"Range": "bytes=0-1"})
        assert more["Range"] == "bytes=0-1"
        assert more.keys() > {"User-Agent"}


async def test_connections_come_from_the_given_address() -> None:
    sources = []

    async def script(connection: Connection) -> None:
        sources.append(connection.writer.get_extra_info("peername")[0])
        await accept_all(connection)

    async with NoLeak(), scripted(script) as server:
        async with Dialer(credentials=CREDENTIALS, connect_s=5.0, local_address="127.0.0.77") as dialer:
            socket = await dialer.open_websocket(server.peer, PATH, timeout_s=5.0, message_max_bytes=10)
            await socket.close()
            own = await dialer.connect(server.peer)
            own.close()
            await asyncio.sleep(0.05)
        assert set(sources) == {"127.0.0.77"}


@pytest.mark.parametrize(("local_address", "error"), [("192.0.2.1", CutOff), ("::1", Unreachable)])
async def test_address_that_cannot_be_connected_from_connects_to_nobody(
    local_address: str, error: type[Exception]
) -> None:
    async with (
        NoLeak(),
        scripted(accept_all) as server,
        Dialer(credentials=CREDENTIALS, connect_s=5.0, local_address=local_address) as dialer,
    ):
        with pytest.raises(error):
            await dialer.open_websocket(server.peer, PATH, timeout_s=5.0, message_max_bytes=10)
        with pytest.raises(error):
            await dialer.connect(server.peer)
        assert server.connections == []


def at(name: str, address: str) -> Peer:
    return Peer(name=NodeName(name), address=address, port=1, placement=Placement())


async def failure(error: Exception, *, late_s: float = 0.0) -> Unreachable | OwnFault:
    """What a dialer says of this error of a connect()."""
    peer = at("near", "127.0.0.1")
    async with Dialer(credentials=CREDENTIALS, connect_s=5.0) as dialer:
        return dialer.failure(peer, error, "no answer within 5 s", late_s)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EMFILE, Exhausted),
        (errno.ENFILE, Exhausted),
        (errno.ENOBUFS, Exhausted),
        (errno.ENOMEM, Exhausted),
        (errno.ENETDOWN, CutOff),
        (errno.EADDRNOTAVAIL, CutOff),
        (errno.EPERM, CutOff),
        (errno.EINVAL, CutOff),
        (errno.ENETUNREACH, Unreachable),  # there is a route to 127.0.0.1, so the network said so
        (errno.EACCES, Unreachable),
        (errno.EHOSTUNREACH, Unreachable),
        (errno.ECONNREFUSED, Unreachable),
        (errno.ETIMEDOUT, Unreachable),
    ],
)
async def test_error_of_this_node_is_no_fault_of_the_peer_however_it_is_wrapped(
    number: int, expected: type[Exception]
) -> None:
    plain = OSError(number, os.strerror(number))
    assert type(await failure(plain)) is expected
    wrapped = aiohttp.ClientConnectorError(KEY, plain)
    assert type(await failure(wrapped)) is expected
    caused = RuntimeError("session")
    caused.__cause__ = plain
    assert type(await failure(caused)) is expected


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES])
async def test_peer_without_a_route_is_this_nodes_trouble_until_others_are_reached(number: int) -> None:
    error = OSError(number, os.strerror(number))
    nowhere = at("nowhere", "255.255.255.255")  # no TCP and no datagram may go there
    async with (
        NoLeak(),
        scripted(accept_all) as server,
        Dialer(credentials=CREDENTIALS, connect_s=5.0) as dialer,
    ):
        assert type(dialer.failure(nowhere, error, "")) is CutOff
        (await dialer.connect(server.peer)).close()
        found = dialer.failure(nowhere, error, "")
        assert type(found) is Unreachable
        assert str(found) == f"no way from here to this peer alone: {os.strerror(number).lower()}"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "x")), "connection refused"),
        (aiohttp.ClientConnectorError(KEY, OSError("Multiple exceptions: …")), "no answer within 5 s"),
        (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (OSError(errno.ENETUNREACH, "x"), "the network answered: network is unreachable"),
        (OSError(errno.EACCES, "x"), "the network answered: permission denied"),
        (OSError(errno.EHOSTUNREACH, "x"), "no route to host"),
        (socket.gaierror(socket.EAI_ADDRFAMILY, "Address family not supported"), "no answer within 5 s"),
        (aiohttp.ConnectionTimeoutError("Connection timeout to host http://x/"), "no answer within 5 s"),
        (aiohttp.ServerDisconnectedError(), "it closed the connection without an answer"),
        (
            aiohttp.WSServerHandshakeError(NO_REQUEST, (), status=101, message="Invalid upgrade header"),
            "it answered, but not as an agent does",
        ),
        (
            aiohttp.ClientResponseError(NO_REQUEST, (), status=400, message="Bad status line 'x'"),
            "it answered, but not as an agent does",
        ),
        (TimeoutError(), "no answer within 5 s"),
    ],
)
async def test_peer_that_cannot_be_reached_is_told_of_in_one_short_plain_sentence(
    error: Exception, words: str
) -> None:
    assert str(await failure(error)) == words


@pytest.mark.parametrize(("late_s", "expected"), [(0.0, Unreachable), (0.4, Unreachable), (3.0, CutOff)])
async def test_time_out_that_comes_far_too_late_is_this_nodes(
    late_s: float, expected: type[Exception]
) -> None:
    """It was suspended, or its event loop was blocked."""
    found = await failure(TimeoutError(), late_s=late_s)
    assert type(found) is expected
    assert ("held up" in str(found)) is (expected is CutOff)


async def test_every_new_connection_is_told_of() -> None:
    told = []
    async with (
        NoLeak(),
        scripted(accept_all) as server,
        Dialer(
            credentials=CREDENTIALS,
            connect_s=5.0,
            connected=lambda peer, sock: told.append((peer, sock.getpeername())),
        ) as dialer,
    ):
        socket = await dialer.open_websocket(server.peer, PATH, timeout_s=5.0, message_max_bytes=10)
        own = await dialer.connect(server.peer)
        own.close()
        await socket.close()
        assert told == [(server.peer, (server.peer.address, server.peer.port))] * 2


async def test_peer_that_never_answers_the_handshake_is_unreachable_after_its_time() -> None:
    async def script(connection: Connection) -> None:
        await connection.closed()

    async with NoLeak(), scripted(script) as server, Dialer(credentials=CREDENTIALS, connect_s=5.0) as dialer:
        with pytest.raises(Unreachable):
            await dialer.open_websocket(server.peer, PATH, timeout_s=0.1, message_max_bytes=10)


@pytest.mark.parametrize(
    ("said", "how", "error"),
    [
        (answer(status=404, Server="nginx/1.27\t(x)"), r"HTTP 404 by nginx/1.27\t(x)", Refused),
        (answer(status=200), "HTTP 200", Refused),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "not in HTTP", Unreachable),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "not in HTTP", Unreachable),
        (b"\x15\x03\x01\x00\x02\x02\x16", "not in HTTP", Unreachable),
    ],
    ids=["a web server", "one that knows every path", "ssh", "http/2", "tls"],
)
async def test_what_answers_and_is_no_agent_is_told(said: bytes, how: str, error: type[Exception]) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(said)

    told: list[Answer | None] = []
    async with (
        NoLeak(),
        scripted(script) as server,
        Dialer(
            credentials=CREDENTIALS, connect_s=5.0, introduced=lambda _peer, answer: told.append(answer)
        ) as dialer,
    ):
        with pytest.raises(Unreachable) as caught:
            await dialer.open_websocket(server.peer, PATH, timeout_s=20.0, message_max_bytes=10)
        assert type(caught.value) is error
    assert told == [Answer(who=None, how=how)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_a_refusal_and_leads_nowhere(status: int) -> None:
    async with NoLeak(), scripted(accept_all) as elsewhere:

        async def script(connection: Connection) -> None:
            await connection.request()
            await connection.send(answer(b"", status, Location=f"{elsewhere.peer.base_url}{PATH}"))

        told: list[Answer | None] = []
        async with (
            scripted(script) as server,
            Dialer(
                credentials=CREDENTIALS, connect_s=5.0, introduced=lambda _peer, answer: told.append(answer)
            ) as dialer,
        ):
            with pytest.raises(Refused, match=f"^status {status}, and not by an agent$"):
                await dialer.open_websocket(server.peer, PATH, timeout_s=20.0, message_max_bytes=10)
        assert told == [Answer(who=None, how=f"HTTP {status}")]
        assert elsewhere.connections == []


async def test_agents_other_listener_that_refuses_is_told_by_its_introduction() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(b"", 404, **CREDENTIALS.introduction("nodeport")))

    told: list[Answer | None] = []
    async with (
        scripted(script) as server,
        Dialer(
            credentials=CREDENTIALS, connect_s=5.0, introduced=lambda _peer, answer: told.append(answer)
        ) as dialer,
    ):
        with pytest.raises(Refused, match=r"^status 404 by its listen\.nodeport, which is not for peers$"):
            await dialer.open_websocket(server.peer, PATH, timeout_s=20.0, message_max_bytes=10)
    who = Introduction(name=CREDENTIALS.own, instance=CREDENTIALS.instance, listener="nodeport")
    assert told == [Answer(who=who, how="HTTP 404")]


async def test_address_where_nobody_answers_is_told_as_such() -> None:
    told: list[Answer | None] = []
    async with scripted(accept_all) as server:
        gone = server.peer
    async with Dialer(
        credentials=CREDENTIALS, connect_s=5.0, introduced=lambda _peer, answer: told.append(answer)
    ) as dialer:
        with pytest.raises(Unreachable):
            await dialer.open_websocket(gone, PATH, timeout_s=20.0, message_max_bytes=10)
    assert told == [None]


async def test_many_websockets_to_one_peer_have_a_connection_each() -> None:
    async with (
        NoLeak(),
        scripted(accept_all) as server,
        Dialer(credentials=CREDENTIALS, connect_s=5.0) as dialer,
    ):
        opened = [
            await dialer.open_websocket(server.peer, PATH, timeout_s=5.0, message_max_bytes=10)
            for _ in range(5)
        ]
        assert len(server.connections) == 5
        for socket in opened:
            await socket.close()


def test_heartbeat_ends_a_vanished_peers_connection_within_a_minute() -> None:
    assert Heartbeat().limit_s + Heartbeat().interval_s <= 60


def test_nothing_else_in_the_agent_opens_connections_to_peers() -> None:
    found = set()
    for path in (REPOSITORY_ROOT / "agent").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "attr", getattr(node, "id", None))
            if name in CONNECTING and isinstance(node, ast.Attribute | ast.Name):
                found.add(str(path.relative_to(REPOSITORY_ROOT)))
    # No peers: this node's probe, which is reached over a Unix socket, the API server, the index's server.
    others = {"agent/probe/reader.py", "agent/members/kubernetes/client.py", "agent/holders/valkey/wire.py"}
    assert found == {"agent/peering/dial.py"} | others
