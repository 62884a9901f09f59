"""How soon real agents notice that the delays to two peers were swapped."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.reporting.recorder import Recorder
from benchmarks.topology.cloud import EQUAL_RATIO
from benchmarks.topology.testbed import SETTLED_S, ZONES, Testbed

_ROUNDS = 2
_NEAR_US, _FAR_US = 300.0, 1000.0
_PATIENCE_S = 60.0
_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Swap:
    """An asking node, and two peers of its zone. The first one should be nearer."""

    asker: str
    near: str
    far: str

    def set(self, testbed: Testbed) -> None:
        """Set the delays so that the first peer is nearer."""
        for peer, rtt_us in ((self.near, _NEAR_US), (self.far, _FAR_US)):
            testbed.set_delay(min(self.asker, peer), max(self.asker, peer), rtt_us)

    def ratio(self, testbed: Testbed) -> float:
        """The farther peer's cost divided by the nearer peer's, as the asking node sees it."""
        nodes = testbed.asked(self.asker, "/api/topology")["nodes"]
        costs_us = {entry["name"]: entry["cost_us"] for entry in nodes}
        return float(costs_us[self.far] / costs_us[self.near])


def report_swaps(report: Recorder, testbed: Testbed) -> None:
    """Swap the delays of two peers and swap them back, in all zones at the same time."""
    swaps = [
        Swap(f"{zone}{asker}", f"{zone}2", f"{zone}3")
        for zones in ZONES.values()
        for zone in zones
        for asker in (1, 4)
    ]
    for swap in swaps:
        swap.set(testbed)
    testbed.wait(SETTLED_S)
    seconds: list[tuple[float, float]] = []
    for _ in range(_ROUNDS):
        swaps = [Swap(swap.asker, swap.far, swap.near) for swap in swaps]
        for swap in swaps:
            swap.set(testbed)
        seconds.extend(Watch(testbed, swaps).seconds())
    what = "delays of 0.3 and 1 ms swapped: order swapped"
    report.spread(what, "s", [first_s for first_s, _ in seconds], SETTLED_S, bound=True)
    what = f"  the new nearest alone is chosen ({EQUAL_RATIO} ×)"
    report.spread(what, "s", [last_s for _, last_s in seconds], SETTLED_S, bound=True)


class Watch:
    """Polls the asking nodes until all of them noticed the swap."""

    def __init__(self, testbed: Testbed, swaps: Sequence[Swap]) -> None:
        self._testbed = testbed
        self._swaps = swaps
        self._started_s = time.monotonic()
        self._reordered_s: dict[Swap, float] = {}
        self._certain_s: dict[Swap, float] = {}

    def seconds(self) -> list[tuple[float, float]]:
        """Seconds until each node's order swapped for good, and until the farther peer is never chosen."""
        while waiting := [swap for swap in self._swaps if swap not in self._certain_s]:
            passed_s = time.monotonic() - self._started_s
            if passed_s > _PATIENCE_S:
                raise TimeoutError(f"no swap: {waiting}")
            for swap in waiting:
                self._look(swap, passed_s)
            time.sleep(_PAUSE_S)
        return [(self._reordered_s[swap], self._certain_s[swap]) for swap in self._swaps]

    def _look(self, swap: Swap, passed_s: float) -> None:
        ratio = swap.ratio(self._testbed)
        if ratio <= 1:
            self._reordered_s.pop(swap, None)
        else:
            self._reordered_s.setdefault(swap, passed_s)
        if ratio > EQUAL_RATIO:
            self._certain_s[swap] = passed_s
