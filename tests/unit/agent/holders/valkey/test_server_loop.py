"""The door on the event loop that the agent runs on, which has its own TLS, timers and sockets."""

import asyncio
import time
from pathlib import Path

import uvloop

from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble
from benchmarks.lab.certificates import Authority
from benchmarks.lab.valkey import ValkeyServer
from tests.unit.agent.holders.valkey.rig import opened, until


def test_server_is_asked_frozen_restarted_and_asked_again(valkey: ValkeyServer) -> None:
    async def test() -> None:
        async with opened(valkey.url(), timeout_s=0.3) as door:
            await door.healthy()
            await door.server.call(("GET", "k"), tracked=True)
            valkey.cli("set", "k", "v")
            await until(lambda: [b"k"] in door.invalid)
            time.sleep(0.5)  # noqa: ASYNC251 - the event loop is held up, and nobody is blamed
            assert await door.server.call(("GET", "k")) == [b"v"]
            valkey.freeze()
            told = await asyncio.gather(
                *(door.server.call(("PING",)) for _ in range(9)), return_exceptions=True
            )
            assert [each.kind for each in told if isinstance(each, IndexDown)] == [IndexTrouble.SLOW] * 9
            valkey.thaw()
            await door.healthy()
            valkey.restart()
            await until(lambda: bool(door.resets))
            await door.healthy()

    uvloop.run(test())


def test_server_with_tls_is_asked_and_one_with_a_wrong_name_is_told(tmp_path: Path) -> None:
    folder = Authority(tmp_path).issue(tmp_path / "tls", "IP:127.0.0.1")
    server = ValkeyServer(tmp_path / "v", certificates=folder)
    ca = str(folder / "ca.crt")

    async def test() -> None:
        async with opened(server.url(), ca_file=ca) as door:
            await door.healthy()
            assert await door.server.call(("PING",)) == [b"PONG"]
            server.restart()
            await until(lambda: bool(door.resets))
            await door.healthy()
        async with opened(server.url(), ca_file=ca, server_name="other.example") as door:
            await door.down(IndexTrouble.TLS)
            assert "valkey.server_name" in door.server.hint

    try:
        uvloop.run(test())
    finally:
        server.stop()


def test_nobody_there_is_told(valkey: ValkeyServer) -> None:
    valkey.stop()

    async def test() -> None:
        async with opened(valkey.url()) as door:
            await door.down(IndexTrouble.UNREACHABLE)
            assert str(door.server.problem).endswith(f"{valkey.endpoint}: Connection refused")

    uvloop.run(test())
