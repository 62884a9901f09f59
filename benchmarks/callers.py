"""What it costs to know who is at the HostPort: for a connection, for a request, and for a stranger.

    python -m benchmarks.callers [--json FILE] [--quick]

It needs root. The kernel's answer alone is timed, also beside five thousand other connections. Then three
agents, one for each value of ``listen.local_callers``, get the same connections in turn, round by round, and
their processor time is compared: what the client and TCP take is the same for all.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import yaml

from agent.sockdiag import SocketAsker
from benchmarks.arguments import make_parser
from benchmarks.lab.cgroups import make_cgroup, remove_cgroup
from benchmarks.lab.process import Process
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run
from bpf.cgroups import find_root

_CALLERS = ("any", "root", "containerd")
_NOBODY = 65534
_REQUEST = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
_OTHERS = 5_000  # connections, each with two sockets here
_ASKED = 2000  # times
_TARGET_US = 100.0


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.callers", __doc__, quick="fewer rounds")
    return run(parser, _measure, root_for="processes of other users, and cgroups")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    _raise_limit()
    _report_kernel(report)
    with _own_cgroup() as cgroup, tempfile.TemporaryDirectory() as folder:
        _report_agents(report, Path(folder), cgroup, rounds=5 if arguments.quick else 20)


def _report_kernel(report: Recorder) -> None:
    report.begin("the kernel's answer alone")
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server, closing(SocketAsker()) as asker:
        with _connections(server, 1) as (client, *_):
            report.spread("one connection", "µs", _asked_us(asker, client), _TARGET_US, bound=True)
        with _connections(server, _OTHERS) as (client, *_):
            what = f"beside {_OTHERS:,} other connections"
            report.spread(what, "µs", _asked_us(asker, client), _TARGET_US, bound=True)


def _asked_us(asker: SocketAsker, client: socket.socket) -> list[float]:
    own, other = client.getsockname(), client.getpeername()
    took: list[float] = []
    for _ in range(_ASKED):
        began_s = time.perf_counter()
        asker.at(own, other)
        took.append((time.perf_counter() - began_s) * 1e6)
    return took


@contextmanager
def _connections(server: socket.socket, number: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        clients: list[socket.socket] = []
        for _ in range(number):
            clients.append(stack.enter_context(socket.create_connection(server.getsockname())))
            stack.enter_context(server.accept()[0])
        yield clients


def _report_agents(report: Recorder, folder: Path, cgroup: Path, *, rounds: int) -> None:
    with ExitStack() as stack:
        agents = {
            callers: stack.enter_context(_agent(folder, at, callers, cgroup))
            for at, callers in enumerate(_CALLERS)
        }
        report.begin("the agent's processor time for a connection with one request")
        connections = _rounds_us(agents, rounds, connections=200, requests=1)
        _compare(report, connections)
        report.begin("the agent's processor time for a request on an open connection")
        _compare(report, _rounds_us(agents, rounds, connections=2, requests=200))
        report.begin("the agent's processor time for a stranger's connection")
        strangers = _rounds_us({"root": agents["root"]}, rounds, connections=200, requests=1, uid=_NOBODY)
        report.spread("root: refused with 403", "µs", strangers["root"], 1000.0, bound=True)


def _compare(report: Recorder, found: dict[str, list[float]]) -> None:
    for callers, values in found.items():
        report.spread(callers, "µs", values)
    for callers in _CALLERS[1:]:
        more = [one - base for one, base in zip(found[callers], found["any"], strict=True)]
        report.spread(f"{callers}: more than any, round by round", "µs", more, _TARGET_US)


def _rounds_us(
    agents: dict[str, tuple[str, int]], rounds: int, *, connections: int, requests: int, uid: int = 0
) -> dict[str, list[float]]:
    """Processor time of each agent for one of them, round by round, by the agent's name."""
    found: dict[str, list[float]] = {name: [] for name in agents}
    number = connections * requests
    for at in range(rounds):
        order = list(agents)
        for name in (*order[at % len(order) :], *order[: at % len(order)]):
            host, pid = agents[name]
            before_s = _processor_s(pid)
            _load(host, connections, requests, uid)
            found[name].append((_processor_s(pid) - before_s) / number * 1e6)
    return found


def _load(host: str, connections: int, requests: int, uid: int) -> None:
    """Make these connections, one after the other, as a process of this user."""
    child = os.fork()
    if child == 0:
        try:
            os.setuid(uid)
            for _ in range(connections):
                with socket.create_connection((host, 30020)) as client:
                    for _ in range(requests):
                        client.sendall(_REQUEST)
                        client.recv(65536)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _processor_s(pid: int) -> float:
    times = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
    return int(times[0]) / 1e9  # of the main thread, which serves


@contextmanager
def _agent(folder: Path, at: int, callers: str, cgroup: Path) -> Iterator[tuple[str, int]]:
    """An agent with this value. Yields its address and its pid."""
    layout, host = folder / callers, f"127.201.0.{at + 1}"
    (layout / "blobs" / "sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    ports = {"hostport": 30020, "peer": 30023, "nodeport": 30022, "admin": 9090}
    settings = {
        "node": {"name": callers, "address": host},
        "listen": {**{name: f"{host}:{port}" for name, port in ports.items()}, "local_callers": callers},
        "store": f"oci-layout://{layout}",
        "probe": {"containerd_cgroup": str(cgroup)},
        "log": {"level": "warning"},
    }
    config = folder / f"{callers}.yaml"
    config.write_text(yaml.safe_dump(settings))
    command = [str(Path(sys.executable).parent / "shorthaul"), "agent", "--config", str(config)]
    process = Process(command, log=folder / f"{callers}.log")
    try:
        process.wait_until(lambda: _answers(host), f"the agent for {callers}")
        yield host, process.pid
    finally:
        process.stop()


def _answers(host: str) -> bool:
    try:
        with socket.create_connection((host, 30020), timeout=5) as client:
            client.sendall(_REQUEST)
            return client.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@contextmanager
def _own_cgroup() -> Iterator[Path]:
    """A cgroup that this process is in, as containerd is in its own."""
    cgroup = make_cgroup(f"shlab-{os.getpid()}-callers")
    try:
        (cgroup / "cgroup.procs").write_text("0")
        yield cgroup
    finally:
        (find_root() / "cgroup.procs").write_text("0")
        remove_cgroup(cgroup)


def _raise_limit() -> None:
    process = psutil.Process()
    _, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
