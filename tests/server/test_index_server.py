"""Real agents with the index in a real server: what they say of it, and agents that have none beside them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.lab.valkey import ValkeyServer
from tests.unit.twins import REPOSITORY_ROOT

from .agents import ADMIN, Node, Site, digest_of, wait_for

PASSWORD = "pass-word-of-the-index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """``a1``, ``a2`` and ``b1`` have the index in the server. ``plain`` asks its peers; it is in zone a."""

    server: ValkeyServer
    a1: Node
    a2: Node
    b1: Node
    plain: Node

    @property
    def with_server(self) -> tuple[Node, ...]:
        return self.a1, self.a2, self.b1


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    """The agents of this module. At the server they have the rights that the documentation gives them."""
    folder = tmp_path_factory.mktemp("index")
    page = (REPOSITORY_ROOT / "docs" / "large-clusters.md").read_text(encoding="utf-8")
    (rights,) = re.findall(r"ACL SETUSER shorthaul on >PASSWORD (.*)", page)
    server = ValkeyServer(
        folder / "valkey",
        password="of-somebody-else",
        users={"shorthaul": f"on >{PASSWORD} {rights}"},
        settings={"maxmemory": "64mb"},
    )
    (folder / "password").write_text(PASSWORD)
    index = {
        "index": server.url(),
        # A busy machine may need longer than the usual 0.15 s for an answer.
        "valkey": {"username": "shorthaul", "password_file": str(folder / "password"), "timeout_s": 2.0},
    }
    with Site() as site:
        made = Mixed(
            server=server,
            a1=site.add("a1", zone="a", **index),
            a2=site.add("a2", zone="a", **index),
            b1=site.add("b1", zone="b", **index),
            plain=site.add("plain", zone="a"),
        )
        made.a2.put(b"a2 has it")
        site.start()
        for node in made.with_server:
            wait_for(lambda node=node: state(node)["number"] is not None, "each has a number")  # type: ignore[misc]
        yield made
    server.stop()


def state(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = node.ask("/api/index", port=ADMIN).json()
    return found


def index_command(node: Node) -> subprocess.CompletedProcess[str]:
    shorthaul = Path(sys.executable).parent / "shorthaul"
    url = f"http://{node.address}:{ADMIN}"
    return subprocess.run(
        [str(shorthaul), "index", "--url", url], capture_output=True, text=True, check=False, timeout=60
    )


def test_agents_say_which_server_they_use_and_what_they_told_it(mixed: Mixed) -> None:
    wait_for(lambda: state(mixed.a2)["announced"] >= 1, "it is told")
    said = {node.name: state(node) for node in mixed.with_server}
    assert len({each["number"] for each in said.values()}) == 3
    for each in said.values():
        assert each["index"] == mixed.server.url()
        assert each["state"] in ("warming", "server")
        assert (each["problem"], each["policy"]) == (None, "noeviction")
        assert each["cluster"].startswith("key:")
    assert state(mixed.plain) | {"time": ""} == {
        **dict.fromkeys(state(mixed.a1)),
        "time": "",
        "node": "plain",
        "index": "scatter",
        "state": "peers",
        "hint": "",
        "warnings": [],
        "announced": 0,
        "pending": 0,
        "resets": 0,
        "silent_count": 0,
        "silent": [],
    }


def test_explanation_says_that_the_server_named_the_holders(mixed: Mixed) -> None:
    wait_for(lambda: state(mixed.a2)["announced"] >= 1, "it is told")
    digest = digest_of(b"a2 has it")
    wait_for(lambda: mixed.a1.explain(digest)["choice"] == "a2", "it is found")
    assert mixed.a1.explain(digest)["learnt"] == "the index's server named them"
    assert mixed.plain.explain(digest)["learnt"] is None


def test_agents_with_and_without_the_server_find_what_the_others_of_their_zone_have(mixed: Mixed) -> None:
    """An upgrade from the one to the other, or back, stands in the middle."""
    wait_for(lambda: state(mixed.a1)["silent"] == ["plain"], "it is known who tells the server nothing")
    mixed.plain.put(b"plain has it")
    mixed.a1.put(b"a1 has it")
    reply = mixed.a1.blob(b"plain has it")
    assert (reply.status, reply.headers["Shorthaul-Source"].partition(";")[0]) == (200, "node=plain")
    reply = mixed.plain.blob(b"a1 has it")
    assert (reply.status, reply.headers["Shorthaul-Source"].partition(";")[0]) == (200, "node=a1")


def test_password_is_in_no_page_and_no_log(mixed: Mixed) -> None:
    for node in mixed.with_server:
        pages = [node.ask(path, port=ADMIN).body for path in ("/api/index", "/metrics", "/readyz?verbose")]
        assert PASSWORD.encode() not in b"".join(pages) + node.log.read_bytes()


def test_warning_of_a_password_in_plain_text_is_not_given_on_loopback(mixed: Mixed) -> None:
    assert state(mixed.a1)["warnings"] == []


def test_agents_stay_ready_and_say_why_while_the_server_is_frozen_and_use_it_again_by_themselves(
    mixed: Mixed,
) -> None:
    mixed.a2.put(b"asked while it is frozen")
    mixed.server.freeze()
    try:
        for node in mixed.with_server:
            node.explain(digest_of(b"nobody has it"))  # whoever asks first notices
            wait_for(lambda node=node: state(node)["state"] == "down", "it is noticed")  # type: ignore[misc]
            assert node.is_ready()
        assert mixed.a1.metric("shorthaul_index_up") == 0
        verbose = mixed.a1.ask("/readyz?verbose", port=ADMIN).body.decode()
        assert "[!] the index: the server did not answer within" in verbose
        shown = index_command(mixed.a1)
        assert (shown.returncode, shown.stderr) == (1, "")
        assert "near peers are asked in place of the server; pulls work" in shown.stdout
        assert "hint: " in shown.stdout
        explained = mixed.a1.explain(digest_of(b"asked while it is frozen"))
        assert explained["choice"] == "a2"
        assert explained["learnt"].startswith("near peers named them: the index's server is not asked (")
        assert mixed.a1.blob(b"asked while it is frozen").status == 200
    finally:
        mixed.server.thaw()
    for node in mixed.with_server:
        wait_for(lambda node=node: state(node)["state"] != "down", "it is used again")  # type: ignore[misc]
    assert mixed.a1.metric("shorthaul_index_up") == 1
    assert mixed.a1.metric("shorthaul_index_errors_total", kind="slow") >= 1
    assert index_command(mixed.a1).returncode == 0


def test_full_server_is_asked_and_told_nothing_until_it_has_room(mixed: Mixed) -> None:
    mixed.server.configure(maxmemory="1mb")
    try:
        mixed.a1.put(b"new while it is full")
        wait_for(lambda: state(mixed.a1)["state"] == "full", "it is noticed")
        said = state(mixed.a1)
        assert "maxmemory" in said["problem"]
        assert said["pending"] >= 1
        assert mixed.a1.is_ready()
        assert mixed.a1.explain(digest_of(b"a2 has it"))["learnt"] == "the index's server named them"
        assert mixed.a2.blob(b"new while it is full").status == 200
    finally:
        mixed.server.configure(maxmemory="64mb")
    wait_for(lambda: state(mixed.a1)["state"] != "full" and state(mixed.a1)["pending"] == 0, "it is told")


def test_each_document_of_the_index_is_what_the_page_says(mixed: Mixed) -> None:
    reply = mixed.a1.ask("/api/index", port=ADMIN)
    assert (reply.status, reply.headers["Content-Type"].partition(";")[0]) == (200, "application/json")
    assert json.loads(reply.body)["server"].split()[0] in ("redis", "valkey")


def test_no_pull_goes_past_a_neighbour_while_agents_change_to_a_server_and_back(tmp_path: Path) -> None:
    """As a rollout does it: one node after the other. On the way back the chart's server goes first."""
    server = ValkeyServer(tmp_path / "valkey")
    try:
        with Site() as site:
            one, other = site.add("one"), site.add("other")
            site.start()
            _each_gets_what_the_other_has(one, other, "before")
            for node in (one, other):
                _restart(node, {"index": server.url(), "valkey": {"timeout_s": 2.0}})
                _each_gets_what_the_other_has(one, other, f"{node.name} has the server")
                wait_for(lambda node=node: state(node)["number"] is not None, "it has a number")  # type: ignore[misc]
                _each_gets_what_the_other_has(one, other, f"{node.name} has a number")
            server.stop()
            _each_gets_what_the_other_has(one, other, "the server is gone")
            for node in (one, other):
                _restart(node, {"index": "scatter", "valkey": {}})
                _each_gets_what_the_other_has(one, other, f"{node.name} asks its peers again")
    finally:
        server.stop()


def _restart(node: Node, changes: dict[str, Any]) -> None:
    node.stop()
    node.config.write_text(yaml.safe_dump(yaml.safe_load(node.config.read_text()) | changes))
    node.launch()
    node.wait()


def _each_gets_what_the_other_has(one: Node, other: Node, when: str) -> None:
    for giver, taker in ((one, other), (other, one)):
        content = f"{giver.name} has it, {when}".encode()
        giver.put(content)
        assert taker.blob(content).status == 200, content


def test_agent_whose_password_is_missing_serves_and_uses_the_server_once_it_is_there(tmp_path: Path) -> None:
    """As in a pod whose Secret was deleted."""
    server = ValkeyServer(tmp_path / "valkey", password=PASSWORD)
    try:
        with Site() as site:
            secret = tmp_path / "password"
            valkey = {"password_file": str(secret), "timeout_s": 2.0}
            index: dict[str, Any] = {"index": server.url(), "valkey": valkey}
            one, other = site.add("one", **index), site.add("other", **index)
            site.start()
            _each_gets_what_the_other_has(one, other, "without a password")
            assert "No such file" in state(one)["problem"]
            secret.write_text(PASSWORD)
            wait_for(lambda: state(one)["state"] != "down", "it is used")
    finally:
        server.stop()
