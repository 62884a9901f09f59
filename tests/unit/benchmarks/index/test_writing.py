"""Many commands at once, to a real server."""

from pathlib import Path

import pytest

from benchmarks.index.inventory import Inventory
from benchmarks.index.sizes import measure
from benchmarks.index.stage import running
from benchmarks.index.writing import WriteError, Writer, command
from benchmarks.lab.valkey import ValkeyServer


def test_every_command_is_done_when_send_returns_and_an_error_is_raised(tmp_path: Path) -> None:
    with running(ValkeyServer(tmp_path)) as server, Writer(server.port) as writer:
        writer.send([command("SETBIT", f"key-{each}", each, 1) for each in range(3000)])
        assert server.cli("dbsize") == "3000"
        with pytest.raises(WriteError):
            writer.send([command("SETBIT", "key-1", 1, 1), command("SETBIT", "key-1", "no number", 1)])


def test_memory_grows_with_the_nodes_and_hardly_with_what_each_has() -> None:
    few, more, many = (
        measure(nodes=nodes, inventory=Inventory(digests=200, blobs=blobs))
        for nodes, blobs in ((20, 100), (600, 30), (600, 60))
    )
    assert 1.5 * few < more
    assert more <= many < 1.2 * more
