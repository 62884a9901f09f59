"""How this node regards each peer: who failed, who is full or busy, who is not trusted with what. Pure.

Owns what pulls and look-ups learned of peers, for all of them together. Knows neither where a peer is
(`agent.members.roster`) nor how it is asked. Times are seconds of one monotonic clock.
"""

from collections.abc import Collection, Iterable, Iterator

from agent.pull.cooloff import CoolOff
from agent.pull.trust import Trust
from topology.placement import NodeName
from topology.ranking import Condition


class Regard:
    """One node's regard for the members that `members_changed` names. Nothing is kept of anyone else.

    ``cooloff_s``: how long a peer that failed is left alone. It doubles with each failure in a row, up to
    ``cooloff_max_s``. ``load_ttl_s``: how long a load counts that a peer reported: two of its reports.
    ``trust``: who is not asked for which content.
    """

    def __init__(
        self,
        *,
        cooloff_s: float,
        cooloff_max_s: float = 80.0,
        load_ttl_s: float = 30.0,
        trust: Trust | None = None,
    ) -> None:
        self.trust = trust or Trust()
        self._cooloff = CoolOff(first_s=cooloff_s, most_s=cooloff_max_s)
        self._load_ttl_s = load_ttl_s
        self._members: frozenset[NodeName] = frozenset()
        self._saturated_until_s: dict[NodeName, float] = {}
        self._reported: dict[NodeName, tuple[int, float]] = {}  # uploads, and when the peer said so
        self._fetching: dict[NodeName, int] = {}  # bodies that this node fetches from it

    def members_changed(self, members: Iterable[NodeName]) -> None:
        """Regard these peers and no others."""
        self._members = frozenset(members)
        self._cooloff.keep_only(self._members)
        for known in (self._saturated_until_s, self._reported, self._fetching):
            for node in known.keys() - self._members:
                del known[node]

    def failed(self, node: NodeName, now_s: float) -> None:
        """The peer did not answer or broke off: it is the last resort for a while."""
        if node in self._members:
            self._cooloff.failed(node, now_s)

    def saturated(self, node: NodeName, wait_s: float, now_s: float) -> None:
        """The peer is well but has no capacity for ``wait_s``: the others come first for so long."""
        if node in self._members:
            self._saturated_until_s[node] = now_s + wait_s

    def served(self, node: NodeName) -> None:
        """The peer gave a body to its end: it is well. First bytes, or answers, would not prove as much."""
        self._cooloff.succeeded(node)
        self._saturated_until_s.pop(node, None)

    def reported_load(self, node: NodeName, load: int, now_s: float) -> None:
        """The peer says how many bodies it sends now."""
        if node in self._members:
            self._reported[node] = (load, now_s)

    def fetching(self, node: NodeName, change: int) -> None:
        """This node began (+1) or ended (-1) to fetch a body from the peer."""
        count = self._fetching.get(node, 0) + change
        if count > 0 and node in self._members:
            self._fetching[node] = count
        else:
            self._fetching.pop(node, None)

    def cooling(self, now_s: float) -> Iterator[NodeName]:
        """The peers that failed a moment ago."""
        return self._cooloff.resting(now_s)

    def cooling_s(self, node: NodeName, now_s: float) -> float:
        """How long the peer is still left alone; 0 for one that is well."""
        return self._cooloff.left_s(node, now_s)

    def is_cooling(self, node: NodeName, now_s: float) -> bool:
        """Whether the peer failed a moment ago."""
        return self.cooling_s(node, now_s) > 0

    def conditions(self, now_s: float) -> dict[NodeName, Condition]:
        """The condition of each peer that is not well and idle."""
        self._expire(now_s)
        cooling = frozenset(self.cooling(now_s))
        names = {*cooling, *self._saturated_until_s, *self._reported, *self._fetching}
        conditions = {node: self._condition(node, cooling) for node in names}
        return {node: condition for node, condition in conditions.items() if any(condition)}

    def _condition(self, node: NodeName, cooling: Collection[NodeName]) -> Condition:
        # What this node fetches is part of what the peer reports, a moment later.
        load = max(self._reported.get(node, (0, 0.0))[0], self._fetching.get(node, 0))
        return Condition(load=load, saturated=node in self._saturated_until_s, cooling=node in cooling)

    def _expire(self, now_s: float) -> None:
        for node, (_, reported_s) in [*self._reported.items()]:
            if not 0 <= now_s - reported_s <= self._load_ttl_s:
                del self._reported[node]
        for node, until_s in [*self._saturated_until_s.items()]:
            if now_s >= until_s:
                del self._saturated_until_s[node]
