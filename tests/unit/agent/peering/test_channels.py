"""Questions over channels, on real sockets: sharing, a second try, limits, and that nothing stays open."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from agent.peering.channels import Channels, NoReply
from agent.peering.dial import Dialer
from tests.frames import BINARY, PING, PONG, frame
from tests.unit.agent.peering.raw import ECHO, PATH, QUICK, accept_upgrade, read_frame, vanish
from tests.unit.agent.transfer.scripted import (
    Connection,
    NoLeak,
    Script,
    descriptors,
    opened_since,
    scripted,
    until,
)
from tests.unit.twins import CREDENTIALS, node, other_tasks, peers
from topology.placement import NodeName

AT_MOST_S = 10.0


@asynccontextmanager
async def channels(**options: Any) -> AsyncIterator[Channels[str, str]]:
    """Channels with a quick heartbeat. At the end nothing may be open."""
    async with NoLeak(), Dialer(credentials=CREDENTIALS, connect_s=5.0, heartbeat=QUICK) as dialer:
        async with Channels(dialer, ECHO, **options) as made:
            yield made
        assert made.open == ()


async def answer_all(connection: Connection) -> None:
    """Reply to every question with its own text."""
    await accept_upgrade(connection)
    while (received := await read_frame(connection.reader))[0] == BINARY:
        number, _, text = received[1].decode().partition(" ")
        await connection.send(frame(f"{number} {text}!".encode()))


def answer_once_then(behave: Script) -> Script:
    """Reply to one question, then run ``behave``."""

    async def script(connection: Connection) -> None:
        await accept_upgrade(connection)
        _, payload = await read_frame(connection.reader)
        await connection.send(frame(payload))
        await behave(connection)

    return script


async def test_question_gets_its_reply_and_the_channel_stays_for_the_next() -> None:
    async with scripted(answer_all) as server, channels() as made:
        for text in ("one", "two"):
            assert await made.query(server.peer, text, AT_MOST_S) == f"{text}: {text}!"
        assert server.requests == [f"GET {PATH} HTTP/1.1"]
        assert made.open == ("p",)


async def test_questions_at_once_share_a_channel_and_each_gets_its_own_reply() -> None:
    async def backwards(connection: Connection) -> None:
        await accept_upgrade(connection)
        asked = [(await read_frame(connection.reader))[1] for _ in range(5)]
        await connection.send(*(frame(payload) for payload in reversed(asked)))
        await connection.closed()

    async with scripted(backwards) as server, channels() as made:
        texts = [str(number) for number in range(5)]
        replies = await asyncio.gather(*(made.query(server.peer, text, AT_MOST_S) for text in texts))
        assert replies == [f"{text}: {text}" for text in texts]
        assert len(server.connections) == 1


async def test_of_many_idle_channels_those_that_were_used_least_are_closed() -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(scripted(answer_all)) for _ in range(4)]
        crowd = [replace(server.peer, name=NodeName(f"p{at}")) for at, server in enumerate(servers)]
        async with channels(open_max=2) as made:
            for _ in range(2):
                await made.query(crowd[0], "x", AT_MOST_S)
            for peer in crowd[1:]:
                assert await made.query(peer, "x", AT_MOST_S) == "x: x!"
                assert made.open == ("p0", peer.name), "the one that answered twice stays"
            await made.query(crowd[0], "x", AT_MOST_S)
            assert len(servers[0].connections) == 1


async def test_channel_on_which_somebody_waits_is_not_closed_for_another() -> None:
    asked = asyncio.Event()

    async def answer_late(connection: Connection) -> None:
        await accept_upgrade(connection)
        _, first = await read_frame(connection.reader)
        await connection.send(frame(first))
        _, second = await read_frame(connection.reader)
        asked.set()
        await go_on.wait()
        await connection.send(frame(second))
        await connection.closed()

    go_on = asyncio.Event()
    async with scripted(answer_late) as slow, scripted(answer_all) as other, channels(open_max=1) as made:
        busy = replace(slow.peer, name=NodeName("busy"))
        await made.query(busy, "x", AT_MOST_S)
        waiting = asyncio.create_task(made.query(busy, "y", AT_MOST_S))
        await asked.wait()
        assert await made.query(other.peer, "z", AT_MOST_S) == "z: z!"
        assert made.open == ("busy",), "the other one has answered, and goes"
        go_on.set()
        assert await waiting == "y: y"


async def test_many_peers_that_are_asked_together_leave_few_channels() -> None:
    async with scripted(answer_all) as server, channels(open_max=8) as made:
        crowd = [replace(server.peer, name=NodeName(f"p{at}")) for at in range(40)]
        replies = await asyncio.gather(*(made.query(peer, "x", AT_MOST_S) for peer in crowd))
        assert replies == ["x: x!"] * 40
        for peer in crowd:
            await made.query(peer, "x", AT_MOST_S)
            assert len(made.open) <= 40
        assert len(made.open) <= 8, "room is made with each new channel"


async def test_peer_that_ended_an_idle_channel_is_asked_again_on_a_new_one() -> None:
    async def leave(_: Connection) -> None:
        return

    async with scripted(answer_once_then(leave)) as server, channels() as made:
        for number in range(3):
            assert await made.query(server.peer, "x", AT_MOST_S) == "x: x"
            assert len(server.connections) == number + 1


async def test_peer_whose_channel_ends_by_itself_is_told_of_and_one_that_is_closed_here_is_not() -> None:
    lost: list[str] = []

    async def leave(connection: Connection) -> None:
        connection.writer.close()

    async with scripted(answer_once_then(leave)) as server, channels() as made:
        made.lost = lost.append
        await made.query(server.peer, "one", AT_MOST_S)
        await until(lambda: bool(lost), "it is told")
    assert lost == ["p"]
    lost.clear()
    async with scripted(answer_all) as server, channels() as made:
        made.lost = lost.append
        await made.query(server.peer, "one", AT_MOST_S)
        made.members_changed({})
    assert not lost


async def test_peer_that_ends_its_first_channel_without_a_reply_is_not_asked_again() -> None:
    async with scripted(accept_upgrade) as server, channels() as made:
        with pytest.raises(NoReply):
            await made.query(server.peer, "x", AT_MOST_S)
        assert len(server.connections) == 1


async def test_peer_that_is_not_there_gives_no_reply() -> None:
    async with scripted(answer_all) as server:
        pass
    async with channels() as made:
        with pytest.raises(NoReply):
            await made.query(server.peer, "x", AT_MOST_S)


@pytest.mark.parametrize(
    "sent", [frame(b"nonsense"), frame(b"0 text", opcode=1), b"\xff" * 40, frame(b"0 " + b"x" * 2000)]
)
async def test_reply_that_cannot_be_understood_ends_the_channel(sent: bytes) -> None:
    async def script(connection: Connection) -> None:
        await accept_upgrade(connection)
        await read_frame(connection.reader)
        await connection.send(sent)
        await connection.closed()

    async with scripted(script) as server, channels() as made:
        with pytest.raises(NoReply):
            await made.query(server.peer, "x", AT_MOST_S)
        await until(lambda: made.open == (), "it is closed")


async def test_peer_that_hangs_is_given_up_and_met_anew_the_next_time() -> None:
    async def script(connection: Connection) -> None:
        await (answer_all(connection) if connection.number else accept_upgrade(connection))
        await connection.closed()

    async with scripted(script) as server, channels() as made:
        with pytest.raises(NoReply):
            await made.query(server.peer, "x", 0.25)
        assert made.open == ()
        assert await made.query(server.peer, "x", AT_MOST_S) == "x: x!"


async def test_asker_that_gives_up_leaves_the_channel_to_the_others() -> None:
    async with scripted(answer_all) as server, channels() as made:
        going = asyncio.create_task(made.query(server.peer, "going", AT_MOST_S))
        staying = asyncio.create_task(made.query(server.peer, "staying", AT_MOST_S))
        await asyncio.sleep(0)
        going.cancel()
        assert await staying == "staying: staying!"
        assert len(server.connections) == 1


async def test_more_replies_than_questions_end_the_channel() -> None:
    async def script(connection: Connection) -> None:
        await accept_upgrade(connection)
        await read_frame(connection.reader)
        await connection.send(frame(b"0 x"), frame(b"0 x"))
        await connection.closed()

    async with scripted(script) as server, channels() as made:
        assert await made.query(server.peer, "x", AT_MOST_S) == "x: x"
        await until(lambda: server.connections[0].over, "it is closed")
        assert made.open == ()


async def test_late_reply_whose_asker_gave_up_does_not_end_the_channel() -> None:
    late = asyncio.Event()

    async def script(connection: Connection) -> None:
        await accept_upgrade(connection)
        first = await read_frame(connection.reader)
        await late.wait()
        await connection.send(frame(first[1]))
        second = await read_frame(connection.reader)
        await connection.send(frame(second[1]))
        await connection.closed()

    async with scripted(script) as server, channels() as made:
        with pytest.raises(NoReply):
            await made.query(server.peer, "x", 0.1)
        late.set()
        assert await made.query(server.peer, "y", AT_MOST_S) == "y: y"
        assert len(server.connections) == 1


async def test_channel_without_replies_is_closed_after_its_time() -> None:
    async with scripted(answer_all) as server, channels(idle_s=0.05) as made:
        await made.query(server.peer, "x", AT_MOST_S)
        await until(lambda: server.connections[0].over, "it is closed")
        assert made.open == ()


async def test_channel_is_closed_when_its_peer_leaves_and_others_stay() -> None:
    async with (
        scripted(answer_all, "stays") as one,
        scripted(answer_all, "leaves") as other,
        channels() as made,
    ):
        for server in (one, other):
            await made.query(server.peer, "x", AT_MOST_S)
        made.members_changed(peers(one.peer))
        assert made.open == ("stays",)
        await until(lambda: other.connections[0].over, "it is closed")
        assert not one.connections[0].over
        with pytest.raises(NoReply):
            await made.query(other.peer, "x", AT_MOST_S)
        assert len(other.connections) == 1


async def test_channel_is_closed_when_its_peer_moves_and_the_new_place_is_asked() -> None:
    async with scripted(answer_all) as one, scripted(answer_all) as other, channels() as made:
        made.members_changed(peers(one.peer))
        await made.query(one.peer, "x", AT_MOST_S)
        made.members_changed(peers(other.peer))
        await until(lambda: one.connections[0].over, "it is closed")
        await made.query(other.peer, "x", AT_MOST_S)
        assert made.open == ("p",)


async def test_question_to_a_peer_that_leaves_meanwhile_gets_no_reply_and_leaves_nothing() -> None:
    asked = asyncio.Event()

    async def ask_back(connection: Connection) -> None:
        await read_frame(connection.reader)
        asked.set()
        await connection.closed()

    async with scripted(answer_once_then(ask_back)) as server, channels() as made:
        await made.query(server.peer, "x", AT_MOST_S)
        waiting = asyncio.create_task(made.query(server.peer, "y", AT_MOST_S))
        await asked.wait()
        made.members_changed({})
        with pytest.raises(NoReply):
            await waiting
        assert made.open == ()
        assert len(server.connections) == 1


async def test_channel_that_opens_while_its_peer_leaves_is_not_kept() -> None:
    came, left = asyncio.Event(), asyncio.Event()

    async def script(connection: Connection) -> None:
        came.set()
        await left.wait()
        await answer_all(connection)

    async with scripted(script) as server, channels() as made:
        waiting = asyncio.create_task(made.query(server.peer, "x", AT_MOST_S))
        await came.wait()
        made.members_changed({})
        left.set()
        with pytest.raises(NoReply):
            await waiting
        await until(lambda: server.connections[0].over, "it is closed")
        assert made.open == ()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_peers_that_vanish_without_a_word_leave_no_socket_no_task_and_no_entry(
    run: Callable[..., None],
) -> None:
    async def main() -> None:
        async with scripted(answer_all) as server, channels() as made:
            own_tasks, own_descriptors = other_tasks(), descriptors()
            for number in range(6):
                await made.query(replace(server.peer, name=node(f"p{number}")), "x", AT_MOST_S)
            assert len(made.open) == 6
            assert opened_since(own_descriptors) == 12
            for connection in server.connections:
                await vanish(connection.writer)
            await until(lambda: made.open == (), "no entry is left")
            await until(lambda: opened_since(own_descriptors) == 6, "the peers' own sockets are left")
            left = {task for task in other_tasks() - own_tasks if "scripted" not in repr(task)}
            assert not left
            for connection in server.connections:
                connection.reset()

    run(main())


async def test_flood_of_pings_is_cut_off_and_questions_of_others_go_on() -> None:
    pongs = 0

    async def flood(connection: Connection) -> None:
        await accept_upgrade(connection)

        async def count_pongs() -> None:
            nonlocal pongs
            while True:
                opcode, _ = await read_frame(connection.reader)
                pongs += opcode == PONG

        counting = asyncio.create_task(count_pongs())
        try:
            while True:
                await connection.send(frame(b"", opcode=PING) * 20_000)
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)

    async with scripted(flood) as server, scripted(answer_all, "calm") as calm, channels() as made:
        with pytest.raises(NoReply):
            await made.query(server.peer, "x", AT_MOST_S)
        assert await made.query(calm.peer, "x", AT_MOST_S) == "x: x!"
        await until(lambda: server.connections[0].over, "it is closed")
        assert made.open == ("calm",)
    assert pongs <= 32


async def test_few_pings_are_answered() -> None:
    answers = []

    async def script(connection: Connection) -> None:
        await accept_upgrade(connection)
        _, question = await read_frame(connection.reader)
        for number in range(3):
            await connection.send(frame(b"%d" % number, opcode=PING))
            answers.append(await read_frame(connection.reader))
        await connection.send(frame(question))
        await connection.closed()

    async with scripted(script) as server, channels() as made:
        assert await made.query(server.peer, "x", AT_MOST_S) == "x: x"
    assert answers == [(PONG, b"0"), (PONG, b"1"), (PONG, b"2")]


async def test_closing_ends_what_is_open_and_opens_no_more() -> None:
    before = other_tasks()
    async with scripted(answer_all) as server, channels() as made:
        await made.query(server.peer, "x", AT_MOST_S)
        await made.close()
        await until(lambda: server.connections[0].over, "it is closed")
        with pytest.raises(NoReply):
            await made.query(server.peer, "x", AT_MOST_S)
    await until(lambda: other_tasks() <= before, "no task is left")


@pytest.mark.parametrize(("local_address", "own"), [("192.0.2.1", True), (None, False)])
async def test_question_that_this_node_could_not_put_is_told_from_one_that_the_peer_did_not_answer(
    local_address: str | None, own: bool
) -> None:
    """It has no such address, as when its network is gone; otherwise the peer refuses."""

    async def refuse(connection: Connection) -> None:
        connection.writer.close()

    async with (
        scripted(refuse) as server,
        Dialer(credentials=CREDENTIALS, connect_s=5.0, local_address=local_address) as dialer,
        Channels(dialer, ECHO) as made,
    ):
        with pytest.raises(NoReply) as caught:
            await made.query(server.peer, "one", AT_MOST_S)
        assert caught.value.own is own
        assert str(caught.value)


async def test_peer_that_freezes_is_at_fault_and_asked_once() -> None:
    """It sends no closing frame either: what it takes to close the channel is not this node's lateness."""

    async def freeze(connection: Connection) -> None:
        await accept_upgrade(connection)
        await connection.closed()

    async with scripted(freeze) as server, channels() as made:
        with pytest.raises(NoReply) as caught:
            await made.query(server.peer, "x", 0.25)
        assert not caught.value.own
        assert len(server.connections) == 1


@pytest.mark.parametrize("answers", [True, False])
async def test_time_in_which_this_node_did_not_run_is_no_silence_of_the_peer(answers: bool) -> None:
    async def script(connection: Connection) -> None:
        await accept_upgrade(connection)
        await read_frame(connection.reader)
        time.sleep(1.5)  # noqa: ASYNC251 - the whole process stands still
        again = await read_frame(connection.reader)
        if answers:
            await connection.send(frame(again[1]))
        await connection.closed()

    async with scripted(script) as server, channels() as made:
        if answers:
            assert await made.query(server.peer, "x", 0.5) == "x: x"
            return
        with pytest.raises(NoReply, match="this node was held up") as caught:
            await made.query(server.peer, "x", 0.5)
        assert caught.value.own


async def test_peer_that_refuses_a_channel_is_told_from_one_that_is_silent() -> None:
    async def refuse(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        await connection.closed()

    async with scripted(refuse) as server, channels() as made:
        with pytest.raises(NoReply, match="status 503") as caught:
            await made.query(server.peer, "x", AT_MOST_S)
        assert (caught.value.status, caught.value.own) == (503, False)
