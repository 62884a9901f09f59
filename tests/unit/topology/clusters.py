"""Clusters as the tests of `ClusterTopology` make them, and words for what is measured and told in them."""

from collections.abc import Mapping

from tests.unit.twins import located, node, zone_key
from topology.cluster import ClusterTopology, Timing
from topology.placement import NodeName, Placement, ZoneKey
from topology.snapshot import Standing
from topology.zones import Report

OWN = node("own")
A, B, C, FAR = zone_key("r/a"), zone_key("r/b"), zone_key("r/c"), zone_key("q/x")
TIMING = Timing(window_s=20.0, half_life_s=120.0, report_ttl_s=600.0)


def cluster(own: Placement | None = None, **places: Placement) -> ClusterTopology:
    """The own node in zone a of region r unless said otherwise, and peers by name."""
    topology = ClusterTopology(own=OWN, placement=located("r", "a") if own is None else own, timing=TIMING)
    topology.update(named(places), 0.0)
    return topology


def named(places: Mapping[str, Placement]) -> dict[NodeName, Placement]:
    return {node(name): placement for name, placement in places.items()}


def measure(topology: ClusterTopology, name: str, *rtts_us: float, start_s: float = 1.0) -> None:
    """Samples a second apart; a single one stands for three, as fewer do not count in full."""
    for number, rtt_us in enumerate(rtts_us * 3 if len(rtts_us) == 1 else rtts_us):
        assert topology.sample(node(name), rtt_us, start_s + number)


def tell(
    topology: ClusterTopology,
    reporter: str,
    now_s: float = 1.0,
    *,
    zones: Mapping[ZoneKey, float] | None = None,
    nodes: Mapping[str, float] | None = None,
) -> int:
    mentioned = {node(name): rtt_us for name, rtt_us in (nodes or {}).items()}
    return topology.add_report(node(reporter), Report(zones=zones or {}, nodes=mentioned), now_s)


def standing(topology: ClusterTopology, name: str, now_s: float = 5.0) -> Standing:
    return topology.refresh(now_s).standings[node(name)]


def three_zones(own: Placement | None = None, **more: Placement) -> ClusterTopology:
    """Two labelled nodes in each of three zones, which told their distances."""
    places = {f"{zone}{number}": located("r", zone) for zone in "abc" for number in (1, 2)}
    topology = cluster(own, **places, **more)
    for name, placement in places.items():
        zone = placement.zone_key
        tell(topology, name, zones={other: 320.0 if other == zone else 900.0 for other in (A, B, C)})
    return topology


def placed_in(topology: ClusterTopology, name: str, now_s: float = 5.0) -> ZoneKey | None:
    """Where a node is; what was inferred is flagged, and what was not is not."""
    known = standing(topology, name, now_s)
    assert known.inferred == (known.placement.zone is not None)
    return known.placement.zone_key


def busy_cluster() -> tuple[ClusterTopology, dict[NodeName, Placement]]:
    places = named({f"n{number}": located("r", f"z{number % 3}") for number in range(30)})
    places |= named({f"u{number}": located("r") for number in range(5)})
    topology = cluster()
    topology.update(places, 0.0)
    for name in places:
        measure(topology, name, 900.0, 910.0, 920.0)
        tell(topology, name, zones={A: 900.0, zone_key("r/z1"): 900.0}, nodes={"u1": 300.0, "n1": 900.0})
    topology.refresh(5.0)
    return topology, places


ZONES = (A, B, C, FAR)
