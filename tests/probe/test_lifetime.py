"""Nothing of the probe survives it, and no other tool's programs suffer from it."""

import asyncio
import os
import signal

from agent.probe.reader import read_hello
from tests.server.agents import wait_for

from .places import HOST, NODE, OtherTool, Place, programs_left, wait_until_gone

OTHER_PORT = 30040  # not watched by the probe
KILLS = 20
FIRST_PROCESS = ["unshare", "--pid", "--fork", "--kill-child"]


def test_probe_that_is_told_to_stop_leaves_nothing(place: Place) -> None:
    probe = place.probe()
    ours = asyncio.run(read_hello(place.socket)).programs
    assert len(programs_left(ours)) == len(ours) >= 4
    assert set(place.attached().values()) == {
        "shorthaul_out", "shorthaul_ops", "shorthaul_con4", "shorthaul_con6",
    }  # fmt: skip
    assert len(place.linked()) == 4
    assert probe.stop() == 0
    assert not place.socket.exists()
    wait_until_gone(place, ours)
    assert not place.attached()


def test_probe_killed_outright_20_times_leaves_nothing_and_other_tools_count_on(place: Place) -> None:
    tools = [place.other_tool(how, OTHER_PORT) for how in ("link", "attach")]
    others = [program for tool in tools for program in tool.programs]
    worker = place.worker()
    worker("listen", HOST, OTHER_PORT)
    worker.begin("count_until_told", HOST, OTHER_PORT)
    for _ in range(KILLS):
        probe = place.probe()
        ours = asyncio.run(read_hello(place.socket)).programs
        there = place.attached()
        assert set(there) >= set(others)
        assert len(set(there) & set(ours)) == 4
        wait_until_all_count(tools)
        probe.kill()
        wait_until_gone(place, ours)
        assert sorted(place.attached()) == sorted(others)
        wait_until_all_count(tools)
    worker.begin("pulse")
    made = worker.answer()
    assert [tool.counts()[1] for tool in tools] == [made, made]
    assert programs_left(others) == others


def test_probe_starts_again_over_the_socket_of_a_killed_one(place: Place) -> None:
    place.probe().kill()
    assert place.socket.is_socket()
    place.probe()
    assert asyncio.run(read_hello(place.socket)).node == NODE


def test_second_probe_with_the_same_socket_ends_and_the_first_goes_on(place: Place) -> None:
    first = place.probe()
    hello = asyncio.run(read_hello(place.socket))
    second = place.run("probe", metrics=f"{HOST}:9092")
    assert second.returncode == 1
    assert f"another probe serves {place.socket}" in second.stderr
    assert "hint: one probe per node is enough" in second.stderr
    assert first.running
    assert asyncio.run(read_hello(place.socket)) == hello
    assert len(place.attached()) == 4


def test_probe_where_there_can_be_none_yet_tries_again_until_there_can(place: Place) -> None:
    cgroup = place.folder / "cgroup"
    words = ("--retry", "0.1", "--set", f"probe.cgroup={cgroup}")
    probe = place.start("probe", *words)
    probe.wait_until(lambda: probe.log.read_text().count("it is tried again in 0.1 s") > 1, "a second try")
    cgroup.symlink_to(place.cgroup)
    probe.wait_until(place.is_served, "the probe")
    assert probe.stop() == 0


def test_probe_that_waits_to_try_again_ends_at_once_when_told_so(place: Place) -> None:
    """As the first process of a container it would outlive a SIGTERM that nobody takes."""
    probe = place.start(
        "probe", "--retry", "3600", "--set", f"probe.cgroup={place.folder / 'none'}", through=FIRST_PROCESS
    )
    probe.wait_until(lambda: "it is tried again in 3600 s" in probe.log.read_text(), "the first try")
    (child,) = _children(probe.pid)
    os.kill(child, signal.SIGTERM)
    assert probe.wait() == 0


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def wait_until_all_count(tools: list[OtherTool]) -> None:
    """Wait until every program of theirs ran again."""
    before = [tool.counts() for tool in tools]
    wait_for(
        lambda: all(
            now > then
            for tool, counts in zip(tools, before, strict=True)
            for now, then in zip(tool.counts(), counts, strict=True)
        ),
        "the other tools' programs run",
    )
