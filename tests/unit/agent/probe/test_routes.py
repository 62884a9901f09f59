"""Changes of routes, as a real kernel tells them."""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.probe.routes import Changed, RouteChanges
from benchmarks.lab.network import inside
from benchmarks.lab.process import run


@pytest.fixture
def netns() -> Iterator[str]:
    name = f"shprobe-{os.getpid()}-routes"
    run(["ip", "netns", "add", name])
    try:
        run(["ip", "-n", name, "link", "set", "lo", "up"])
        yield name
    finally:
        run(["ip", "netns", "del", name])


def test_each_kind_of_change_is_told_once(netns: str) -> None:
    with closing(inside(netns, RouteChanges)) as changes:
        changes.drain()
        assert changes.drain() == Changed()
        for command, expected in (
            (["route", "add", "10.7.0.0/24", "dev", "lo"], Changed(routes=True)),
            (["route", "del", "10.7.0.0/24", "dev", "lo"], Changed(routes=True)),
            (["rule", "add", "from", "10.7.0.1", "table", "main"], Changed(routes=True)),
            (["link", "add", "br0", "type", "bridge"], Changed(routes=True)),
            (["addr", "add", "10.7.0.1/24", "dev", "br0"], Changed(routes=True, addresses=True)),
            (["-6", "route", "add", "fd07::/64", "dev", "lo"], Changed(routes=True)),
        ):
            run(["ip", "-n", netns, *command])
            assert changes.drain() == expected, command
            assert changes.drain() == Changed()


def test_changes_that_the_kernel_dropped_count_as_changes_of_everything(netns: str) -> None:
    with closing(inside(netns, RouteChanges)) as changes:
        changes.drain()
        batch = "".join(f"route add 10.{a}.{b}.0/24 dev lo\n" for a in range(1, 41) for b in range(250))
        run(["ip", "-n", netns, "-batch", "-"], text=batch)
        found = [changes.drain()]
        while found[-1].routes:
            found.append(changes.drain())
        assert any(change.addresses for change in found)
