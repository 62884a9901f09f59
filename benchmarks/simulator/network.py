"""The network as a fluid: bodies that cross links, in steps of a quantum.

A node's link has two directions. A zone may have an uplink, which all that crosses its border goes through.
Each step gives each body its max-min fair rate, and no more than its source has: a source that is still
fetching the content itself has what it had when the step began. Bytes are whole numbers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.simulator.fairness import max_min

REGISTRY = -1
"""The registry, as a source."""

_GROWTH = 1024
_ROUNDS_MAX = 60


@dataclass(slots=True, eq=False)
class Flow:
    """A body on its way. ``slot``: its place in the tables; -1: it ended. ``owner``: who is told of it."""

    slot: int
    source: int
    node: int
    content: int
    owner: object


class Network:
    """``nics``: the rate of each node. ``uplinks``: of each zone; infinity: no limit.

    ``have[content, node]``: how many bytes each node has; it is this room's, and others read it.
    """

    def __init__(
        self,
        *,
        nics: npt.NDArray[np.float64],
        zones: npt.NDArray[np.int64],
        uplinks: npt.NDArray[np.float64],
        registry_bytes_per_s: float,
        sizes: npt.NDArray[np.int64],
    ) -> None:
        self.nodes, self.sizes = len(nics), sizes
        self._zone_of: list[int] = zones.tolist()
        links = len(uplinks)
        # up, down, zones out, zones in, the registry, and a link without a limit
        self._capacity = np.concatenate(
            (nics, nics, uplinks, uplinks, [registry_bytes_per_s, np.inf]),
        )
        self._out, self._in = 2 * self.nodes, 2 * self.nodes + links
        self._registry = self._in + links
        self._free_link = self._registry + 1
        self._nics = nics.copy()
        self.have = np.zeros((len(sizes), self.nodes), dtype=np.int64)
        self._flat = self.have.reshape(-1)
        self.flows: list[Flow] = []
        self._room = 0
        self._source = np.zeros(0, dtype=np.int64)
        self._at = np.zeros(0, dtype=np.int64)  # where the receiver's bytes are counted
        self._from = np.zeros(0, dtype=np.int64)  # where the source's are
        self._size = np.zeros(0, dtype=np.int64)
        self._limit = np.zeros(0)
        self._moved = np.zeros(0, dtype=np.int64)
        self._moved_s = np.zeros(0)
        self._patience_s = np.zeros(0)
        self._look_s = np.zeros(0)
        self._ways = np.zeros((4, 0), dtype=np.intp)
        self._lanes: dict[int, int] = {}  # how many bodies a receiver gets of one content, if several
        self.steps = 0

    def set_rate(self, node: int, factor: float) -> None:
        """The node's link has this part of its rate. 0: nothing moves."""
        self._capacity[node] = self._capacity[self.nodes + node] = self._nics[node] * factor

    def set_uplink(self, zone: int, bytes_per_s: float) -> None:
        """The zone's link to everything outside."""
        self._capacity[self._out + zone] = self._capacity[self._in + zone] = bytes_per_s

    def open(
        self,
        source: int,
        node: int,
        content: int,
        owner: object,
        *,
        limit: float,
        now_s: float,
        patience_s: float,
        look_s: float,
    ) -> Flow:
        """A body begins to flow. ``limit``: bytes per second that it can't exceed.

        ``patience_s``: after so long without a byte it stalls. ``look_s``: when to report its progress next.
        """
        slot = len(self.flows)
        if slot == self._room:
            self._grow()
        flow = Flow(slot, source, node, content, owner)
        self.flows.append(flow)
        at = content * self.nodes + node
        self._source[slot], self._at[slot] = source, at
        self._from[slot] = at if source == REGISTRY else content * self.nodes + source
        self._size[slot], self._limit[slot] = self.sizes[content], limit
        self._moved[slot], self._moved_s[slot] = 0, now_s
        self._patience_s[slot], self._look_s[slot] = patience_s, look_s
        self._ways[:, slot] = self._way(source, node)
        self._lanes[at] = self._lanes.get(at, 0) + 1
        return flow

    def close(self, flow: Flow) -> int:
        """The body ends. Returns how many bytes it carried."""
        slot, last = flow.slot, len(self.flows) - 1
        moved = int(self._moved[slot])
        at = int(self._at[slot])
        self._lanes[at] -= 1
        if not self._lanes[at]:
            del self._lanes[at]
        if slot != last:
            for table in (self._source, self._at, self._from, self._size, self._limit, self._moved):
                table[slot] = table[last]
            for times in (self._moved_s, self._patience_s, self._look_s):
                times[slot] = times[last]
            self._ways[:, slot] = self._ways[:, last]
            self.flows[slot] = self.flows[last]
            self.flows[slot].slot = slot
        self.flows.pop()
        flow.slot = -1
        return moved

    def moved_bytes(self, flow: Flow) -> int:
        """How many bytes the body carried until now."""
        return int(self._moved[flow.slot])

    def flows_from(self, node: int, content: int) -> list[Flow]:
        """The bodies of a content that a node sends."""
        number = len(self.flows)
        there = content * self.nodes + node
        sent = (self._source[:number] == node) & (self._from[:number] == there)
        return [self.flows[each] for each in np.flatnonzero(sent)]

    def sending(self) -> npt.NDArray[np.int64]:
        """How many bodies each node sends now."""
        sources = self._source[: len(self.flows)]
        return np.bincount(sources[sources >= 0], minlength=self.nodes)

    def look_again(self, flow: Flow, at_s: float) -> None:
        """Report its progress at this time."""
        self._look_s[flow.slot] = at_s

    def step(self, now_s: float, quantum_s: float) -> tuple[list[Flow], list[Flow], list[Flow]]:
        """Everything flows for a quantum from ``now_s`` on.

        Returns the bodies that are whole, those that stalled, and those whose progress is to be reported.
        """
        number = len(self.flows)
        if not number:
            return [], [], []
        self.steps += 1
        at, size = self._at[:number], self._size[:number]
        had = self._flat[at]
        there = np.where(self._source[:number] == REGISTRY, size, self._flat[self._from[:number]])
        room = np.minimum(there, size) - had
        np.maximum(room, 0, out=room)
        limits = np.minimum(self._limit[:number], room / quantum_s)
        rates = max_min(limits, self._ways[:, :number], self._capacity, rounds_max=_ROUNDS_MAX)
        moved = np.minimum(np.ceil(rates * quantum_s - 1e-6).astype(np.int64), room)
        if len(self._lanes) < number:
            self._add_lanes(at, moved, size)
        else:
            self._flat[at] = had + moved
        self._moved[:number] += moved
        end_s = now_s + quantum_s
        moved_s = self._moved_s[:number]
        moved_s[moved > 0] = end_s
        whole = np.flatnonzero(self._flat[at] >= size)
        stalled = np.flatnonzero(end_s - moved_s >= self._patience_s[:number])
        due = np.flatnonzero(self._look_s[:number] <= end_s)
        flows = self.flows
        return (
            [flows[each] for each in whole],
            [flows[each] for each in stalled],
            [flows[each] for each in due],
        )

    def _add_lanes(
        self, at: npt.NDArray[np.int64], moved: npt.NDArray[np.int64], size: npt.NDArray[np.int64]
    ) -> None:
        """Where some receivers get one content from several sources: together no more than is left."""
        order = np.argsort(at, kind="stable")
        place = at[order]
        first = np.flatnonzero(np.concatenate(([True], place[1:] != place[:-1])))
        group = np.repeat(np.arange(len(first)), np.diff(np.concatenate((first, [len(place)]))))
        before = np.cumsum(moved[order]) - moved[order]
        before -= before[first][group]
        left = (size[order] - self._flat[place]) - before
        moved[order] = np.minimum(moved[order], np.maximum(left, 0))
        np.add.at(self._flat, at, moved)

    def _way(self, source: int, node: int) -> tuple[int, int, int, int]:
        down = self.nodes + node
        if source == REGISTRY:
            return self._registry, self._free_link, self._in + self._zone_of[node], down
        one, other = self._zone_of[source], self._zone_of[node]
        if one == other:
            return source, self._free_link, self._free_link, down
        return source, self._out + one, self._in + other, down

    def _grow(self) -> None:
        self._room = max(_GROWTH, 2 * self._room)
        for name in (
            "_source",
            "_at",
            "_from",
            "_size",
            "_limit",
            "_moved",
            "_moved_s",
            "_patience_s",
            "_look_s",
        ):
            table = getattr(self, name)
            grown = np.zeros(self._room, dtype=table.dtype)
            grown[: len(table)] = table
            setattr(self, name, grown)
        ways = np.zeros((4, self._room), dtype=np.intp)
        ways[:, : self._ways.shape[1]] = self._ways
        self._ways = ways
