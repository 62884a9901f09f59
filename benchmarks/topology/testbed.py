"""Real agents in namespaces with delays between them, and readings of their values."""

import itertools
import random
import socket
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.lab.cluster import ADMIN_PORT, LOCAL_PORT, Cluster, Node
from benchmarks.lab.network import inside
from benchmarks.lab.process import run
from benchmarks.reporting.recorder import Recorder
from benchmarks.topology.cloud import (
    JITTER_US,
    OTHER_REGION_US,
    OTHER_ZONE_US,
    SAME_ZONE_US,
    SPIKE_SHARE,
    SPIKE_US,
)
from benchmarks.topology.measuring import DEFAULTS

SETTLED_S = DEFAULTS.window_s + DEFAULTS.interval_s + 1.0
ZONES = {"r1": ["a", "b"], "r2": ["c"]}
PER_ZONE = 4
_FULL_SAMPLES = 8  # of the ten in a window; one or two may be lost

Pair = tuple[str, str]


class Testbed:
    """Twelve agents with default settings, and the delays between them."""

    def __init__(self, report: Recorder, cluster: Cluster, dice: random.Random) -> None:
        self.nodes: Mapping[str, Node] = cluster.nodes
        self._report = report
        self._cluster = cluster
        self._set_us = {pair: self._draw_us(*pair, dice) for pair in itertools.combinations(self.nodes, 2)}

    def _draw_us(self, one: str, other: str, dice: random.Random) -> float:
        first, second = self.nodes[one].place, self.nodes[other].place
        if (first.region, first.zone) == (second.region, second.zone):
            return dice.uniform(*SAME_ZONE_US)
        return dice.uniform(*(OTHER_ZONE_US if first.region == second.region else OTHER_REGION_US))

    def start_agents(self) -> None:
        """Start the agents, and wait until each has a full window of samples."""
        self._cluster.start_agents()
        self.wait(SETTLED_S)

    def wait(self, seconds: float) -> None:
        """Wait while the agents work."""
        self._report.console.print(f"  waiting {seconds:.0f} s …", highlight=False)
        time.sleep(seconds)

    # Delays

    def set_all(self, *, jitter: bool) -> None:
        """Set every pair's delay, with or without jitter and spikes."""
        for (one, other), rtt_us in self._set_us.items():
            self._cluster.delays.set_delay(
                one,
                other,
                rtt_us,
                jitter_us=JITTER_US if jitter else 0.0,
                spike_share=SPIKE_SHARE if jitter else 0.0,
                spike_us=SPIKE_US,
            )

    def set_delay(self, one: str, other: str, rtt_us: float) -> None:
        """Set another delay for this pair, with jitter."""
        self._cluster.delays.set_delay(
            one, other, rtt_us, jitter_us=JITTER_US, spike_share=SPIKE_SHARE, spike_us=SPIKE_US
        )

    def actual_us(self) -> dict[Pair, float]:
        """The delay that the switch really adds for each pair, by (asking node, peer)."""
        found_us = {pair: self._actual_us(*pair) for pair in self._set_us}
        return found_us | {(other, one): rtt_us for (one, other), rtt_us in found_us.items()}

    def _actual_us(self, one: str, other: str) -> float:
        """Send some frames and measure their delay, because not every pair is measured."""
        asker, peer = self.nodes[one], self.nodes[other]
        for _ in range(3):
            inside(asker.netns, lambda: socket.create_connection((peer.address, peer.peer_port), 5).close())
        return self._cluster.delays.actual_rtt_us(one, other)

    # Readings

    def estimates_us(self, what: str) -> dict[Pair, float]:
        """Each agent's estimate for each peer with a full window, by (asking node, peer)."""
        return {
            (name, peer["node"]): peer[what]
            for name in self.nodes
            for peer in self.asked(name, "/api/latency")["peers"]
            if peer["measuring"] and (peer["samples"] or 0) >= _FULL_SAMPLES
        }

    def smoothed_us(self) -> dict[Pair, float]:
        """The kernel's smoothed round trip for each measuring connection."""
        names = {node.address: name for name, node in self.nodes.items()}
        found_us: dict[Pair, float] = {}
        for name, node in self.nodes.items():
            for line in run(["ss", "-tinHO", "dport", "=", f":{LOCAL_PORT}"], netns=node.netns).splitlines():
                words = line.split()
                address = next((word for word in words[3:5] if word.endswith(f":{LOCAL_PORT}")), "")
                peer = names.get(address.rpartition(":")[0])
                rtt = next((word for word in words if word.startswith("rtt:")), None)
                if peer is not None and peer != name and rtt is not None:
                    found_us[name, peer] = 1000 * float(rtt.removeprefix("rtt:").partition("/")[0])
        return found_us

    def wire_bytes(self) -> dict[str, int]:
        """The bytes that each node's interface received and sent since it was made."""
        return {name: _wire_bytes(node) for name, node in self.nodes.items()}

    def asked(self, name: str, path: str) -> Any:
        """The answer of an agent's admin API."""
        return self.nodes[name].get(path, port=ADMIN_PORT).json()


def _wire_bytes(node: Node) -> int:
    for line in run(["cat", "/proc/net/dev"], netns=node.netns).splitlines():
        name, _, counters = line.strip().partition(":")
        if name == "eth0":
            fields = counters.split()
            return int(fields[0]) + int(fields[8])
    raise LookupError(f"{node.name} has no eth0")
