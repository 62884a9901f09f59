"""Placements and the graph: the locality of nodes as seen from one of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import node
from topology.graph import TopologyGraph
from topology.placement import Locality, NodeName, Placement, Rack, Region, Zone

LABEL = st.none() | st.sampled_from(("1", "2", "x=1"))
PLACEMENTS = st.builds(Placement, region=LABEL, zone=LABEL, rack=LABEL)
CLUSTERS = st.dictionaries(
    st.sampled_from([node(name) for name in ("a", "b", "c", "d", "e")]), PLACEMENTS, min_size=1
)


def placement(region: str | None = None, zone: str | None = None, rack: str | None = None) -> Placement:
    return Placement(
        region=None if region is None else Region(region),
        zone=None if zone is None else Zone(zone),
        rack=None if rack is None else Rack(rack),
    )


def locality(own: Placement, other: Placement) -> Locality:
    graph = TopologyGraph({node("own"): own, node("other"): other})
    return graph.localities(node("own"))[node("other")]


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (placement("r", "z", "k"), placement("r", "z", "k"), Locality.RACK),
        (placement("r", "z", "k"), placement("r", "z", "l"), Locality.ZONE),
        (placement("r", "z", "k"), placement("r", "y", "k"), Locality.REGION),
        (placement("r", "z", "k"), placement("q", "z", "k"), Locality.REMOTE),
        (placement("r", "z"), placement("r", "z"), Locality.ZONE),
        (placement("r"), placement("r"), Locality.REGION),
        (placement(), placement(), Locality.REMOTE),
        (placement("r", "z", "k"), placement("r", "z"), Locality.ZONE),
        (placement(zone="z"), placement(zone="z"), Locality.REMOTE),
    ],
)
def test_locality_is_the_nearest_level_that_both_share(
    own: Placement, other: Placement, expected: Locality
) -> None:
    assert locality(own, other) is expected


def test_localities_are_ordered_nearest_first() -> None:
    assert sorted(Locality) == [
        Locality.NODE,
        Locality.RACK,
        Locality.ZONE,
        Locality.REGION,
        Locality.REMOTE,
    ]
    assert [each.label for each in sorted(Locality)] == ["node", "rack", "zone", "region", "remote"]


def test_node_that_is_not_in_the_graph_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        TopologyGraph({node("a"): placement()}).localities(node("b"))


def _expected(one: NodeName, other: NodeName, cluster: dict[NodeName, Placement]) -> Locality:
    """The same by comparing labels one by one."""
    if one == other:
        return Locality.NODE
    a, b = cluster[one], cluster[other]
    if a.region is None or a.region != b.region:
        return Locality.REMOTE
    if a.zone is None or a.zone != b.zone:
        return Locality.REGION
    if a.rack is None or a.rack != b.rack:
        return Locality.ZONE
    return Locality.RACK


@given(cluster=CLUSTERS)
def test_graph_agrees_with_comparing_labels_for_every_pair(cluster: dict[NodeName, Placement]) -> None:
    graph = TopologyGraph(cluster)
    for one in cluster:
        assert graph.localities(one) == {other: _expected(one, other, cluster) for other in cluster}


@given(cluster=CLUSTERS)
def test_locality_is_symmetric_and_a_third_node_is_no_short_cut(cluster: dict[NodeName, Placement]) -> None:
    graph = TopologyGraph(cluster)
    seen = {name: graph.localities(name) for name in cluster}
    for a in cluster:
        for b in cluster:
            assert seen[a][b] is seen[b][a]
            assert all(seen[a][b] <= max(seen[a][c], seen[c][b]) for c in cluster)


def test_level_without_label_is_the_nodes_own() -> None:
    own, other = placement("r").path(node("a")), placement("r").path(node("b"))
    assert own[0] == other[0]
    assert not set(own[1:]) & set(other[1:])
