"""Counts what leaves a zone, in the kernel: packets from each node to the nodes of other zones.

They are not sorted by what a link carried: a node sends to its own zone over the same link.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.lab.cluster import Place
from benchmarks.lab.process import run

_RULES = """\
table ip borders {{
  counter far {{ }}
  chain output {{
    type filter hook output priority 0; policy accept;
    ip daddr {{ {addresses} }} counter name far
  }}
}}
"""


class Sender(Protocol):
    """Whatever sends from a zone: a node, or a mirror's host."""

    @property
    def place(self) -> Place:
        """Where it is."""

    @property
    def address(self) -> str:
        """Its address."""

    @property
    def netns(self) -> str | None:
        """Its namespace."""

    @property
    def folder(self) -> Path:
        """Where it keeps its files."""


class Borders:
    """The counters of all nodes. They go with the nodes' namespaces. Sizes include IP's and TCP's headers."""

    def __init__(self, nodes: Sequence[Sender]) -> None:
        self._nodes = [node for node in nodes if any(_apart(node, other) for other in nodes)]
        for node in self._nodes:
            far = ", ".join(other.address for other in nodes if _apart(node, other))
            rules = node.folder / "borders.nft"
            rules.write_text(_RULES.format(addresses=far))
            run(["nft", "-f", str(rules)], netns=node.netns)

    def crossed_bytes(self) -> int:
        """How many bytes have left zones for other zones so far."""
        return sum(_read(node) for node in self._nodes)


def _apart(one: Sender, other: Sender) -> bool:
    return (one.place.region, one.place.zone) != (other.place.region, other.place.zone)


def _read(node: Sender) -> int:
    listed = json.loads(run(["nft", "-j", "list", "counters", "table", "ip", "borders"], netns=node.netns))
    return sum(entry["counter"]["bytes"] for entry in listed["nftables"] if "counter" in entry)
