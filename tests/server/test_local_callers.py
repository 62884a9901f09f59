"""Who is answered at the HostPort: real processes of real users in real cgroups, and a real kernel."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import Endpoint
from agent.flows.messages import NODE_HEADER
from agent.probe.canary import CanaryConnection
from benchmarks.lab.cgroups import make_cgroup, remove_cgroup

from .agents import ADMIN, LOCAL, Node, Site

NOBODY = 65534

_ASK = """
import http.client, json, os, sys
host, port, cgroup, uid = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
if cgroup:
    open(cgroup + "/cgroup.procs", "w").write("0")
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
connection = http.client.HTTPConnection(host, port, timeout=60)
connection.request("GET", "/v2/")
reply = connection.getresponse()
print(json.dumps([reply.status, dict(reply.headers), reply.read().decode()]))
"""


def ask(node: Node, *, uid: int = 0, cgroup: Path | str = "") -> tuple[int, dict[str, str], str]:
    """The answer at the HostPort to a process of this user in this cgroup."""
    words = [node.address, str(LOCAL), str(cgroup), str(uid)]
    done = subprocess.run([sys.executable, "-c", _ASK, *words], capture_output=True, text=True, check=True)
    status, headers, body = json.loads(done.stdout)
    return status, headers, body


def agent(site: Site, *overrides: str) -> Node:
    """One running agent. ``overrides``: settings, as ``KEY=VALUE``."""
    node = site.add("a")
    node.before = ("env", "SHORTHAUL_SET=" + "\n".join(overrides))
    site.start()
    return node


@pytest.fixture(scope="module")
def shared() -> Iterator[Node]:
    """An agent with the default settings, for tests that leave it as it is."""
    with Site() as made:
        yield agent(made)


def refused(node: Node, reason: str) -> float:
    """How many were turned away for this reason."""
    return node.metric("shorthaul_refused_total", listener="hostport", reason=reason)


def test_an_ordinary_user_is_turned_away_with_a_message_that_explains_itself(shared: Node) -> None:
    node = shared
    assert ask(node)[0] == 200
    status, headers, body = ask(node, uid=NOBODY)
    assert status == 403
    (error,) = json.loads(body)["errors"]
    assert error["code"] == "DENIED"
    assert f"you are user {NOBODY}" in error["message"]
    assert "listen.local_callers: root" in error["message"]
    assert "sudo" in error["detail"]["hint"]
    # A canary learns who answers, whoever it is. Nothing else is done for a stranger.
    assert headers[NODE_HEADER] == "a"
    assert headers["Connection"] == "close"
    assert refused(node, "user") == 1
    assert [record["path"] for record in node.requests()] == ["hostport"]  # root's alone


def test_an_agent_of_an_ordinary_user_answers_that_user_and_root(site: Site) -> None:
    node = site.add("a")
    for folder in (node.layout, *node.layout.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(0o755)
    node.before = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    site.start()
    assert [ask(node, uid=uid)[0] for uid in (0, NOBODY, NOBODY - 1)] == [200, 200, 403]


def test_any_answers_every_user(site: Site) -> None:
    node = agent(site, "listen.local_callers=any")
    assert ask(node, uid=NOBODY)[0] == 200


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """Containerd's, by the settings."""
    made = make_cgroup(f"shlab-{os.getpid()}-containerd")
    yield made
    if made.exists():
        remove_cgroup(made)


def test_only_roots_processes_in_containerds_cgroup_are_answered_also_after_it_was_made_again(
    site: Site, cgroup: Path
) -> None:
    node = agent(site, "listen.local_callers=containerd", f"probe.containerd_cgroup={cgroup}")
    assert ask(node, cgroup=cgroup)[0] == 200
    assert [ask(node)[0], ask(node, uid=NOBODY, cgroup=cgroup)[0]] == [403, 403]
    assert "not in its cgroup" in ask(node)[2]
    with CanaryConnection(Endpoint(host=node.address, port=LOCAL)) as canary:
        answer = canary.request()
    assert (answer.node, answer.cookie > 0) == ("a", True)
    first = cgroup.stat().st_ino
    remove_cgroup(cgroup)
    cgroup.mkdir()
    assert cgroup.stat().st_ino != first
    assert ask(node, cgroup=cgroup)[0] == 200
    assert (refused(node, "cgroup"), refused(node, "user")) == (3, 1)
    assert "containerd's cgroup is answered" in node.ask("/readyz?verbose", port=ADMIN).body.decode()


def test_a_client_that_closes_its_sending_half_is_answered(shared: Node) -> None:
    node = shared
    with socket.create_connection((node.address, LOCAL)) as client:
        client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_clients_that_close_at_once_are_no_trouble(shared: Node) -> None:
    node = shared
    for _ in range(50):
        socket.create_connection((node.address, LOCAL)).close()
    assert ask(node)[0] == 200
    assert b"[+] who is at the HostPort" in node.ask("/readyz?verbose", port=ADMIN).body
    assert node.logged_errors() == []


def test_a_thousand_clients_at_once_are_each_answered_by_whose_they_are(shared: Node) -> None:
    node = shared
    clients = [socket.create_connection((node.address, LOCAL)) for _ in range(1000)]
    for client in clients:
        client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert {client.recv(12) for client in clients} == {b"HTTP/1.1 200"}
    for client in clients:
        client.close()


def test_in_a_pod_network_the_node_is_told_that_the_kernel_does_not_know(site: Site) -> None:
    node = agent(site, "node.pod_network=true")
    assert ask(node)[0] == 403
    report = node.ask("/readyz?verbose", port=ADMIN).body.decode()
    assert "[!] who is at the HostPort: the clients are not on this network namespace" in report
    assert "--pod-network" in report
    assert refused(node, "unknown") == 1


def test_a_socket_is_its_makers_also_in_other_hands(shared: Node) -> None:
    node = shared
    with socket.create_connection((node.address, LOCAL)) as client:
        client.set_inheritable(True)
        gives = f"""
import os, socket
os.setuid({NOBODY})
client = socket.socket(fileno={client.fileno()})
client.sendall(b"GET /v2/ HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
print(client.recv(12).decode())
"""
        done = subprocess.run(
            [sys.executable, "-c", gives],
            pass_fds=[client.fileno()],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.strip() == "HTTP/1.1 200"
