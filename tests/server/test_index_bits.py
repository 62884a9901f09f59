"""What real agents say on the index's server of what they have."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.holders.valkey.layout import EPOCH_S, Layout
from agent.oci.digest import Digest
from benchmarks.lab.valkey import ValkeyServer

from .agents import ADMIN, Node, Site, digest_of, wait_for

LAYOUT = Layout("shorthaul")


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A real server."""
    server = ValkeyServer(tmp_path / "valkey")
    try:
        yield server
    finally:
        server.stop()


def number_of(node: Node) -> int | None:
    number: int | None = node.ask("/api/index", port=ADMIN).json()["number"]
    return number


def bit(valkey: ValkeyServer, node: Node, content: bytes) -> str:
    epoch = int(valkey.cli("time").split()[0]) // EPOCH_S
    key = LAYOUT.bitmap(epoch, Digest(digest_of(content)))
    return valkey.cli("getbit", key, str(number_of(node)))


def test_agent_announces_what_it_has_and_withdraws_what_a_peer_asks_it_for_in_vain(
    valkey: ValkeyServer,
) -> None:
    there, gone = b"there" * 1000, b"gone" * 1000
    with Site() as site:
        one, two = (site.add(name, index=valkey.url()) for name in ("one", "two"))
        one.put(there)
        site.start()
        wait_for(lambda: None not in (number_of(one), number_of(two)), "both have a number")
        wait_for(lambda: bit(valkey, one, there) == "1", "what it has is announced")
        epoch = int(valkey.cli("time").split()[0]) // EPOCH_S
        key = LAYOUT.bitmap(epoch, Digest(digest_of(gone)))
        valkey.cli("setbit", key, str(number_of(one)), "1")  # as an agent before it said
        assert two.blob(gone).status == 404
        wait_for(lambda: bit(valkey, one, gone) == "0", "it takes back what it has not")
        assert two.blob(there).status == 200
        assert bit(valkey, one, there) == "1"
        assert [*one.logged_errors(), *two.logged_errors()] == []
