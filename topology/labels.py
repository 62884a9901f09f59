"""Turns a node's labels into its placement.

Decides which labels say where a node sits, in which order they nest, and what is wrong with them.
A missing or contradictory label is reported and is never fatal. The placement holds what is known.

Sources:
- Kubernetes "Well-Known Labels": region, zone, and the deprecated failure-domain labels.
- KEP-4742: a pod sees copies of these labels through the downward API, with the same keys.
- AWS EKS "node labels": network-node-layer-1 (the widest) to -3.
- GKE: "gce-topology-block", "-subblock", "-host".
- NVIDIA topograph: core, spine, leaf.
- cloud-provider-azure, "Use Availability Zones": a node outside of any zone has its *fault domain*, a
  bare number, in the zone label.
- Rook "OSD topology", and common use: racks.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from topology.placement import NodeName, Path, Placement, Region, Zone

REGION_LABEL = "topology.kubernetes.io/region"
ZONE_LABEL = "topology.kubernetes.io/zone"
RACK = "rack"
FAULT_DOMAIN = "fault-domain"
_DATACENTER = "datacenter"

# Other keys of the same level. The first one that a node has counts.
_ALIASES = {
    REGION_LABEL: (REGION_LABEL, "failure-domain.beta.kubernetes.io/region"),
    ZONE_LABEL: (ZONE_LABEL, "failure-domain.beta.kubernetes.io/zone"),
    RACK: (RACK, "topology.kubernetes.io/rack", "topology.rook.io/rack"),
    _DATACENTER: (_DATACENTER, "topology.kubernetes.io/datacenter", "topology.rook.io/datacenter"),
}

_CLOUD_LEVELS = (
    "topology.k8s.aws/network-node-layer-1",
    "topology.k8s.aws/network-node-layer-2",
    "topology.k8s.aws/network-node-layer-3",
    "cloud.google.com/gce-topology-block",
    "cloud.google.com/gce-topology-subblock",
    "cloud.google.com/gce-topology-host",
    "network.topology.nvidia.com/core",
    "network.topology.nvidia.com/spine",
    "network.topology.nvidia.com/leaf",
)
FINER_LEVELS = (
    *_CLOUD_LEVELS,
    "oci.oraclecloud.com/fault-domain",
    FAULT_DOMAIN,
    _DATACENTER,
    "topology.rook.io/room",
    "topology.rook.io/row",
    RACK,
    "topology.rook.io/chassis",
)
"""The finer levels that are known without configuration, widest first. A cluster has a few of them at
most. A level that no node has has no effect."""

_VALUE_MAX = 253
_SHOWN_MAX = 80
_AZURE = "kubernetes.azure.com/"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelProblem:
    """Something about a node's labels that an operator should know."""

    node: NodeName
    problem: str
    hint: str


def read_labels(
    node: NodeName,
    labels: Mapping[str, str],
    *,
    configured: Placement | None = None,
    finer_levels: Sequence[str] = FINER_LEVELS,
) -> tuple[Placement, tuple[LabelProblem, ...]]:
    """The placement that ``labels`` describe, and what is wrong with them.

    ``configured``: levels from the configuration. They win over labels, and a label that disagrees is
    reported. ``finer_levels``: label keys below the zone, widest first.
    """
    configured = configured or Placement()
    problems: list[LabelProblem] = []

    def problem(text: str, hint: str) -> None:
        problems.append(LabelProblem(node=node, problem=text, hint=hint))

    def value_of(key: str) -> str | None:
        value = labels.get(key)
        if value is None:
            return None
        clean = clean_value(value)
        if clean != value:
            problem(
                f"label {key} has the value {_short(value)}: read as {_short(clean)}", "use a plain value"
            )
        return clean or None

    def level(key: str, configured_value: str | None) -> str | None:
        names = [name for name in _ALIASES.get(key, (key,)) if name == key or name not in finer_levels]
        found = [(name, value) for name in names if (value := value_of(name)) is not None]
        for name, value in found[1:]:
            if value != found[0][1]:
                problem(
                    f"label {found[0][0]} is {_short(found[0][1])} and {name} is {_short(value)}: "
                    "the first counts",
                    "remove one of them",
                )
        if configured_value is not None and found and configured_value != found[0][1]:
            problem(
                f"label {found[0][0]} is {_short(found[0][1])}, "
                f"the configuration says {_short(configured_value)}: the configuration counts",
                "leave the level out of the configuration, or correct it",
            )
        return configured_value if configured_value is not None or not found else found[0][1]

    region = level(REGION_LABEL, configured.region)
    zone = level(ZONE_LABEL, configured.zone)
    finer: dict[str, str] = {}
    if (
        zone is not None
        and configured.zone is None
        and zone.isdigit()
        and any(k.startswith(_AZURE) for k in labels)
    ):
        finer[FAULT_DOMAIN], zone = zone, None
    configured_finer = dict(configured.finer)
    for key in dict.fromkeys((FAULT_DOMAIN, *finer_levels, *configured_finer)):
        value = level(key, configured_finer.get(key))
        if value is not None:
            finer[key] = value
    order = finer_levels if FAULT_DOMAIN in finer_levels else (FAULT_DOMAIN, *finer_levels)
    placement = Placement(
        region=None if region is None else Region(region),
        zone=None if zone is None else Zone(zone),
        finer=tuple((key, finer[key]) for key in dict.fromkeys((*order, *configured_finer)) if key in finer),
    )
    return placement, tuple(problems)


def configured_placement(region: object, zone: object, rack: object) -> Placement:
    """The placement that the configuration gives. None and an empty text mean unknown."""
    texts = (None if level is None else clean_value(str(level)) or None for level in (region, zone, rack))
    region_text, zone_text, rack_text = texts
    return Placement(
        region=None if region_text is None else Region(region_text),
        zone=None if zone_text is None else Zone(zone_text),
        finer=() if rack_text is None else ((RACK, rack_text),),
    )


def clean_value(value: str) -> str:
    """A label's value that is safe to show: no control characters, no outer blanks, bounded length."""
    text = value.strip()
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return text[:_VALUE_MAX].rstrip()


def _short(value: str) -> str:
    return repr(value) if len(value) <= _SHOWN_MAX else f"{value[:_SHOWN_MAX]!r}…"


def complete(
    placements: Mapping[NodeName, Placement], shared: Callable[[Placement], Placement] = lambda one: one
) -> tuple[dict[NodeName, Placement], tuple[LabelProblem, ...]]:
    """The placements, completed with what the other nodes' labels imply, and what is wrong with them.

    A node with a zone but no region gets the region that all other nodes of that zone name. A node with a
    finer level but no zone gets its zone in the same way. What no label implies stays unknown; measured
    latency may fill it in later. ``shared``: returns one object for equal placements.

    Thousands of nodes may share one placement. Each object is looked at once. Cost: two look-ups for each
    node, and O(depth) for each object.
    """
    completed = dict(placements)
    for _ in range(2):  # a finer level may imply a zone, and the zone then a region
        objects = _objects(completed.values())
        if all(one.zone is not None and one.region is not None for one in objects):
            break
        whole = _wholes(objects, shared)
        if whole:
            completed = {node: whole.get(id(one), one) for node, one in completed.items()}
    return completed, (*_all_missing(placements, completed), *_odd_ones_out(completed))


def _objects(placements: Iterable[Placement]) -> Collection[Placement]:
    """The different objects among these."""
    return {id(one): one for one in placements}.values()


def _wholes(
    placements: Collection[Placement], shared: Callable[[Placement], Placement]
) -> dict[int, Placement]:
    """What becomes of the placements that are not whole, by the identity of each."""
    region_of, zone_of = _implied(placements)
    made: dict[int, Placement] = {}
    for one in placements:
        if one.zone is None:
            implied = next((zone_of[step] for step in reversed(one.finer) if step in zone_of), None)
            if implied is not None and one.region in (None, implied[0]):
                made[id(one)] = shared(replace(one, region=implied[0], zone=implied[1]))
        elif one.region is None and one.zone in region_of:
            made[id(one)] = shared(replace(one, region=region_of[one.zone]))
    return made


def _all_missing(
    placements: Mapping[NodeName, Placement], completed: Mapping[NodeName, Placement]
) -> Iterable[LabelProblem]:
    """What the nodes' labels lack. Nearly always nothing: then this costs a look at each object."""
    known = _levels_in_use(_objects(completed.values()))
    lacking = {
        id(placements[node])
        for node, one in _of_each_pair(placements, completed)
        if not one.partial and any(_missing(node, placements[node], one, known))
    }
    if lacking:
        for node, labelled in placements.items():
            if id(labelled) in lacking and not completed[node].partial:
                yield from _missing(node, labelled, completed[node], known)


def _of_each_pair(
    placements: Mapping[NodeName, Placement], completed: Mapping[NodeName, Placement]
) -> Iterable[tuple[NodeName, Placement]]:
    """A node of each object, with what was made of that. Equal objects are completed alike."""
    return {id(labelled): (node, completed[node]) for node, labelled in placements.items()}.values()


def _implied(
    placements: Iterable[Placement],
) -> tuple[dict[Zone, Region], dict[tuple[str, str], tuple[Region | None, Zone]]]:
    """Which region each zone implies, and which zone each finer step implies. Only where all nodes agree.

    Only finer levels with names that are unique across a cloud count: every zone may have a "rack 1".
    """
    regions: dict[Zone, set[Region]] = defaultdict(set)
    zones: dict[tuple[str, str], set[tuple[Region | None, Zone]]] = defaultdict(set)
    for placement in placements:
        if placement.zone is None:
            continue
        if placement.region is not None:
            regions[placement.zone].add(placement.region)
        for step in placement.finer:
            if step[0] in _CLOUD_LEVELS:
                zones[step].add((placement.region, placement.zone))
    return (
        {zone: next(iter(found)) for zone, found in regions.items() if len(found) == 1},
        {step: next(iter(found)) for step, found in zones.items() if len(found) == 1},
    )


def _levels_in_use(placements: Iterable[Placement]) -> tuple[bool, bool]:
    has_region = has_zone = False
    for placement in placements:
        has_region = has_region or placement.region is not None
        has_zone = has_zone or placement.zone is not None
    return has_region, has_zone


def _missing(
    node: NodeName, labelled: Placement, completed: Placement, known: tuple[bool, bool]
) -> Iterable[LabelProblem]:
    has_region, has_zone = known
    if labelled.finer and labelled.finer[0][0] == FAULT_DOMAIN:
        return  # outside of any zone on purpose
    if has_zone and labelled.zone is None:
        found = f"assumed to be in {completed.zone!r}, as its other labels imply" if completed.zone else None
        yield LabelProblem(
            node=node,
            problem=f"no zone label: {found or 'measured latency decides where it can'}",
            hint=f"kubectl label node {node} {ZONE_LABEL}=ZONE",
        )
    elif has_region and labelled.region is None and labelled.zone is not None:
        found = f"assumed to be in {completed.region!r}, as its zone implies" if completed.region else None
        yield LabelProblem(
            node=node,
            problem=f"no region label: {found or 'counts as a region of its own'}",
            hint=f"kubectl label node {node} {REGION_LABEL}=REGION",
        )


def _odd_ones_out(placements: Mapping[NodeName, Placement]) -> Iterable[LabelProblem]:
    """Nodes with a combination of levels that hardly any other node has. Most likely a mistake.

    The same name may appear below different parents on purpose (zone "a", rack "1"). Then several nodes
    share each combination, and nothing is reported.
    """
    regions: dict[Zone, Counter[Region]] = defaultdict(Counter)
    zones: dict[tuple[str, str], Counter[Zone]] = defaultdict(Counter)
    numbers = Counter(map(id, placements.values()))
    for placement in _objects(placements.values()):
        if placement.zone is None:
            continue
        number = numbers[id(placement)]
        if placement.region is not None:
            regions[placement.zone][placement.region] += number
        for step in placement.finer:
            if step[0] in _CLOUD_LEVELS:  # these names are unique across a cloud
                zones[step][placement.zone] += number
    # Nearly always there is no doubtful name, and then this costs one look at each name.
    doubtful = {name for name, counts in regions.items() if len(counts) > 1}
    doubtful_steps = {step for step, counts in zones.items() if len(counts) > 1}
    if not doubtful and not doubtful_steps:
        return
    for node, placement in placements.items():
        if placement.zone is None:
            continue
        if placement.region is not None and placement.zone in doubtful:
            usual = _usual(regions[placement.zone], placement.region)
            if usual is not None:
                yield LabelProblem(
                    node=node,
                    problem=f"zone {placement.zone!r} is in region {placement.region!r} here and in "
                    f"{usual!r} on the other nodes",
                    hint=f"correct {REGION_LABEL} or {ZONE_LABEL} of one of them",
                )
        for step in placement.finer:
            usual_zone = _usual(zones[step], placement.zone) if step in doubtful_steps else None
            if usual_zone is not None:
                yield LabelProblem(
                    node=node,
                    problem=f"{step[0]} {step[1]!r} is in zone {placement.zone!r} here and in "
                    f"{usual_zone!r} on the other nodes",
                    hint=f"correct {ZONE_LABEL} or {step[0]} of one of them",
                )


def _usual(counts: "Counter[Region] | Counter[Zone]", here: str) -> str | None:
    """The most common value, if it is at least three times as common as ``here``; else None."""
    value, count = counts.most_common(1)[0]
    return value if value != here and count >= 3 * counts[here] else None  # type: ignore[index]


def parse_downward_api(text: str) -> dict[str, str]:
    """The labels in a file of a downward API volume: one ``key="value"`` per line, escaped as in Go.

    Lines of another form are skipped. Source: Kubernetes "Downward API", volume files.
    """
    labels: dict[str, str] = {}
    for line in text.splitlines():
        key, _, quoted = line.partition("=")
        try:
            value = json.loads(quoted)
        except (ValueError, RecursionError):
            continue
        if key and isinstance(value, str):
            labels[key] = value
    return labels


def path_levels(paths: Iterable[Path]) -> tuple[str, ...]:
    """The levels that occur, widest first. A level comes after every level above it in any path."""
    order = {level: place for place, level in enumerate(("region", "zone", *FINER_LEVELS))}
    above: dict[str, set[str]] = {}
    for levels in {tuple(level for level, _ in path) for path in paths}:
        for place, level in enumerate(levels):
            above.setdefault(level, set()).update(levels[:place])
    listed: list[str] = []
    while above:
        # The next level is one with nothing left above it. If nodes disagree, it is the best known one.
        free = [level for level in above if not above[level] - set(listed)] or list(above)
        level = min(free, key=lambda each: (order.get(each, len(order)), each))
        listed.append(level)
        del above[level]
    return tuple(listed)
