"""Who may ask the admin port for what, from this node and from elsewhere: over real sockets."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.holders.wire import PATH as QUESTIONS_PATH
from agent.keyring import parse_keys
from agent.peering.reach import PATH as REACH_PATH
from benchmarks.lab.network import Network, inside

from .agents import ADMIN, Node, Reply, Site, log_lines, service_proof
from .proofs import signed

_ADDRESS = "10.9.0.7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An agent whose admin port listens on every address of its network namespace."""

    node: Node
    netns: str
    token: str

    def ask(
        self,
        path: str,
        *,
        host: str = _ADDRESS,
        token: str | None = None,
        method: str = "GET",
        proof: Mapping[str, str] | None = None,
    ) -> Reply:
        """The answer to a client at this address of the node itself. ``proof``: further headers."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers |= proof or {}

        def ask() -> Reply:
            connection = http.client.HTTPConnection(host, ADMIN, timeout=60)
            try:
                connection.request(method, path, headers=headers)
                reply = connection.getresponse()
                return Reply(status=reply.status, headers=reply.headers, body=reply.read())
            finally:
                connection.close()

        return inside(self.netns, ask)

    def opened(self, path: str) -> bytes:
        """What a stream begins with for a client from elsewhere that shows the token."""

        def ask() -> bytes:
            connection = http.client.HTTPConnection(_ADDRESS, ADMIN, timeout=60)
            try:
                connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
                return connection.getresponse().readline()
            finally:
                connection.close()

        return inside(self.netns, ask)

    def shorthaul(self, *arguments: str, config: bool = False) -> "subprocess.CompletedProcess[str]":
        """Run a command beside the agent. ``config``: the environment names its settings."""
        environment = {name: value for name, value in os.environ.items() if name != "SHORTHAUL_CONFIG"}
        if config:
            environment["SHORTHAUL_CONFIG"] = str(self.node.config)
        command = [str(Path(sys.executable).parent / "shorthaul"), *arguments]
        return inside(
            self.netns,
            lambda: subprocess.run(command, env=environment, capture_output=True, text=True, check=False),
        )


@contextmanager
def published(*, key: bool) -> Iterator[Published]:
    """Such an agent."""
    with Site() as site:
        network = Network(f"shlab-{os.getpid()}-{'k' if key else 'n'}")
        try:
            netns = network.add_host("admin", _ADDRESS)
            more: dict[str, Any] = {} if key else {"membership": {}, "peering": {"key": None}}
            node = site.add("a", **more)
            listen = [f"listen.{name}=127.0.0.1:{port}" for name, port in (("peer", 1), ("nodeport", 2))]
            overrides = [*listen, "listen.hostport=127.0.0.1:30020", f"listen.admin=0.0.0.0:{ADMIN}"]
            node.before = ("ip", "netns", "exec", netns, "env", "SHORTHAUL_SET=" + "\n".join(overrides))
            found = Published(node=node, netns=netns, token=parse_keys(site.key.read_text()).admin_tokens[0])
            node.launch()
            node.process.wait_until(lambda: _serves(found), "the agent")
            yield found
            node.stop()
        finally:
            network.close()


def _serves(found: Published) -> bool:
    try:
        return found.ask("/readyz", host="127.0.0.1").status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def agent() -> Iterator[Published]:
    """With a key."""
    with published(key=True) as found:
        yield found


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_the_kubelet_and_prometheus_ask_from_elsewhere_without_a_token(agent: Published, path: str) -> None:
    assert agent.ask(path).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/topology",
        "/api/requests",
        "/api/scrub",
        "/api/overview",
        "/api/map",
        "/api/history?step=60",
        "/readyz?verbose",
        "/nothing",
        "/static/nothing",
    ],
)
def test_all_else_takes_the_admin_token_and_nothing_else_does(agent: Published, path: str) -> None:
    service = service_proof()["Authorization"].removeprefix("Bearer ")
    for token in (None, "guess", service):
        reply = agent.ask(path, token=token)
        assert (reply.status, reply.json()["code"]) == (401, "UNAUTHORIZED")
        assert "Shorthaul-Node" not in reply.headers
        assert "WWW-Authenticate" not in reply.headers
    assert agent.ask(f"{path.partition('?')[0]}?token={agent.token}").status == 401
    assert agent.ask(path, token=agent.token).status == agent.ask(path, host="127.0.0.1").status


def test_the_stream_of_events_takes_the_admin_token_too(agent: Published) -> None:
    assert agent.ask("/api/events").status == 401
    assert agent.ask("/api/events", token="guess").status == 401
    assert agent.opened("/api/events") == b"retry: 2000\n"


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/app.css"])
def test_the_files_of_the_page_say_nothing_of_the_node_and_are_answered_from_elsewhere(
    agent: Published, path: str
) -> None:
    reply = agent.ask(path)
    assert reply.status == 200
    assert reply.body == agent.ask(path, host="127.0.0.1").body
    assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]


def test_on_the_node_no_token_is_needed(agent: Published) -> None:
    assert agent.ask("/api/topology", host="127.0.0.1").status == 200


def test_no_token_makes_it_take_an_order(agent: Published) -> None:
    reply = agent.ask("/api/scrub/start", token=agent.token, method="POST")
    assert reply.status == 403


def test_an_agent_with_a_wrong_port_in_its_list_is_told_and_nobody_else(agent: Published) -> None:
    for path in (QUESTIONS_PATH, REACH_PATH):
        reply = agent.ask(path, proof=signed(path, sender="b", receiver="a"))
        assert (reply.status, reply.headers["Shorthaul-Listener"]) == (404, "admin")
        assert agent.ask(path, proof=signed("/other", sender="b", receiver="a")).status == 401
        assert agent.ask(path).status == 401
    assert agent.ask("/api/topology", proof=signed("/api/topology", sender="b", receiver="a")).status == 401


def test_the_commands_show_the_token_to_an_agent_that_asks_for_it(agent: Published) -> None:
    url = ("--url", f"http://{_ADDRESS}:{ADMIN}")
    without = agent.shorthaul("topology", "--json", *url)
    assert without.returncode == 1
    assert "--key-file" in without.stderr
    key = str(agent.node.config.parent / "cluster.key")
    for told in (
        agent.shorthaul("topology", "--json", *url, "--key-file", key),
        agent.shorthaul("topology", "matrix", "--json", *url, "--key-file", key),
        agent.shorthaul("topology", "--json", *url, config=True),
    ):
        assert json.loads(told.stdout)["node"] == "a", told.stderr
    scrub = agent.shorthaul("scrub", "--json", *url, "--key-file", key)
    assert json.loads(scrub.stdout)["paused"] is False
    explained = agent.shorthaul("explain", "--json", f"sha256:{'0' * 64}", *url, "--key-file", key)
    assert json.loads(explained.stdout)["node"] == "a"


def test_an_agent_without_a_key_answers_elsewhere_health_and_metrics_only_and_says_so() -> None:
    with published(key=False) as alone:
        assert alone.ask("/metrics").status == 200
        assert alone.ask("/api/topology", token=alone.token).status == 401
        assert alone.ask("/api/topology", host="127.0.0.1").status == 200
        (line,) = [line for line in log_lines(alone.node.log) if "listen.admin is published" in line]
        assert json.loads(line)["level"] == "warning"
        assert "peering.key" in json.loads(line)["hint"]
