"""The server as the settings say, and a look at it for people."""

import asyncio
from pathlib import Path

import pytest

from agent.config import Settings
from agent.config.load import make_settings
from agent.holders.valkey.factory import glance, make_server
from agent.observe.index_metrics import IndexTrouble
from agent.tasks import end_all
from benchmarks.lab.valkey import ValkeyServer
from tests.unit.agent.holders.valkey.rig import opened, settings, until


def keyed(url: str) -> Settings:
    document = {
        "node": {"name": "node-1", "address": "10.0.0.1"},
        "index": url,
        "valkey": {"timeout_s": 5.0},
        "peering": {"key": "key"},
    }
    return make_settings(document, [], base=Path("/"))


def problems(url: str, **valkey: object) -> list[str]:
    made = make_server(settings(url, **valkey), ids=tuple, members=lambda: 1, failed=lambda _: None)
    return [warning.problem for warning in made.warnings]


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("203.0.113.9", False),  # one of the ranges that nobody is given
        ("8.8.8.8", True),
        ("[2a00:1450::1]", True),
        ("index.example.com", True),
        ("10.96.0.7", False),
        ("192.168.1.2", False),
        ("127.0.0.1", False),
        ("[fd00::7]", False),
        ("localhost", False),
        ("valkey", False),
        ("valkey.databases.svc", False),
        ("valkey.databases.svc.cluster.local", False),
    ],
)
def test_password_without_tls_is_a_warning_where_it_leaves_the_network(host: str, warned: bool) -> None:
    said = ["the password leaves this network in plain text"]
    assert problems(f"valkey://:p@{host}") == (said if warned else [])
    assert problems(f"valkey://{host}", password_file="pw") == (said if warned else [])
    assert problems(f"valkeys://:p@{host}") == problems(f"valkey://{host}") == []


def test_one_server_of_several_that_is_outside_is_enough_for_the_warning() -> None:
    assert problems("valkey+cluster://:p@10.0.0.1,8.8.8.8") != []


async def test_look_for_people_says_what_is_there_and_leaves_nothing_that_stays(valkey: ValkeyServer) -> None:
    seen = await glance(keyed(valkey.url()), ("aaaa",))
    assert (seen.trouble, seen.cluster) == (None, None)
    assert seen.facts.version is not None
    assert seen.latency_us is not None
    assert valkey.usage().connected == 1
    assert valkey.cli("keys", "*").split() in ([], ["shorthaul:1:probe"])


async def test_look_for_people_says_what_is_wrong(valkey: ValkeyServer) -> None:
    async with opened(valkey.url(), cluster="first") as door:
        await door.healthy()
    assert (await glance(settings(valkey.url(), cluster="first"), ())).cluster == "name:first"
    foreign = await glance(keyed(valkey.url()), ("bbbb",))
    assert foreign.trouble is not None
    assert foreign.trouble.kind is IndexTrouble.FOREIGN
    valkey.stop()
    gone = await glance(keyed(valkey.url()), ("aaaa",))
    assert gone.trouble is not None
    assert gone.trouble.kind is IndexTrouble.UNREACHABLE


async def _used(valkey: ValkeyServer, ids: tuple[str, ...]) -> None:
    """An agent with these keys uses the server for a moment."""
    server = make_server(keyed(valkey.url()), ids=lambda: ids, members=lambda: 1, failed=lambda _: None)
    running = asyncio.create_task(server.run())
    await until(lambda: server.healthy)
    await end_all([running])


async def test_key_of_the_cluster_is_replaced_in_turn_and_nobody_is_refused(valkey: ValkeyServer) -> None:
    numbers = set()
    for ids in (("old",), ("old", "new"), ("new", "old"), ("new",)):
        await _used(valkey, ids)
        assert (await glance(keyed(valkey.url()), ids)).trouble is None
        numbers.add(valkey.cli("get", "shorthaul:1:cluster").split()[2])
    assert "key:new" in valkey.cli("get", "shorthaul:1:cluster")
    assert len(numbers) == 1


def test_without_a_server_in_the_settings_there_is_none_to_make() -> None:
    with pytest.raises(AssertionError):
        make_server(settings("scatter"), ids=tuple, members=lambda: 1, failed=lambda _: None)
