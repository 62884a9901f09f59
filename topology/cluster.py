"""The topology of the cluster as one node knows it: labels and measurements in, snapshots out.

Owns all of its mutable state: placements, estimators, the zones' votes, the graph. Changes are taken
as they come and cost little; `refresh` makes the snapshot that everybody reads, and works only on
what changed. Pure: no I/O, all times are seconds of one monotonic clock.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from topology.graph import PRIORS_US, TopologyGraph
from topology.inference import contradiction, infer_zone
from topology.labels import LabelProblem, complete
from topology.placement import Locality, NodeName, Placement, ZoneKey, meeting
from topology.rtt import Estimate, RttEstimator, blend, clamped, is_plausible
from topology.snapshot import SEED_BITS, Snapshot, Source, Standing, cost_steps, seed_of, tier_key
from topology.zones import Report, Vote, ZoneMatrix

_ESTIMATORS_MAX = 4096
_MENTIONS_MAX = 32  # nodes in a report, and reporters remembered for a node
_REPORT_ZONES_MAX = 64
_SURE_SAMPLES = 3  # fewer could all be spikes: nothing is inferred from them
_REVIEW_NODES = 64  # looked at again in each refresh for their age alone
_WORTH = 1.1  # a zone that came nearer by less changes nobody's choice
_SLOW = 1.25  # times the zone's median from which on a node's word about itself counts
_EXPIRE_S = 10.0  # how often old votes are looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """``window_s``, ``half_life_s``: see `RttEstimator`. ``report_ttl_s``: how long a peer's word counts."""

    window_s: float = 20.0
    half_life_s: float = 120.0
    report_ttl_s: float = 600.0


@dataclass(slots=True)
class _Pending:
    """What changed since the last snapshot."""

    nodes: set[NodeName] = field(default_factory=set)  # measured, or mentioned by a peer
    zones: set[ZoneKey] = field(default_factory=set)  # in which a node was measured
    everything: bool = True


class ClusterTopology:
    """Where every node is and how far away, as seen from ``own``."""

    def __init__(self, *, own: NodeName, placement: Placement, timing: Timing | None = None) -> None:
        self._own = own
        self._timing = timing or Timing()
        self._labelled: dict[NodeName, Placement] = {own: placement}
        self._placements: dict[NodeName, Placement] = {}  # completed, with what was inferred
        self._zone_nodes: dict[ZoneKey, set[NodeName]] = {}
        self._inferred: dict[NodeName, ZoneKey] = {}
        self._suspects: dict[NodeName, str] = {}
        self._estimators: dict[NodeName, RttEstimator] = {}
        self._told: dict[NodeName, tuple[Mapping[ZoneKey, float], float]] = {}  # a node's own words
        self._mentions: dict[NodeName, dict[NodeName, Vote]] = {}  # others' words about a node
        self._matrix = ZoneMatrix(own=own, ttl_s=self._timing.report_ttl_s)
        self._level_us: dict[int, float] = {}  # the median to peers that share so many steps
        self._zone_costs: dict[ZoneKey, tuple[float, Source]] = {}
        self._graph = TopologyGraph()
        self._problems: tuple[LabelProblem, ...] = ()
        self._seeds: dict[NodeName, int] = {}
        self._standings: dict[NodeName, Standing] = {}
        self._keys: dict[NodeName, int] = {}
        self._pending = _Pending()
        self._generation = 0
        self._to_review: list[NodeName] = []
        self._expired_s = float("-inf")
        self.update({}, 0.0)

    @property
    def snapshot(self) -> Snapshot:
        """The latest one; `refresh` makes a newer one."""
        return self._snapshot

    @property
    def graph(self) -> TopologyGraph:
        """The graph behind the snapshots."""
        return self._graph

    @property
    def zone_costs(self) -> Mapping[ZoneKey, tuple[float, Source]]:
        """From this node's zone to each, and where the figure comes from; empty while it has no zone."""
        return self._zone_costs

    def update(self, placements: Mapping[NodeName, Placement], now_s: float) -> Snapshot:
        """Take the placements of all peers, by their labels; the snapshot for it.

        O(nodes × depth); what was measured of the nodes that stay is kept.
        """
        gone = self._labelled.keys() - placements.keys() - {self._own}
        self._labelled = {**placements, self._own: self._labelled[self._own]}
        for node in gone:
            self._forget_member(node)
        completed, self._problems = complete(self._labelled)
        self._labels_completed = completed
        self._seeds = {node: self._seeds.get(node) or seed_of(node) for node in completed}
        for node, placement in completed.items():
            if placement.zone is not None:
                self._inferred.pop(node, None)
            placement = _with_zone(placement, self._inferred.get(node))
            if self._placements.get(node) != placement:
                self._place(node, placement)
        self._pending.everything = True
        self._generation += 1
        self._pending.nodes.update(self._inferred)
        self._pending.nodes.update(self._suspects)
        return self.refresh(now_s)

    def sample(self, node: NodeName, rtt_us: float, now_s: float) -> bool:
        """Take a round trip that this node's kernel measured; false for one that can't be true."""
        if not is_plausible(rtt_us) or node not in self._labelled or node == self._own:
            return False
        estimator = self._estimators.get(node)
        if estimator is None:
            estimator = RttEstimator(window_s=self._timing.window_s, half_life_s=self._timing.half_life_s)
            self._estimators[node] = estimator
            if len(self._estimators) > _ESTIMATORS_MAX:
                self._forget(next(iter(self._estimators)))
        estimator.add(rtt_us, now_s)
        pending = self._pending
        pending.nodes.add(node)
        zone = self._placements[node].zone_key
        if zone is not None:
            pending.zones.add(zone)
        return True

    def hear(self, reporter: NodeName, report: Report, now_s: float) -> int:
        """Take a peer's report. How many of its values were absurd: clamped, or left out.

        The reporter's zone is the one that the membership gives it, whatever it says itself.
        """
        if reporter not in self._labelled or reporter == self._own:
            return 0
        absurd = 0
        zones: dict[ZoneKey, float] = {}
        own_zone = self._labels_completed[reporter].zone_key
        for zone, rtt_us in report.zones.items():
            plausible = clamped(rtt_us)
            absurd += plausible != rtt_us
            if plausible is None or zone not in self._zone_nodes:
                continue
            zones[zone] = plausible
            if own_zone is not None:
                self._matrix.vote(reporter, own_zone, zone, plausible, now_s)
                self._pending.zones.add(zone)
        self._told[reporter] = zones, now_s
        self._pending.nodes.add(reporter)
        for node, rtt_us in report.nodes.items():
            plausible = clamped(rtt_us)
            absurd += plausible != rtt_us
            if plausible is None or node not in self._labelled or node == reporter:
                continue
            votes = self._mentions.setdefault(node, {})
            votes.pop(reporter, None)
            votes[reporter] = Vote(rtt_us=plausible, at_s=now_s)
            if len(votes) > _MENTIONS_MAX:
                del votes[next(iter(votes))]
            self._pending.nodes.add(node)
        return absurd

    def estimate(self, node: NodeName, now_s: float) -> Estimate | None:
        """What this node's own samples say of a peer."""
        estimator = self._estimators.get(node)
        return None if estimator is None else estimator.estimate(now_s)

    def report(self, now_s: float, *, load: int = 0) -> Report:
        """What this node can tell its peers. Bounded: `_REPORT_ZONES_MAX` zones, `_MENTIONS_MAX` nodes.

        Single nodes are mentioned where their labels don't say enough: without a zone, or suspect.
        """
        zones = self._own_medians(self._zone_nodes, now_s)
        nodes: dict[NodeName, float] = {}
        for node in self._estimators:
            if len(nodes) == _MENTIONS_MAX:
                break
            if node in self._suspects or self._labels_completed[node].zone is None:
                estimate = self.estimate(node, now_s)
                if _is_sure(estimate):
                    nodes[node] = estimate.low_us
        return Report(
            zones=dict(list(zones.items())[:_REPORT_ZONES_MAX]),
            nodes=nodes,
            load=load,
        )

    def refresh(self, now_s: float) -> Snapshot:
        """The snapshot for now. O(what changed), and O(nodes) when zones moved or members changed."""
        pending, self._pending = self._pending, _Pending(everything=False)
        if not 0 <= now_s - self._expired_s < _EXPIRE_S:
            self._expired_s = now_s
            self._matrix.expire(now_s)
        pending.nodes.update(self._review(now_s))
        self._vote(self._zone_nodes if pending.everything else pending.zones, now_s)
        moved = self._judge({*pending.nodes, self._own} if pending.nodes else (), now_s)
        self._generation += moved
        if self._settle_zones(now_s, everything=pending.everything or moved):
            self._standings, self._keys = {}, {}
            affected: Iterable[NodeName] = self._placements
        elif pending.nodes:
            self._standings, self._keys = dict(self._standings), dict(self._keys)
            affected = pending.nodes
        else:
            affected = ()
        for node in affected:
            self._stand(node, now_s)
        self._snapshot = self._make_snapshot(now_s)
        return self._snapshot

    def _review(self, now_s: float) -> list[NodeName]:
        """The next few nodes to look at again: estimates fade and words expire without any event."""
        if not self._to_review:
            self._to_review = list({**self._estimators, **self._mentions, **self._told})
        nodes, self._to_review = self._to_review[:_REVIEW_NODES], self._to_review[_REVIEW_NODES:]
        for node in nodes:
            if node in self._estimators and self.estimate(node, now_s) is None:
                self._forget(node)
        return nodes

    def _forget_member(self, node: NodeName) -> None:
        """Forget all that is known of a node that left, and what it said of others."""
        self._graph.remove(node)
        self._leave_zone(node)
        del self._placements[node]
        known: tuple[dict[NodeName, Any], ...] = (
            self._estimators,
            self._told,
            self._mentions,
            self._inferred,
            self._suspects,
        )
        for each in known:
            each.pop(node, None)
        for votes in self._mentions.values():
            votes.pop(node, None)
        self._matrix.forget(node)

    def _forget(self, node: NodeName) -> None:
        del self._estimators[node]
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
        """Add this node's own word about the zones in which it measured something."""
        own_zone = self._labels_completed[self._own].zone_key or self._inferred.get(self._own)
        if own_zone is None:
            return
        for zone, median_us in self._own_medians(zones, now_s).items():
            self._matrix.vote(self._own, own_zone, zone, median_us, now_s)

    def _own_medians(self, zones: Iterable[ZoneKey], now_s: float) -> dict[ZoneKey, float]:
        medians: dict[ZoneKey, float] = {}
        for zone in zones:
            measured = self._estimators.keys() & self._zone_nodes.get(zone, set())
            fresh = [
                estimate.low_us
                for node in measured
                if node not in self._inferred and (estimate := self.estimate(node, now_s)) is not None
                if estimate.weight > 0.5
            ]
            if fresh:
                medians[zone] = statistics.median_low(fresh)
        return medians

    def _judge(self, nodes: Iterable[NodeName], now_s: float) -> bool:
        """Infer the zones of these nodes, or suspect them; whether any node moved."""
        moved = False
        for node in nodes:
            if node not in self._labels_completed:
                continue
            labelled = self._labels_completed[node].zone_key
            evidence = self._evidence(node, now_s)
            region = self._labels_completed[node].region
            if labelled is not None:
                reason = contradiction(labelled, evidence, self._zone_nodes, self._apart_us)
                if reason is None:
                    self._suspects.pop(node, None)
                else:
                    self._suspects[node] = reason
                continue
            current = self._inferred.get(node)
            if region is not None:
                evidence = {zone: rtt_us for zone, rtt_us in evidence.items() if zone.region == region}
            zone = infer_zone(evidence, self._zone_nodes, self._apart_us, current)
            if zone == current:
                continue
            moved = True
            if zone is None:
                del self._inferred[node]
            else:
                self._inferred[node] = zone
            self._place(node, _with_zone(self._labels_completed[node], zone))
        return moved

    def _evidence(self, node: NodeName, now_s: float) -> dict[ZoneKey, float]:
        """The median round trip between a node and each zone, one vote for each node that measured it.

        Only zones that labels give count: what was inferred is no evidence for more.
        """
        if node == self._own:
            return self._own_medians(self._zone_nodes, now_s)
        votes: dict[ZoneKey, list[float]] = defaultdict(list)
        own_zone = self._labels_completed[self._own].zone_key
        estimate = self.estimate(node, now_s)
        if own_zone is not None and _is_sure(estimate):
            votes[own_zone].append(estimate.low_us)
        for reporter, vote in self._mentions.get(node, {}).items():
            placement = self._labels_completed.get(reporter)
            fresh = now_s - vote.at_s <= self._timing.report_ttl_s
            if placement is not None and placement.zone_key is not None and fresh:
                votes[placement.zone_key].append(vote.rtt_us)
        told = self._told.get(node)
        if told is not None and now_s - told[1] <= self._timing.report_ttl_s:
            for zone, rtt_us in told[0].items():
                votes[zone].append(rtt_us)
        return {zone: statistics.median_low(values) for zone, values in votes.items()}

    def _apart_us(self, one: ZoneKey, other: ZoneKey) -> float:
        measured = self._matrix.rtt_us(one, other)
        if measured is not None:
            return measured
        if one == other:
            return PRIORS_US[Locality.ZONE]
        same_region = one.region == other.region
        return PRIORS_US[Locality.REGION if same_region else Locality.REMOTE]

    def _settle_zones(self, now_s: float, *, everything: bool) -> bool:
        """Bring the graph's zones up to date; whether all standings have to be made anew."""
        changed = self._matrix.take_changed()
        if everything:
            changed.update(self._matrix.pairs())
        elif not changed:
            return False
        for pair in changed:
            one, other = (*pair, *pair)[:2]
            self._graph.join_zones(one, other, self._matrix.rtt_us(one, other))
        self._learn_regions()
        own_zone = self._placements[self._own].zone_key
        costs = {} if own_zone is None else self._graph.zone_costs(own_zone, self._zone_nodes)
        levels = self._level_medians(now_s)
        moved = everything or _moved(self._zone_costs, costs) or _levels_moved(self._level_us, levels)
        if moved:
            self._zone_costs, self._level_us = costs, levels
        return moved

    def _learn_regions(self) -> None:
        """What is usual between regions stands in for the pairs of zones that nobody measured."""
        measured: dict[frozenset[str | None], list[float]] = defaultdict(list)
        for pair in self._matrix.pairs():
            median_us = self._matrix.rtt_us(*(*pair, *pair)[:2])
            if len(pair) == 2 and median_us is not None:
                measured[frozenset(zone.region for zone in pair)].append(median_us)
        self._graph.learn_regions(
            {regions: statistics.median_low(medians) for regions, medians in measured.items()}
        )

    def _level_medians(self, now_s: float) -> dict[int, float]:
        """The median round trip to the peers of this zone, by how many steps they share with this node."""
        own = self._placements[self._own]
        if own.zone_key is None or not own.finer:
            return {}
        measured: dict[int, list[float]] = defaultdict(list)
        for node in self._estimators.keys() & self._zone_nodes.get(own.zone_key, set()):
            estimate = self.estimate(node, now_s)
            if estimate is not None and estimate.weight > 0.5:
                _, shared = meeting(own.path, self._placements[node].path)
                measured[shared].append(estimate.low_us)
        return {shared: statistics.median_low(values) for shared, values in measured.items()}

    def _stand(self, node: NodeName, now_s: float) -> None:
        placement = self._placements.get(node)
        if placement is None:
            return
        path, own_path = placement.path, self._placements[self._own].path
        if node == self._own:
            locality, shared = Locality.NODE, len(path)
            cost_us, source, estimate = 0.0, Source.SELF, None
        else:
            locality, shared = meeting(own_path, path)
            cost_us, source = self._prior(placement.zone_key, locality, shared)
            slowness = self._slowness(node, placement.zone_key, now_s)
            if slowness > _SLOW:
                cost_us, source = cost_us * slowness, Source.TOLD
            estimate = self.estimate(node, now_s)
            if estimate is not None:
                cost_us = blend(estimate.low_us, cost_us, estimate.weight)
                source = Source.MEASURED if estimate.weight >= 0.5 else source
                self._graph.measure(self._own, node, cost_us)
            else:
                self._graph.measure(self._own, node, None)
        self._standings[node] = Standing(
            placement=placement,
            locality=locality,
            shared=shared,
            cost_us=cost_us,
            source=source,
            estimate=estimate,
            inferred=node in self._inferred,
            suspect=self._suspects.get(node),
        )
        place = tier_key(locality, path, shared) + cost_steps(cost_us)
        self._keys[node] = place << SEED_BITS | self._seeds[node]

    def _prior(self, zone: ZoneKey | None, locality: Locality, shared: int) -> tuple[float, Source]:
        if locality is Locality.RACK and shared in self._level_us:
            return self._level_us[shared], Source.ZONE_PAIR
        if zone is not None and zone in self._zone_costs:
            return self._zone_costs[zone]
        return PRIORS_US[locality], Source.PRIOR

    def _slowness(self, node: NodeName, zone: ZoneKey | None, now_s: float) -> float:
        """How many times as long as its zone's median a node says that it takes to this zone.

        A node is believed to be slow, never to be fast: else one could draw everybody's pulls.
        """
        told, own_zone = self._told.get(node), self._placements[self._own].zone_key
        if told is None or own_zone is None or zone not in self._zone_costs or zone is None:
            return 1.0
        if now_s - told[1] > self._timing.report_ttl_s:
            return 1.0
        return told[0].get(own_zone, 0.0) / self._zone_costs[zone][0]

    def _make_snapshot(self, now_s: float) -> Snapshot:
        return Snapshot(
            own=self._own,
            standings=self._standings,
            keys=self._keys,
            zones={zone: len(nodes) for zone, nodes in self._zone_nodes.items()},
            problems=self._problems,
            made_s=now_s,
            generation=self._generation,
        )

    def matrix(self) -> dict[tuple[ZoneKey, ZoneKey], tuple[float, Source]]:
        """The cost between every two zones, and where it comes from. O(zones² log zones): for people."""
        costs: dict[tuple[ZoneKey, ZoneKey], tuple[float, Source]] = {}
        for one in self._zone_nodes:
            for other, cost in self._graph.zone_costs(one, self._zone_nodes).items():
                costs[one, other] = cost
        return costs

    def is_own_vote(self, one: ZoneKey, other: ZoneKey) -> bool:
        """Whether this node itself measured something between two zones."""
        return self._own in self._matrix.voters(one, other)


def _is_sure(estimate: Estimate | None) -> TypeGuard[Estimate]:
    return estimate is not None and estimate.samples >= _SURE_SAMPLES and estimate.weight > 0.5


def _with_zone(placement: Placement, zone: ZoneKey | None) -> Placement:
    if zone is None or placement.zone is not None:
        return placement
    return replace(placement, region=zone.region, zone=zone.zone)


def _moved(
    before: Mapping[ZoneKey, tuple[float, Source]], after: Mapping[ZoneKey, tuple[float, Source]]
) -> bool:
    """Whether a zone's cost changed so much that all of its nodes' standings are worth making anew."""
    return before.keys() != after.keys() or any(
        before[zone][1] is not source or _differ(before[zone][0], cost_us)
        for zone, (cost_us, source) in after.items()
    )


def _levels_moved(before: Mapping[int, float], after: Mapping[int, float]) -> bool:
    return before.keys() != after.keys() or any(
        _differ(before[shared], rtt_us) for shared, rtt_us in after.items()
    )


def _differ(before_us: float, after_us: float) -> bool:
    return not before_us / _WORTH <= after_us <= before_us * _WORTH
