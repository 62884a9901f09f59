"""Which process has a port, also for an agent in a pod that sees no other process."""

import os
import socket
import subprocess
import sys

import pytest

from agent.config import Endpoint
from agent.listen.owners import owner_of
from benchmarks.lab.cgroups import make_cgroup, remove_cgroup

_ASKS = """
import sys
from agent.config import Endpoint
from agent.listen.sockets import ListenError, open_listener
try:
    open_listener("hostport", Endpoint(host="127.0.0.1", port=int(sys.argv[1])))
except ListenError as error:
    print(error)
"""
_LISTENS = """
import socket, sys
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
listener = socket.create_server(("127.0.0.1", 0)); print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_process_that_can_be_seen_is_named_with_its_command(host: str) -> None:
    with socket.create_server((host, 0)) as taken:
        owner = owner_of(Endpoint(host="127.0.0.1", port=taken.getsockname()[1]))
    assert owner.startswith("python")
    assert f"(pid {os.getpid()}: " in owner


def test_a_port_that_nobody_has_any_more_is_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert owner_of(Endpoint(host="127.0.0.1", port=port))


def test_a_process_that_a_pod_can_t_see_is_named_by_its_unit() -> None:
    cgroup = make_cgroup(f"shprobe-{os.getpid()}-nginx.service")
    try:
        with subprocess.Popen(
            [sys.executable, "-c", _LISTENS, str(cgroup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as stranger:
            assert stranger.stdout is not None
            port = stranger.stdout.readline().strip()
            in_a_pod = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", _ASKS, port]
            done = subprocess.run(in_a_pod, capture_output=True, text=True, timeout=60, check=True)
            stranger.communicate("")
    finally:
        remove_cgroup(cgroup)
    assert f"listen.hostport: 127.0.0.1:{port} is taken by a process of user {os.getuid()}" in done.stdout
    assert done.stdout.rstrip().endswith(f", in {cgroup.name}")
