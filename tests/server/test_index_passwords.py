"""No password of the index's server is in anything that an agent says: its log, its pages, its commands."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.documents.claims import ClaimsDocument
from agent.documents.index import IndexDocument
from agent.documents.registries import RegistriesDocument
from agent.documents.topology import TopologyDocument
from benchmarks.lab.valkey import ValkeyServer

from .agents import ADMIN, Node, Site, digest_of, wait_for
from .proofs import OPEN

SECRET = "hunter2-of-the-index"
PROGRAM = str(Path(sys.executable).parent / "shorthaul")
COMMANDS = (("--print-config",), ("doctor",), ("index",), ("explain", digest_of(b"nobody has it")))
PAGES = (
    *(IndexDocument.PATH, ClaimsDocument.PATH, RegistriesDocument.PATH, TopologyDocument.PATH),
    *("/metrics", "/readyz?verbose", f"/api/explain?digest={digest_of(b'nobody has it')}", "/api/requests"),
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that knows another password."""
    made = ValkeyServer(tmp_path / "valkey", password="another")
    yield made
    made.stop()


def test_agent_that_is_refused_shows_the_server_and_no_password(site: Site, server: ValkeyServer) -> None:
    url = server.url(f"user:{SECRET}")
    node = site.add("node", index=url, log={"level": "debug"}, peering=OPEN)
    site.start()
    wait_for(lambda: "no such user with this password" in status(node), "the refusal is told")
    wait_for(lambda: "the index does not work" in node.log.read_text(), "the refusal is logged")
    assert f"user:***@{server.endpoint}" in status(node)
    said = [node.log.read_text(), *(node.ask(page, port=ADMIN).body.decode() for page in PAGES)]
    said += [run(node, *words) for words in COMMANDS]
    assert [text for text in said if SECRET in text] == []


def status(node: Node) -> str:
    """What it says of the index."""
    return node.ask(IndexDocument.PATH, port=ADMIN).body.decode()


def run(node: Node, *words: str) -> str:
    """All that a command of the agent's command line prints. It may fail."""
    url, config = ("--url", f"http://{node.address}:{ADMIN}"), ("--config", str(node.config))
    command = {"--print-config": ("agent", *words, *config), "doctor": (*words, *config)}
    done = subprocess.run(
        [PROGRAM, *command.get(words[0], (*words, *url))], capture_output=True, text=True, timeout=60
    )
    assert done.stdout, done.stderr
    return done.stdout + done.stderr


def test_url_with_a_mistake_is_refused_without_its_password(site: Site) -> None:
    node = site.add("node", index=f"valkey://user:{SECRET}@host/not-a-number", peering=OPEN)
    done = subprocess.run(node.command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "index: 'valkey://***@host/not-a-number'" in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
