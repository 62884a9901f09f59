"""A newer agent asks an older one for its sockets, and what can go wrong."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.handover.messages import Offer, Refusal, decode, encode
from agent.handover.taking import HandoverError, Older, ask
from agent.unixsocket import UnixListener

from .desk import MemoryDesk, giver, listeners, nobody_runs, open_folder

_LISTENS = """
import socket, sys
listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); listener.listen()
print("up", flush=True)
listener.accept()[0].recv(1000)
"""


@contextmanager
def answering(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """A process at the path that reads a line of each client and then does this."""
    listener = UnixListener(path)
    listener.socket.setblocking(True)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            connection, _ = listener.socket.accept()
            with connection:
                if connection.recv(4096):
                    answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
            last.shutdown(socket.SHUT_WR)
            thread.join(30)
        listener.close()


def test_nobody_at_the_path_is_no_older_agent(tmp_path: Path) -> None:
    assert ask(tmp_path / "none.sock", node="n") is None


def test_the_file_of_a_killed_agent_is_no_older_agent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "stale.sock"))
    assert ask(tmp_path / "stale.sock", node="n") is None


def test_an_agent_that_does_not_answer_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    hung = threading.Event()

    def hang(_: socket.socket) -> None:
        hung.wait(30)

    with answering(path, hang):
        with pytest.raises(HandoverError, match=r"does not answer at .* within 0 s") as refused:
            ask(path, node="n", answer_s=0.3)
        hung.set()
    assert "liveness probe" in refused.value.hint


def test_what_is_no_agent_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    with (
        answering(path, lambda connection: connection.sendall(b"220 smtp ready\n")),
        pytest.raises(HandoverError, match="not a message of an agent") as refused,
    ):
        ask(path, node="n")
    assert refused.value.hint


def test_an_agent_that_refuses_is_an_error_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    with (
        answering(path, lambda connection: connection.sendall(encode(Refusal(reason="it is another's")))),
        pytest.raises(HandoverError, match="it is another's"),
    ):
        ask(path, node="n")


def test_an_agent_that_is_busy_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    answers: list[Offer | Refusal] = [Refusal(reason="busy", again=True)] * 2 + [Offer(agent="1")]
    with answering(path, lambda connection: connection.sendall(encode(answers.pop(0)))):
        older = ask(path, node="n")
        assert older is not None
        assert (older.offer.agent, older.sockets) == ("1", [])
        older.close()


def test_a_socket_of_another_user_is_an_error(tmp_path: Path) -> None:
    with open_folder() as folder:
        path = folder / "one.sock"
        with (
            nobody_runs(_LISTENS, str(path)),
            pytest.raises(HandoverError, match="another user, who is not root") as refused,
        ):
            ask(path, node="n")
    assert "handover.socket" in refused.value.hint


async def test_the_newer_agent_gets_the_very_same_sockets(tmp_path: Path) -> None:
    path, desk = tmp_path / "one.sock", MemoryDesk()
    with listeners() as sockets:
        older_agent = giver(path, sockets, desk)
        older_agent.listen()
        older = await asyncio.to_thread(ask, path, node="n")
        assert older is not None
        assert older.offer.proved
        assert [one.getsockname() for one in older.sockets] == [one.getsockname() for one in sockets]
        with socket.create_connection(sockets[2].getsockname(), timeout=30):
            older.sockets[2].accept()[0].close()
        kept, *others = older.sockets
        older.keep([kept])
        assert kept.fileno() >= 0
        assert {one.fileno() for one in others} == {-1}
        kept.close()
        older.close()
        await older_agent.close()


@contextmanager
def linked() -> Iterator[tuple[Older, socket.socket]]:
    """A newer agent's view of an older one, and the older one's end of the connection."""
    here, there = socket.socketpair(socket.AF_UNIX)
    with there:
        there.settimeout(30)
        yield Older(here, Offer(agent="1"), []), there


async def test_an_older_agent_that_is_gone_makes_it_urgent_and_yields_nothing() -> None:
    with linked() as (older, there):
        running = asyncio.create_task(older.run())
        await asyncio.to_thread(there.recv, 4096)
        assert not older.urgent.is_set()
        yielding = asyncio.create_task(older.serving([("127.0.0.1", 1)]))
        while b"serving" not in await asyncio.to_thread(there.recv, 4096):
            pass
        there.close()
        assert await yielding is None
        await running
        assert older.urgent.is_set()
        assert await older.serving([]) is None
        assert await older.resign() is False


async def test_what_the_older_agent_accepted_is_asked_for_until_it_yields() -> None:
    with linked() as (older, there):
        running = asyncio.create_task(older.run())
        asked = await asyncio.to_thread(there.recv, 4096)
        assert decode(asked.splitlines()[0]) is not None
        there.sendall(b'{"say":"claims","cookies":[7],"every":true}\n{"say":"later"}\n')
        while older.claims is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert older.claims.cookies == (7,)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_an_older_agent_that_says_nonsense_counts_as_gone() -> None:
    with linked() as (older, there):
        running = asyncio.create_task(older.run())
        there.sendall(b"nonsense\n")
        await running
        assert older.urgent.is_set()
