"""Two agents ask each other whether they reach one another."""

import asyncio
import dataclasses
import json
import socket
from typing import Any

import pytest

from agent.documents.reach import ReachEntry
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.peering.dial import Dialer
from agent.peering.reach import PATH, ReachDesk, Reacher
from tests.unit.agent.transfer.scripted import Connection, scripted
from tests.unit.twins import CREDENTIALS, node, peers
from topology.placement import Placement

NOW_S = 1_000_000.0
WELL = {"node": "a", "instance": "i", "reaches": True, "kind": "", "why": "", "time": NOW_S + 600}


def roster_of(*members: Peer) -> Roster:
    roster = Roster(own=node("own"), placement=Placement())
    roster.update(peers(*members))
    return roster


def body(content: bytes, status: int = 200) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


async def asked(answer: bytes, *, pause: bool = False) -> tuple[ReachEntry, list[str]]:
    requests: list[str] = []

    async def script(connection: Connection) -> None:
        requests.append(await connection.request())
        half = len(answer) // 2
        await connection.send(answer[:half], answer[half:])

    async with scripted(script) as server, Dialer(credentials=CREDENTIALS, connect_s=20.0) as dialer:
        reacher = Reacher(
            roster=roster_of(server.peer),
            dialer=dialer,
            suspects=lambda: (server.peer.name,),
            wall=lambda: NOW_S,
        )
        (entry,) = await reacher.ask()
    return entry, requests


async def test_a_peer_that_reaches_back_says_its_name_and_its_time() -> None:
    entry, requests = await asked(body(json.dumps(WELL).encode()))
    assert requests[0].startswith(f"GET {PATH} HTTP/1.1\r\n")
    assert (entry.reached, entry.returns, entry.called, entry.ahead_s, entry.own) == (
        True,
        True,
        "a",
        600,
        False,
    )


async def test_this_very_agent_is_known_by_its_instance() -> None:
    entry, _ = await asked(body(json.dumps(WELL | {"instance": CREDENTIALS.instance}).encode()))
    assert entry.own


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (body(b"{}", 404), "is its release older?"),
        (body(b"hello"), "is no shorthaul agent"),
        (body(b"[]"), "is no shorthaul agent"),
        (b"220 smtp\r\n\r\n", ""),
        (b"", "closed before an answer"),
    ],
)
async def test_what_answers_otherwise_is_reached_and_nothing_is_known(answer: bytes, words: str) -> None:
    entry, _ = await asked(answer)
    assert (entry.reached, entry.returns, entry.called) == (True, None, None)
    assert words in entry.returned
    assert entry.returned


@pytest.mark.parametrize(
    "said",
    [
        {"reaches": "yes", "time": "now", "node": 7, "why": None, "kind": []},
        {"time": True, "node": "x\x1b" * 1000},
        {"time": 10**400},
        {"time": float("nan")},
        {"time": -float("inf")},
        {},
    ],
)
async def test_nonsense_in_an_answer_is_nothing(said: dict[str, Any]) -> None:
    entry, _ = await asked(body(json.dumps(said).encode()))
    assert (entry.returns, entry.ahead_s) == (None, None)
    assert entry.called is None or (entry.called.isprintable() and len(entry.called) <= 120)


async def test_a_port_where_nobody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    peer = Peer(name=node("gone"), address="127.0.0.1", port=port, placement=Placement())
    async with Dialer(credentials=CREDENTIALS, connect_s=20.0) as dialer:
        (entry,) = await Reacher(roster=roster_of(peer), dialer=dialer, suspects=tuple).ask()
    assert (entry.reached, entry.kind) == (False, "refused")


async def test_questions_at_one_time_share_the_answer() -> None:
    count = 0

    async def script(connection: Connection) -> None:
        nonlocal count
        count += 1
        await connection.request()
        await connection.send(body(json.dumps(WELL).encode()))

    async with scripted(script) as server, Dialer(credentials=CREDENTIALS, connect_s=20.0) as dialer:
        reacher = Reacher(roster=roster_of(server.peer), dialer=dialer, suspects=tuple)
        await asyncio.gather(*(reacher.ask() for _ in range(5)))
    assert count == 1


async def test_the_desk_dials_the_listed_address_of_the_asker_and_no_other() -> None:
    async def script(connection: Connection) -> None:
        await connection.closed()

    async with scripted(script) as server, Dialer(credentials=CREDENTIALS, connect_s=20.0) as dialer:
        desk = ReachDesk(roster=roster_of(server.peer), dialer=dialer, wall=lambda: NOW_S)
        said = json.loads(await desk.answer(server.peer.address))
        assert (said["reaches"], said["time"], said["node"]) == (True, NOW_S, CREDENTIALS.own)
        stranger = json.loads(await desk.answer("192.0.2.1"))
        assert (stranger["reaches"], stranger["why"]) == (None, "it does not know an agent at 192.0.2.1")


async def test_the_desk_says_how_dialling_back_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    peer = Peer(name=node("gone"), address="127.0.0.1", port=port, placement=Placement())
    async with Dialer(credentials=CREDENTIALS, connect_s=20.0) as dialer:
        said = json.loads(await ReachDesk(roster=roster_of(peer), dialer=dialer).answer("127.0.0.1"))
    assert (said["reaches"], said["kind"]) == (False, "refused")


async def test_a_thousand_askers_make_eight_connections_at_once() -> None:
    arrived, gate = asyncio.Semaphore(0), asyncio.Event()

    class Slow(Dialer):
        async def connect(self, peer: Peer) -> socket.socket:
            arrived.release()
            await gate.wait()
            return await super().connect(peer)

    async def script(connection: Connection) -> None:
        await connection.closed()

    async with scripted(script) as server, Slow(credentials=CREDENTIALS, connect_s=20.0) as dialer:
        desk = ReachDesk(roster=roster_of(server.peer), dialer=dialer)
        asking = [asyncio.create_task(desk.answer(server.peer.address)) for _ in range(1000)]
        for _ in range(8):
            await arrived.acquire()
        gate.set()
        said = [json.loads(each) for each in await asyncio.gather(*asking)]
    assert sum(each["reaches"] is None for each in said) == 992
    assert arrived.locked()


def test_an_entry_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ReachEntry(node="a", address="b", reached=True).node = "c"  # type: ignore[misc]
