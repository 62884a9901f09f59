"""An older agent gives its sockets to a newer one, stands by, and serves again if it has to."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.handover.giving import Giver
from agent.handover.messages import Offer, Refusal, Take, decode, encode
from agent.handover.taking import HandoverError, Older, ask

from .desk import NOBODY, MemoryDesk, giver, listeners, open_folder

_ASKS = """
import socket, sys
agent = socket.socket(socket.AF_UNIX); agent.connect(sys.argv[1])
agent.sendall(b'{"say":"take","node":"n"}\\n')
data, descriptors, *_ = socket.recv_fds(agent, 4096, 8)
print(len(data), len(descriptors), flush=True)
"""


class Scene:
    """An older agent at a path."""

    def __init__(self, path: Path) -> None:
        self.path, self.desk = path, MemoryDesk()
        self.sockets: list[socket.socket] = []
        self.giver: Giver
        self._tasks: list[asyncio.Task[None]] = []
        self._olders: list[Older] = []

    async def heir(self, node: str = "n") -> Older:
        older = await asyncio.to_thread(ask, self.path, node=node, answer_s=2.0)
        assert older is not None
        self._olders.append(older)
        self._tasks.append(asyncio.create_task(older.run()))
        await asyncio.sleep(0)
        while older.claims is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return older

    async def dies(self, number: int = -1) -> None:
        self._tasks[number].cancel()
        await asyncio.gather(self._tasks[number], return_exceptions=True)

    async def end(self) -> None:
        for number in range(len(self._tasks)):
            await self.dies(number)
            self._olders[number].close()
        await self.giver.close()

    async def told(self, number: int) -> list[object]:
        while len(self.desk.told) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return self.desk.told


@asynccontextmanager
async def older_agent(folder: Path) -> AsyncIterator[Scene]:
    scene = Scene(folder / "one.sock")
    with listeners() as scene.sockets:
        scene.giver = giver(scene.path, scene.sockets, scene.desk)
        scene.giver.listen()
        try:
            yield scene
        finally:
            await scene.end()


async def test_the_older_agent_yields_when_the_newer_one_serves_and_not_before(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        heir = await scene.heir()
        assert heir.claims is not None
        assert heir.claims.cookies == (1, 2)
        assert (scene.desk.told, scene.giver.stands_by) == ([], False)
        yielded = await heir.serving([("127.0.0.1", 1), ("127.0.0.1", 2)])
        assert yielded is not None
        assert (yielded.cookies, yielded.ages) == ((1, 2, 3), {"a": 1})
        assert scene.desk.told == [(("127.0.0.1", 1), ("127.0.0.1", 2))]
        assert scene.giver.stands_by
        assert ask(scene.path, node="n") is None  # the newer one listens there from now on


async def test_of_several_that_ask_at_the_same_moment_one_gets_the_sockets(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        asking = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for one in asking:  # all of them before the older agent looks
            one.settimeout(10.0)
            one.connect(str(scene.path))
            one.sendall(encode(Take(node="n")))
        said = [decode(line) for line in [await asyncio.to_thread(one.recv, 4096) for one in asking]]
        for one in asking:
            one.close()
        assert [isinstance(one, Offer) for one in said].count(True) == 1
        assert [one.again for one in said if isinstance(one, Refusal)] == [True, True, True]
        await scene.heir()  # once the first is gone, the next one gets them


async def test_a_newer_agent_that_dies_before_it_serves_changes_nothing(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        await scene.heir()
        await scene.dies()
        await scene.heir()
        assert scene.desk.told == []


async def test_a_newer_agent_that_dies_while_it_serves_is_replaced_by_the_older_one(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        heir = await scene.heir()
        await heir.serving([])
        await scene.dies()
        assert await scene.told(2) == [(), "resume"]
        assert not scene.giver.stands_by
        await (await scene.heir()).serving([])  # and it can be taken over from again
        assert scene.giver.stands_by


async def test_an_older_agent_that_fails_to_stop_accepting_goes_on(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        heir = await scene.heir()
        scene.desk.fails = True
        assert await heir.serving([]) is None
        assert scene.desk.told == ["resume"]
        assert not scene.giver.stands_by
        scene.desk.fails = False
        assert await (await scene.heir()).serving([]) is not None  # and the next one takes over


async def test_a_newer_agent_that_leaves_waits_until_the_older_one_serves(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        heir = await scene.heir()
        await heir.serving([])
        assert await heir.resign()
        assert scene.desk.told == [(), "resume"]
        await scene.dies()
        assert scene.desk.told == [(), "resume"]


async def test_an_older_agent_that_stops_hurries_the_newer_one(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        heir = await scene.heir()
        leaving = asyncio.create_task(scene.giver.leave())
        await heir.urgent.wait()
        assert not leaving.done()
        await heir.serving([])
        assert await leaving
        await scene.dies()
        assert "resume" not in scene.desk.told  # it stops: it does not begin again


async def test_an_older_agent_that_stops_alone_says_so(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        assert not await scene.giver.leave()
        heir = await scene.heir()  # it drains, and a newer agent comes
        await heir.urgent.wait()


async def test_one_heir_at_a_time(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        await scene.heir()
        with pytest.raises(HandoverError, match="another new agent takes over just now"):
            await asyncio.to_thread(ask, scene.path, node="n", answer_s=0.3)
        assert scene.desk.told == []


async def test_the_agent_of_another_node_gets_nothing(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        with pytest.raises(HandoverError, match="the agent of node n, not of other"):
            await asyncio.to_thread(ask, scene.path, node="other")


async def test_another_user_gets_nothing() -> None:
    with open_folder() as folder:
        async with older_agent(folder) as scene:
            scene.path.chmod(0o777)

            def ask_as_nobody() -> str:
                done = subprocess.run(
                    [sys.executable, "-c", _ASKS, str(scene.path)],
                    user=NOBODY,
                    cwd="/",
                    capture_output=True,
                    text=True,
                    timeout=30,
                    check=False,
                )
                return done.stdout

            assert await asyncio.to_thread(ask_as_nobody) in ("0 0\n", "")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"x" * 10_000, b'{"say":"leaving"}\n'])
async def test_whoever_says_something_else_gets_nothing_and_disturbs_nobody(
    tmp_path: Path, said: bytes
) -> None:
    async with older_agent(tmp_path) as scene:

        def disturb() -> tuple[bytes, list[int]]:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(str(scene.path))
                client.sendall(said)
                client.shutdown(socket.SHUT_WR)
                try:
                    data, descriptors, *_ = socket.recv_fds(client, 4096, 8)
                except ConnectionError:
                    return b"", []
                return data, descriptors

        assert await asyncio.to_thread(disturb) == (b"", [])
        await scene.heir()


async def test_a_socket_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    async with older_agent(tmp_path) as scene:
        scene.path.unlink()
        while not scene.path.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await scene.heir()


async def test_a_directory_that_can_t_be_written_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "run"
    blocked.write_text("a file in the directory's place")
    async with older_agent(blocked) as scene:
        assert scene.giver.problem is not None
        assert "run" in scene.giver.problem
        await asyncio.sleep(0.2)
        assert len(caplog.records) == 1
        blocked.unlink()
        while scene.giver.problem is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await scene.heir()
