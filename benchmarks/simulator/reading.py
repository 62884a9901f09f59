"""From what a simulation leaves behind to the figures of the tables. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.simulator.figures import Figures, curve, quantile, ratio, small_of_large, spread_of
from benchmarks.simulator.result import Result
from benchmarks.simulator.scenario import FaultKind, Scenario
from benchmarks.simulator.trials import MIB, Observed
from topology.ledger import Prices
from topology.placement import Region, Zone, ZoneKey

_GB = 1e9
_GOING = (FaultKind.DIE, FaultKind.REPLACE)


def figures_of(result: Result, *, workload: str, policy: str, scope: str) -> Figures:
    """The figures of one run. ``scope``: of its claims; ``none``: it makes none."""
    scenario = result.scenario
    seconds = _seconds(result)
    ordered = sorted(value for each in seconds.values() for value in each)
    sizes = {zone.name: zone.nodes for zone in scenario.zones}
    wanted = _wanted(scenario)
    crossed = result.crossed_bytes.copy()
    np.fill_diagonal(crossed, 0)
    delivered = int(result.received_bytes.sum())
    return Figures(
        workload=workload,
        policy=policy,
        scope=scope,
        nodes=scenario.nodes,
        zones=len(scenario.zones),
        size_bytes=max(sum(image.layer_sizes) for image in scenario.images),
        seed=scenario.seed,
        pulls=len(ordered),
        failed=_failed(result) + result.failed_pulls,
        p50_s=quantile(ordered, 0.5),
        p99_s=quantile(ordered, 0.99),
        p999_s=quantile(ordered, 0.999),
        last_s=quantile(ordered, 1.0),
        fetches=len(result.fetches),
        fetches_per_scope=_fetches_per_scope(result, wanted, by_zone=scope == "zone"),
        registry_copies=ratio(float(result.registry_bytes.sum()), _registry_bytes(scenario, wanted)),
        crossed_copies=ratio(float(crossed.sum()), _least_crossed_bytes(scenario, wanted)),
        crossed_per_delivered=ratio(float(crossed.sum()), delivered),
        usd=_usd(result),
        zone_spread=spread_of(seconds),
        small_zone=small_of_large(seconds, sizes),
        dials=int(result.dials.sum()),
        dead_dials=int(result.dead_dials.sum()),
        curve_s=curve(ordered),
        wall_s=result.wall_s,
        peak_mib=result.peak_rss_bytes / (1 << 20),
    )


def _zone_of(scenario: Scenario) -> Sequence[int]:
    return [number for number, zone in enumerate(scenario.zones) for _ in range(zone.nodes)]


def _seconds(result: Result) -> Mapping[str, Sequence[float]]:
    """How long the pulls took that ended well, by zone."""
    zone_of, found = _zone_of(result.scenario), defaultdict[str, list[float]](list)
    for number, start in enumerate(result.scenario.starts):
        for node, taken in zip(start.nodes, result.image_s(number).tolist(), strict=True):
            if taken == taken:
                found[result.scenario.zones[zone_of[node]].name].append(taken)
    return found


def _failed(result: Result) -> int:
    """How many pulls never ended, without those of nodes that went away."""
    gone = {node for fault in result.scenario.faults if fault.kind in _GOING for node in fault.nodes}
    return sum(
        1
        for number, start in enumerate(result.scenario.starts)
        for node, taken in zip(start.nodes, result.image_s(number).tolist(), strict=True)
        if taken != taken and node not in gone
    )


def _wanted(scenario: Scenario) -> Mapping[int, set[int]]:
    """The zones that want each image and have it not from the start."""
    zone_of, wanted = _zone_of(scenario), defaultdict[int, set[int]](set)
    for start in scenario.starts:
        wanted[start.image] |= {zone_of[node] for node in start.nodes}
    for held in scenario.held:
        wanted[held.image] -= {zone_of[node] for node in held.nodes}
    return wanted


def _is_held(scenario: Scenario, image: int) -> bool:
    return any(held.image == image for held in scenario.held)


def _fetches_per_scope(result: Result, wanted: Mapping[int, set[int]], *, by_zone: bool) -> float:
    """Of the contents that nobody had. Each request counts, also one that goes on with a part. NaN: none."""
    scenario = result.scenario
    fetched: dict[int, int] = defaultdict(int)
    for fetch in result.fetches:
        fetched[fetch.content] += 1
    made = scopes = 0
    for content, (image, _) in enumerate(scenario.contents()):
        if not _is_held(scenario, image) and wanted.get(image):
            made += fetched[content]
            scopes += len(wanted[image]) if by_zone else 1
    return made / scopes if scopes else float("nan")


def _registry_bytes(scenario: Scenario, wanted: Mapping[int, set[int]]) -> float:
    """One copy of all images that are wanted and nobody had; if somebody had them all, of the largest."""
    sizes = [sum(each.layer_sizes) for each in scenario.images]
    missing = sum(
        size for image, size in enumerate(sizes) if wanted.get(image) and not _is_held(scenario, image)
    )
    return float(missing or max(sizes))


def _least_crossed_bytes(scenario: Scenario, wanted: Mapping[int, set[int]]) -> float:
    """What must cross if the registry is asked once: a copy for each zone that wants it, but the first."""
    return float(
        sum(
            sum(image.layer_sizes) * max(0, len(wanted.get(number, ())) - (not _is_held(scenario, number)))
            for number, image in enumerate(scenario.images)
        )
    )


def _usd(result: Result) -> float:
    """At the prices of the product's settings: between zones, and from the registry."""
    prices, zones = (
        Prices(),
        [ZoneKey(region=Region(z.region), zone=Zone(z.name)) for z in result.scenario.zones],
    )
    between = sum(
        prices.usd_per_gb(one, other) * int(result.crossed_bytes[source, target])
        for source, one in enumerate(zones)
        for target, other in enumerate(zones)
        if source != target
    )
    return (between + prices.registry * int(result.registry_bytes.sum())) / _GB


def trial_of(result: Result, names: Sequence[str]) -> Observed:
    """What a simulated trial came to, as the lab says it of a real one. ``names``: of its nodes, in order."""
    crossed = result.crossed_bytes.copy()
    np.fill_diagonal(crossed, 0)
    sizes = [size for _, size in result.scenario.contents()]
    fetched = {(fetch.node, fetch.content) for fetch in result.fetches if sizes[fetch.content] >= MIB}
    return Observed(
        seconds=dict(zip(names, result.image_s().tolist(), strict=True)),
        registry_bytes=int(result.registry_bytes.sum()),
        crossed_bytes=int(crossed.sum()),
        fetches=len(fetched),
    )
