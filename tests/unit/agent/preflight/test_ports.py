"""Who sits on the two ports, and where rules may lead 127.0.0.1."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.preflight import PreflightTarget, Status
from agent.preflight.ports import (
    Listener,
    find_listeners,
    host_port,
    is_agent_command,
    node_port_squatter,
    process_is_here,
    process_named,
    route_localnet,
)
from tests.unit.agent.preflight.samples import (
    JUNK,
    place,
)


def at(address: str, name: str = "agent", pid: int | None = 7) -> Listener:
    return Listener(address=address, pid=pid, name=name, is_agent=name == "agent" and pid is not None)


@pytest.mark.parametrize(
    ("listeners", "status", "words"),
    [
        ([at("127.0.0.1")], Status.GOOD, "the agent, agent (pid 7) at 127.0.0.1"),
        ([at("127.0.0.1"), at("10.0.0.1")], Status.GOOD, "also agent (pid 7) at 10.0.0.1"),
        ([at("0.0.0.0")], Status.GOOD, "at 0.0.0.0"),
        ([at("::")], Status.GOOD, "at ::"),
        ([], Status.BAD, "no agent listens on 127.0.0.1:30020"),
        ([at("10.0.0.1")], Status.BAD, "also agent (pid 7) at 10.0.0.1"),
        ([at("127.0.0.1", "nginx")], Status.BAD, "taken by nginx (pid 7)"),
        ([at("127.0.0.1"), at("127.0.0.1", "nginx", 9)], Status.BAD, "taken by nginx (pid 9)"),
        ([at("127.0.0.1"), at("0.0.0.0", "nginx", 9)], Status.WARN, "the agent"),
        ([at("0.0.0.0", "nginx")], Status.BAD, "nginx"),
        ([at("127.0.0.1", pid=None)], Status.WARN, "can't be seen"),
        (None, Status.WARN, "can't be read"),
    ],
)
def test_the_host_port_belongs_to_the_agent(
    listeners: list[Listener] | None, status: Status, words: str
) -> None:
    check = host_port(PreflightTarget(), None if listeners is None else tuple(listeners))
    assert check.status is status
    assert words in check.detail
    assert bool(check.hint) == (status is not Status.GOOD)


def test_a_port_map_is_told_from_a_missing_agent() -> None:
    check = host_port(PreflightTarget(), (), ("10.244.1.2:30022",))
    assert check.status is Status.WARN
    assert "HOSTPORT_NAT" in check.detail


@pytest.mark.parametrize(
    ("listeners", "status"),
    [
        ([], Status.GOOD),
        ([at("0.0.0.0", "kube-proxy")], Status.GOOD),
        ([at("10.0.0.1")], Status.WARN),
        ([at("127.0.0.1", pid=None)], Status.WARN),
        ([at("127.0.0.1", "nginx")], Status.BAD),
        ([at("127.0.0.1"), at("10.0.0.1", "nginx")], Status.BAD),
        (None, Status.WARN),
    ],
)
def test_nobody_sits_on_the_node_port(listeners: list[Listener] | None, status: Status) -> None:
    check = node_port_squatter(PreflightTarget(), None if listeners is None else tuple(listeners))
    assert check.status is status
    assert bool(check.hint) == (status is not Status.GOOD)


@pytest.mark.parametrize(
    ("command", "is_agent"),
    [
        (["/venv/bin/python", "/venv/bin/shorthaul", "agent", "--config", "x"], True),
        (["/usr/bin/python3", "-I", "/venv/bin/shorthaul", "agent"], True),
        (["shorthaul", "agent"], True),
        (["shorthaul", "probe"], False),
        (["nginx", "-c", "shorthaul", "x", "shorthaul", "agent"], False),
        (["python3", "-m", "http.server"], False),
        ([], False),
    ],
)
def test_the_agent_is_known_by_its_command_line(command: list[str], is_agent: bool) -> None:
    assert is_agent_command(command) is is_agent


def test_a_real_squatter_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        found = find_listeners(Path("/proc"), port)
        assert found is not None
        assert [(one.address, one.pid, one.is_agent) for one in found] == [("127.0.0.1", os.getpid(), False)]
        target = PreflightTarget(host_port=port, node_port=port)
        assert host_port(target, found).status is node_port_squatter(target, found).status is Status.BAD
    assert find_listeners(Path("/proc"), port) == ()


def test_a_squatter_whose_process_can_not_be_seen_is_named_in_other_words(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        (tmp_path / "net/tcp").write_text(Path("/proc/net/tcp").read_text())
        found = find_listeners(tmp_path, port, unseen=lambda: {"127.0.0.1": "a process of user 7"})
    assert found is not None
    assert [str(one) for one in found] == ["a process of user 7 at 127.0.0.1"]


@contextmanager
def sleeping(tmp_path: Path, *before: str) -> Iterator[int]:
    """A process called kube-proxy. ``before``: words to put before its command."""
    program = tmp_path / "kube-proxy"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([*before, str(program), "600"]) as process:
        try:
            until_s = time.monotonic() + 60
            while Path(f"/proc/{process.pid}/comm").read_text() != "kube-proxy\n":
                assert time.monotonic() < until_s, "it did not start"
                time.sleep(0.01)
            yield process.pid
        finally:
            process.kill()


def test_a_kube_proxy_of_another_network_namespace_is_not_this_nodes(tmp_path: Path) -> None:
    with sleeping(tmp_path, "unshare", "--net") as pid:
        assert process_is_here(Path("/proc"), pid) is False
    with sleeping(tmp_path) as pid:
        assert process_is_here(Path("/proc"), pid) is True
        assert process_named(Path("/proc"), "kube-proxy") is True


def test_a_kube_proxy_whose_network_namespace_is_hidden_is_not_taken_for_this_nodes(tmp_path: Path) -> None:
    # As an ordinary user sees the process of another one: its name can be read, its namespaces can't.
    place(tmp_path, "stat", Path("/proc/stat").read_text())
    place(tmp_path, "7/ns/net", "a file, so that readlink fails")
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2]
    place(tmp_path, "7/stat", f"7 (kube-proxy){fields}")
    assert process_named(tmp_path, "kube-proxy") is None
    assert process_named(tmp_path, "kube-router") is False


@pytest.mark.parametrize("table", [None, JUNK, "  sl  local_address\n   0: 0100007F\n"])
def test_a_proc_without_sense_is_no_answer_and_no_crash(tmp_path: Path, table: str | bytes | None) -> None:
    if table is not None:
        place(tmp_path, "net/tcp", table)
    assert find_listeners(tmp_path, 30020) is None


@pytest.mark.parametrize(
    ("on", "iptables", "mapped", "status", "words"),
    [
        ([], True, True, Status.GOOD, "0 everywhere"),
        (["all"], True, False, Status.GOOD, "kube-proxy's iptables mode sets it"),
        (["all"], False, False, Status.WARN, "left behind"),
        (["cni0"], False, True, Status.GOOD, "port map sets it"),
        (["cni0"], False, False, Status.WARN, "left behind"),
        (["all", "cni0"], False, True, Status.WARN, "all, cni0"),
    ],
)
def test_route_localnet_is_explained(
    tmp_path: Path, on: list[str], iptables: bool, mapped: bool, status: Status, words: str
) -> None:
    for name in ("all", "default", "lo", "cni0", "eth0.5"):
        place(tmp_path, f"sys/net/ipv4/conf/{name}/route_localnet", "1\n" if name in on else "0\n")
    check = route_localnet(PreflightTarget(proc=tmp_path), iptables_proxy=iptables, port_mapped=mapped)
    assert check.status is status
    assert words in check.detail


def test_route_localnet_of_many_and_of_none(tmp_path: Path) -> None:
    check = route_localnet(PreflightTarget(proc=tmp_path), iptables_proxy=False, port_mapped=False)
    assert check.status is Status.WARN
    for number in range(300):
        place(tmp_path, f"sys/net/ipv4/conf/veth{number}/route_localnet", "1\n")
    place(tmp_path, "sys/net/ipv4/conf/all/route_localnet", "0\n")
    check = route_localnet(PreflightTarget(proc=tmp_path), iptables_proxy=False, port_mapped=False)
    assert "and 295 more" in check.detail
    assert len(check.hint) < 300
