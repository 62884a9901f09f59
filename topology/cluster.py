"""The topology of the cluster as one node knows it: labels and measurements in, snapshots out.

Owns the placements and the estimators, and combines them with the zones' votes, the witnesses and the
graph. Recording a change is cheap. `refresh` makes the snapshot that everybody reads, and does work only
for the nodes and zones that changed. Pure: no I/O. All times are seconds of one monotonic clock.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from topology.graph import TopologyGraph
from topology.inference import border_of, contradiction, infer_zone
from topology.interning import Interned
from topology.labels import LabelProblem, complete
from topology.placement import NodeName, Path, Placement, Tier, ZoneKey, relation
from topology.rtt import Estimate, blend, clamped, is_plausible
from topology.samples import OwnSamples
from topology.snapshot import (
    PRIORS_US,
    SEED_BITS,
    Snapshot,
    Source,
    Standing,
    cost_steps,
    seed_of,
    tier_key,
)
from topology.witnesses import Witnesses
from topology.zones import REPORT_NODES_MAX, REPORT_ZONES_MAX, Report, ZoneMatrix, ends_of

_REVIEW_NODES = 64  # nodes that each refresh checks only because their estimates and reports age
_WORTH = 1.1  # a smaller change of a zone's cost would not change anybody's choice
_SLOW = 1.25  # a node's own report counts if it is slower than its zone's median by this factor
_REPORT_LEAST_S = 600.0  # a report counts at least for this time, however often peers report
_REPORTS_KEPT = 4  # and for this many intervals: a few reports in a row may be late or lost
_EXPIRE_S = 10.0  # how often old votes are dropped and the usual costs between regions are recomputed


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """``window_s``, ``half_life_s``: see `RttEstimator`. ``report_ttl_s``: how long a report counts."""

    window_s: float = 20.0
    half_life_s: float = 120.0
    report_ttl_s: float = _REPORT_LEAST_S


def report_ttl_s(report_s: float) -> float:
    """How long a peer's report counts, if peers report every ``report_s`` seconds."""
    return max(_REPORT_LEAST_S, _REPORTS_KEPT * report_s)


@dataclass(slots=True)
class _Pending:
    """What changed since the last snapshot. ``members``: whether any node came, left or moved."""

    nodes: set[NodeName] = field(
        default_factory=set
    )  # nodes that came, moved, were measured or reported about
    gone: set[NodeName] = field(default_factory=set)
    zones: set[ZoneKey] = field(default_factory=set)  # zones in which a node was measured
    members: bool = True


class ClusterTopology:
    """Where every node is and how far away, as seen from ``own``."""

    def __init__(self, *, own: NodeName, placement: Placement, timing: Timing | None = None) -> None:
        self._own = own
        self._timing = timing or Timing()
        self._labels: dict[NodeName, Placement] = {own: placement}
        self._labelled: dict[NodeName, Placement] = {}  # completed with what other labels imply
        self._placements: dict[NodeName, Placement] = {}  # and with inferred zones
        self._zone_nodes: dict[ZoneKey, set[NodeName]] = {}
        self._inferred: dict[NodeName, ZoneKey] = {}
        self._suspects: dict[NodeName, str] = {}
        self._samples = OwnSamples(window_s=self._timing.window_s, half_life_s=self._timing.half_life_s)
        self._witnesses = Witnesses(ttl_s=self._timing.report_ttl_s)
        self._matrix = ZoneMatrix(ttl_s=self._timing.report_ttl_s)
        self._graph = TopologyGraph()
        self._level_us: dict[int, float] = {}  # the median to this zone's peers, by shared steps
        self._zone_costs: dict[ZoneKey, tuple[float, Source]] = {}
        self._problems: tuple[LabelProblem, ...] = ()
        self._shared_placements = Interned[Placement]()
        self._shared_zones = Interned[ZoneKey]()
        self._seeds: dict[NodeName, int] = {}
        self._standings: dict[NodeName, Standing] = {}
        self._keys: dict[NodeName, int] = {}
        self._pending = _Pending()
        self._stood_at: Path | None = None  # this node's path when the standings were made
        self._generation = 0
        self._pairs_learned = 0
        self._to_review: list[NodeName] = []
        self._expired_s = float("-inf")
        self._snapshot = self.update({}, 0.0)

    @property
    def snapshot(self) -> Snapshot:
        """The latest snapshot. `refresh` makes a newer one."""
        return self._snapshot

    @property
    def graph(self) -> TopologyGraph:
        """The graph behind the snapshots."""
        return self._graph

    @property
    def zone_costs(self) -> Mapping[ZoneKey, tuple[float, Source]]:
        """The cost from this node's zone to each zone, and where it comes from. Empty without a zone."""
        return self._zone_costs

    def update(
        self, placements: Mapping[NodeName, Placement], now_s: float, *, own: Placement | None = None
    ) -> Snapshot:
        """Replace the labelled placements of all peers. Returns the new snapshot.

        ``own``: where this node is from now on. None: it has not moved. O(nodes) comparisons, and O(depth)
        for each node that came, left or moved. Measurements of nodes that stay are kept.
        """
        labels = {**placements, self._own: own or self._labels[self._own]}
        if labels[self._own] != self._labels[self._own]:
            self._matrix.forget((self._own,))  # its votes were for another zone
        if labels == self._labels and self._labelled:
            return self.refresh(now_s)
        gone = self._labels.keys() - labels.keys()
        self._pending.gone |= gone
        self._forget_members(gone)
        self._labels = labels
        self._labelled, self._problems = complete(labels, self._shared_placements.of)
        self._seeds.update((node, seed_of(node)) for node in labels.keys() - self._seeds.keys())
        for node, placement in self._labelled.items():
            if self._placements.get(node) is placement:
                continue  # it is where it was, and its labels say so
            if placement.zone is not None and self._inferred.pop(node, None) is not None:
                self._pending.nodes.add(node)
            whole = placement.with_zone(self._inferred.get(node))
            if self._placements.get(node) != whole:
                self._place(node, whole)
                self._pending.nodes.add(node)
        self._generation += 1
        self._pending.members = True
        self._pending.nodes.update(self._inferred, self._suspects)
        return self.refresh(now_s)

    def sample(self, node: NodeName, rtt_us: float, now_s: float) -> bool:
        """Record a round trip that this node's kernel measured. False if the value can't be true."""
        if not is_plausible(rtt_us) or node not in self._labels or node == self._own:
            return False
        crowded_out = self._samples.add(node, rtt_us, now_s)
        if crowded_out is not None:
            self._forget(crowded_out)
        self._pending.nodes.add(node)
        zone = self._placements[node].zone_key
        if zone is not None:
            self._pending.zones.add(zone)
        return True

    def add_report(self, reporter: NodeName, report: Report, now_s: float) -> int:
        """Record a peer's report. Returns how many of its values were absurd, and so clamped or dropped.

        The reporter's zone comes from the membership, not from the report.
        """
        if reporter not in self._labels or reporter == self._own:
            return 0
        absurd = 0
        zones: dict[ZoneKey, float] = {}
        own_zone = self._labelled[reporter].zone_key
        for zone, rtt_us in report.zones.items():
            plausible = clamped(rtt_us)
            absurd += plausible != rtt_us
            if plausible is None or zone not in self._zone_nodes:
                continue
            zones[self._shared_zones.of(zone)] = plausible
            if own_zone is not None:
                self._matrix.vote(reporter, own_zone, zone, plausible, now_s)
        self._witnesses.add_medians(reporter, zones, now_s)
        self._pending.nodes.add(reporter)
        for node, rtt_us in report.nodes.items():
            plausible = clamped(rtt_us)
            absurd += plausible != rtt_us
            if plausible is None or node not in self._labels or node == reporter:
                continue
            self._pending.nodes.add(node)
            if own_zone is not None:  # else it is no evidence of where the node is
                self._witnesses.add_mention(reporter, node, plausible, now_s)
        return absurd

    def estimate(self, node: NodeName, now_s: float) -> Estimate | None:
        """The estimate for a peer from this node's own samples. None without samples."""
        return self._samples.estimate(node, now_s)

    def report(self, now_s: float, *, load: int = 0) -> Report:
        """What this node reports to its peers. Bounded: see `topology.zones`. O(measured peers).

        If the zones do not fit, each node reports a different subset, so that every zone is reported by
        some node. Single nodes are reported if their labels do not say enough: nodes without a zone, and
        nodes whose latency contradicts their label.
        """
        zones = self._own_medians(self._zone_nodes, now_s)
        if len(zones) > REPORT_ZONES_MAX:
            chosen = sorted(zones, key=lambda zone: seed_of(f"{self._own}\0{zone}"))[:REPORT_ZONES_MAX]
            zones = {zone: zones[zone] for zone in chosen}
        nodes: dict[NodeName, float] = {}
        for node in self._samples.nodes():
            if len(nodes) == REPORT_NODES_MAX:
                break
            if node in self._suspects or self._labelled[node].zone is None:
                estimate = self.estimate(node, now_s)
                if estimate is not None and estimate.is_sure:
                    nodes[node] = estimate.low_us
        return Report(zones=zones, nodes=nodes, load=load)

    def refresh(self, now_s: float) -> Snapshot:
        """Make the snapshot for now.

        O(nodes that came, left, moved, were measured or reported + nodes of the zones whose cost changed by
        `_WORTH`), plus a copy of two tables. O(nodes) after this node itself moved.
        """
        pending, self._pending = self._pending, _Pending(members=False)
        expiring = not 0 <= now_s - self._expired_s < _EXPIRE_S
        if expiring:
            self._expired_s = now_s
            self._matrix.expire(now_s)
        pending.nodes.update(self._review(now_s))
        self._vote(self._zone_nodes if pending.members else pending.zones, now_s)
        if pending.nodes:
            pending.members |= self._judge({*pending.nodes, self._own}, now_s)
        learned = False
        if expiring or pending.members or len(self._matrix.pairs()) != self._pairs_learned:
            learned = self._learn_regions()
        moved = self._settle_zones(now_s, everything=pending.members, learned=learned)
        own_path = self._placements[self._own].path
        if own_path != self._stood_at:
            self._standings, self._keys, self._stood_at = {}, {}, own_path
            affected: Iterable[NodeName] = self._placements
        else:
            affected = pending.nodes.union(*(self._zone_nodes.get(zone, ()) for zone in moved))
            if affected or pending.gone:
                self._standings, self._keys = dict(self._standings), dict(self._keys)
        for node in pending.gone - self._placements.keys():
            self._standings.pop(node, None)
            self._keys.pop(node, None)
        for node in affected:
            self._stand(node, now_s)
        self._snapshot = Snapshot(
            own=self._own,
            standings=self._standings,
            keys=self._keys,
            zones={zone: len(nodes) for zone, nodes in self._zone_nodes.items()},
            problems=self._problems,
            made_s=now_s,
            generation=self._generation,
        )
        return self._snapshot

    def matrix_row(self, one: ZoneKey) -> Mapping[ZoneKey, tuple[float, Source]]:
        """The cost from one zone to each zone, and where it comes from. See `TopologyGraph.zone_costs`."""
        own_zone = self._placements[self._own].zone_key
        return self._costs_from(one) if one == own_zone else self._graph.zone_costs(one, self._zone_nodes)

    def between_us(self, one: ZoneKey | None, other: ZoneKey | None) -> float:
        """The round trip between any two zones: the measured one, or the usual one. O(1)."""
        if one is None or other is None:
            return PRIORS_US[Tier.ZONE if one == other else Tier.REMOTE]
        return self._zone_rtt_us(one, other)

    def is_own_vote(self, one: ZoneKey, other: ZoneKey) -> bool:
        """Whether this node itself measured a round trip between the two zones."""
        return self._matrix.vote_us(self._own, one, other) is not None

    def _forget_members(self, gone: Collection[NodeName]) -> None:
        """Drop all that is known about nodes that left, and their reports about others."""
        if not gone:
            return
        for node in gone:
            self._graph.remove(node)
            self._leave_zone(node)
            del self._placements[node]
            self._samples.forget(node)
            self._inferred.pop(node, None)
            self._suspects.pop(node, None)
            self._seeds.pop(node, None)
        self._witnesses.forget(gone)
        self._matrix.forget(gone)

    def _review(self, now_s: float) -> list[NodeName]:
        """The next few nodes to check again. Estimates and reports age without any event."""
        if not self._to_review:
            self._to_review = list(self._samples.nodes() | self._witnesses.reported_nodes)
        nodes, self._to_review = self._to_review[:_REVIEW_NODES], self._to_review[_REVIEW_NODES:]
        self._witnesses.expire(nodes, now_s)
        for node in nodes:
            if node in self._samples.nodes() and self.estimate(node, now_s) is None:
                self._forget(node)
        return nodes

    def _forget(self, node: NodeName) -> None:
        """Drop what this node measured to another node."""
        self._samples.forget(node)
        self._graph.measure(self._own, node, None)
        self._pending.nodes.add(node)

    def _place(self, node: NodeName, placement: Placement) -> None:
        self._leave_zone(node)
        self._placements[node] = placement
        if placement.zone_key is not None:
            self._zone_nodes.setdefault(placement.zone_key, set()).add(node)
        self._graph.place(node, placement.path)

    def _leave_zone(self, node: NodeName) -> None:
        placement = self._placements.get(node)
        if placement is None or placement.zone_key is None:
            return
        others = self._zone_nodes[placement.zone_key]
        others.discard(node)
        if not others:
            del self._zone_nodes[placement.zone_key]

    def _vote(self, zones: Iterable[ZoneKey], now_s: float) -> None:
        """Add this node's own votes for the zones in which it measured something."""
        own_zone = self._placements[self._own].zone_key
        if own_zone is None:
            return
        for zone, median_us in self._own_medians(zones, now_s).items():
            self._matrix.vote(self._own, own_zone, zone, median_us, now_s)

    def _own_medians(self, zones: Iterable[ZoneKey], now_s: float) -> dict[ZoneKey, float]:
        medians: dict[ZoneKey, float] = {}
        for zone in zones:
            fresh = [
                estimate.low_us
                for node, estimate in self._samples.fresh(self._zone_nodes.get(zone, set()), now_s)
                if node not in self._inferred
            ]
            if fresh:
                medians[zone] = statistics.median_low(fresh)
        return medians

    def _judge(self, nodes: Iterable[NodeName], now_s: float) -> bool:
        """Infer the zones of unlabelled nodes, and check the labels of the others. Whether any node moved."""
        border_us: Callable[[ZoneKey], float] = cache(
            lambda zone: border_of(zone, self._zone_nodes, self._zone_rtt_us)
        )
        moved = False
        for node in nodes:
            labelled = self._labelled.get(node)
            if labelled is None:
                continue
            evidence = self._evidence(node, now_s)
            if labelled.zone_key is not None:
                reason = contradiction(
                    labelled.zone_key, evidence, border_us, self._zone_rtt_us, suspect=node in self._suspects
                )
                if reason is None:
                    self._suspects.pop(node, None)
                else:
                    self._suspects[node] = reason
                continue
            if labelled.region is not None:
                evidence = {zone: us for zone, us in evidence.items() if zone.region == labelled.region}
            current = self._inferred.get(node)
            zone = infer_zone(evidence, border_us, current)
            if zone != current:
                moved = True
                self._infer(node, zone)
        return moved

    def _infer(self, node: NodeName, zone: ZoneKey | None) -> None:
        if zone is None:
            del self._inferred[node]
        else:
            self._inferred[node] = zone
        self._place(node, self._labelled[node].with_zone(zone))
        self._generation += 1

    def _evidence(self, node: NodeName, now_s: float) -> Mapping[ZoneKey, float]:
        if node == self._own:
            return self._own_medians(self._zone_nodes, now_s)
        own_zone, estimate = self._labelled[self._own].zone_key, self.estimate(node, now_s)
        own = None
        if own_zone is not None and estimate is not None and estimate.is_sure:
            own = own_zone, estimate.low_us
        return self._witnesses.evidence(node, now_s, zone_of=self._labelled_zone, own=own)

    def _labelled_zone(self, node: NodeName) -> ZoneKey | None:
        placement = self._labelled.get(node)
        return None if placement is None else placement.zone_key

    def _zone_rtt_us(self, one: ZoneKey, other: ZoneKey) -> float:
        measured = self._matrix.rtt_us(one, other)
        return self._graph.usual_us(one, other) if measured is None else measured

    def _settle_zones(self, now_s: float, *, everything: bool, learned: bool) -> Collection[ZoneKey]:
        """Update the zones of the graph. Returns the zones whose cost changed by `_WORTH` or more.

        ``learned``: the usual costs between regions changed, and so did the costs of unmeasured zones.
        """
        changed = self._matrix.take_changed()
        if everything:
            changed.update(self._matrix.pairs())
        elif not changed and not learned:
            return ()
        for pair in changed:
            one, other = ends_of(pair)
            self._graph.join_zones(one, other, self._matrix.rtt_us(one, other))
        own_zone = self._placements[self._own].zone_key
        costs = {} if own_zone is None else self._costs_from(own_zone)
        moved = {zone for zone, cost in costs.items() if _moved(self._zone_costs.get(zone), cost)}
        self._zone_costs = {zone: costs[zone] if zone in moved else self._zone_costs[zone] for zone in costs}
        if own_zone is not None and (everything or any(own_zone in pair for pair in changed)):
            levels = self._level_medians(now_s)
            if levels.keys() != self._level_us.keys() or any(
                _differ(self._level_us[shared], us) for shared, us in levels.items()
            ):
                self._level_us = levels
                moved.add(own_zone)
        return moved

    def _costs_from(self, own_zone: ZoneKey) -> dict[ZoneKey, tuple[float, Source]]:
        """The cost from this node's zone to each zone. This node's own measurements override the votes of
        others: they include this node's own way into the network.
        """
        costs = self._graph.zone_costs(own_zone, self._zone_nodes)
        for zone in costs:
            own_us = self._matrix.vote_us(self._own, own_zone, zone)
            if own_us is not None:
                costs[zone] = own_us, Source.ZONE_PAIR
        return costs

    def _learn_regions(self) -> bool:
        """Recompute the usual costs between regions, which stand in for unmeasured pairs of zones. Whether
        any changed.
        """
        self._pairs_learned = len(self._matrix.pairs())
        return self._graph.set_region_costs(self._matrix.region_medians())

    def _level_medians(self, now_s: float) -> dict[int, float]:
        """The median round trip to the peers of this zone, by the number of shared steps."""
        own = self._placements[self._own]
        if own.zone_key is None or not own.finer:
            return {}
        measured: dict[int, list[float]] = defaultdict(list)
        for node, estimate in self._samples.fresh(self._zone_nodes.get(own.zone_key, set()), now_s):
            _, shared = relation(own.path, self._placements[node].path)
            measured[shared].append(estimate.low_us)
        return {shared: statistics.median_low(values) for shared, values in measured.items()}

    def _stand(self, node: NodeName, now_s: float) -> None:
        """Recompute a node's standing."""
        placement = self._placements.get(node)
        if placement is None:
            return
        path = placement.path
        estimate = None
        if node == self._own:
            tier, shared = Tier.NODE, len(path)
            cost_us, source = 0.0, Source.SELF
        else:
            tier, shared = relation(self._placements[self._own].path, path)
            cost_us, source = self._unmeasured(node, placement.zone_key, tier, shared, now_s)
            estimate = self.estimate(node, now_s)
            if estimate is not None:
                weight = estimate.weight_against(cost_us)
                cost_us = blend(estimate.low_us, cost_us, weight)
                source = Source.MEASURED if weight >= 0.5 else source
            self._graph.measure(self._own, node, None if estimate is None else cost_us)
        self._standings[node] = Standing(
            placement=placement,
            tier=tier,
            shared=shared,
            cost_us=cost_us,
            source=source,
            estimate=estimate,
            inferred=node in self._inferred,
            suspect=self._suspects.get(node),
        )
        place = tier_key(tier, path, shared) + cost_steps(cost_us)
        self._keys[node] = place << SEED_BITS | self._seeds[node]

    def _unmeasured(
        self, node: NodeName, zone: ZoneKey | None, tier: Tier, shared: int, now_s: float
    ) -> tuple[float, Source]:
        """The cost of a node by its labels and by others' measurements, without this node's own samples."""
        zone_cost = None if zone is None else self._zone_costs.get(zone)
        if tier is Tier.RACK and shared in self._level_us:
            cost_us, source = self._level_us[shared], Source.ZONE_PAIR
        else:
            cost_us, source = zone_cost or (PRIORS_US[tier], Source.PRIOR)
        own_zone = self._placements[self._own].zone_key
        if zone_cost is not None and own_zone is not None:
            # A node may report that it is slow, but not that it is fast: else it could attract all pulls.
            reported_us = self._witnesses.reported_median_us(node, own_zone, now_s)
            if reported_us is not None and reported_us > zone_cost[0] * _SLOW:
                return cost_us * reported_us / zone_cost[0], Source.SAYS_SLOWER
        return cost_us, source


def _moved(before: tuple[float, Source] | None, after: tuple[float, Source]) -> bool:
    """Whether a zone's cost changed enough to recompute the standings of its nodes."""
    return before is None or before[1] is not after[1] or _differ(before[0], after[0])


def _differ(before_us: float, after_us: float) -> bool:
    return not before_us / _WORTH <= after_us <= before_us * _WORTH
