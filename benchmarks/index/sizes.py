"""The server's memory for the bitmaps of clusters of several sizes, with the product's keys.

They are written without agents, because only what the server keeps counts here. Each size has two epochs, as
a cluster has at the end of one, and its numbers.
"""

import random
import tempfile
from pathlib import Path

from agent.holders.valkey.layout import BITMAP_TTL_S, Layout
from agent.holders.valkey.numbers import SLOT_BYTES, slot_value
from benchmarks.index.inventory import Inventory
from benchmarks.index.members import name_of
from benchmarks.index.stage import running
from benchmarks.index.writing import Writer, command, part
from benchmarks.lab.valkey import ValkeyServer
from benchmarks.reporting.recorder import Recorder

_ROOM = 1.25  # the numbers that nodes take are below so many times their count
_BATCH = 250
_EPOCHS = (493000, 493001)


def report_sizes(report: Recorder, *, nodes: list[int], blobs: list[int], digests: int) -> None:
    """One figure for each size."""
    report.begin(f"the server's memory: {digests} contents in all, two epochs")
    for count in nodes:
        for each in blobs:
            memory_bytes = measure(nodes=count, inventory=Inventory(digests=digests, blobs=each))
            report.single(f"{count} nodes with {each} each", "MB", memory_bytes / 1e6)


def measure(*, nodes: int, inventory: Inventory) -> int:
    """What the server says that it uses, in bytes, beyond what it uses when it is empty."""
    layout = Layout("shorthaul")
    numbers = random.Random(nodes).sample(range(int(nodes * _ROOM)), nodes)
    with tempfile.TemporaryDirectory() as folder, running(ValkeyServer(Path(folder))) as server:
        empty_bytes = int(server.info()["used_memory"])
        with Writer(server.port) as writer:
            for epoch in _EPOCHS:
                _announce(
                    writer, inventory, numbers, [layout.bitmap(epoch, each) for each in inventory.digests]
                )
            for node, number in enumerate(numbers):
                name = name_of(node)
                writer.send([command("SETRANGE", layout.names, number * SLOT_BYTES, slot_value(name, 1e9))])
                writer.send([command("SET", layout.number(number), f"{name} {'x' * 36}", "PX", 8400000)])
        return int(server.info()["used_memory"]) - empty_bytes


def _announce(writer: Writer, inventory: Inventory, numbers: list[int], keys: list[str]) -> None:
    heads = [part("SETBIT") + part(key) for key in keys]
    for node, number in enumerate(numbers):
        tail = part(number) + part(1)
        commands = [b"*4\r\n" + heads[each] + tail for each in inventory.numbers(node)]
        for start in range(0, len(commands), _BATCH):
            writer.send(commands[start : start + _BATCH])
    for key in keys:
        writer.send([command("EXPIRE", key, BITMAP_TTL_S)])
