"""Each gateway is told from whom to take a blob: along the tree of zones, and at last from who fetches it."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from agent.holders.gateways import _KEYS_MAX, Gateways
from tests.unit.twins import node, sha256, zone_key
from topology.placement import NodeName
from topology.spread import AnyZone, Way

BLOB = sha256("blob")
A1, B1, B2, C1, C2, D1 = (node(name) for name in ("a1", "b1", "b2", "c1", "c2", "d1"))


class Cluster:
    """A line of zones: a – b – c – d. The farther, the dearer. Nodes are named for their zones."""

    def __init__(self, children_max: int = 3, *, unlabelled: Sequence[NodeName] = ()) -> None:
        self.gone: set[NodeName] = set()
        self.carriers: list[NodeName] = []
        self._unlabelled = unlabelled
        self.gateways = Gateways(
            zone_of=self.zone_of,
            is_there=lambda name: name not in self.gone,
            way=self.way,
            children_max=children_max,
        )

    def zone_of(self, name: NodeName) -> AnyZone:
        return None if name in self._unlabelled else zone_key(f"r/{name[0]}")

    def way(self, one: AnyZone, other: AnyZone) -> Way:
        steps = 9 if one is None or other is None else abs(ord(one.zone) - ord(other.zone))
        return Way(usd_per_gb=0.01 * steps**2, rtt_us=1000.0)

    def sources(
        self, asker: NodeName, root: NodeName = A1, waiting: Sequence[NodeName] = ()
    ) -> tuple[NodeName, ...]:
        self.carriers += [*waiting, asker]
        return self.gateways.sources(BLOB, asker, root, self.carriers)


def test_only_gateway_takes_the_blob_from_who_fetches_it() -> None:
    assert Cluster().sources(C1) == (A1,)


def test_gateway_takes_the_blob_from_the_zone_above_and_if_that_fails_from_higher_up() -> None:
    cluster = Cluster()
    assert cluster.sources(D1, waiting=(B1, C1)) == (C1, B1, A1)
    assert cluster.sources(C1) == (B1, A1)
    assert cluster.sources(B1) == (A1,)


def test_what_a_zone_was_told_stays_when_more_zones_ask() -> None:
    cluster = Cluster()
    assert cluster.sources(C1) == (A1,)
    assert cluster.sources(B1) == (A1,)
    assert cluster.sources(C1) == (A1,)


def test_two_gateways_of_a_zone_take_from_two_of_the_zone_above() -> None:
    cluster = Cluster()
    cluster.sources(D1, waiting=(B1, B2, C1, C2))
    assert cluster.sources(C1) == (B1, B2, A1)
    assert cluster.sources(C2) == (B2, B1, A1)


def test_third_node_of_a_zone_takes_it_from_the_two_that_carry_it_over() -> None:
    cluster = Cluster()
    cluster.sources(B2, waiting=(B1,))
    assert cluster.sources(node("b3")) == (B1, B2, A1)


def test_gateway_that_is_gone_is_nobodys_source() -> None:
    cluster = Cluster()
    cluster.sources(B1, waiting=(B2, C1))
    cluster.gone.add(B1)
    assert cluster.sources(C1) == (B2, A1)
    cluster.gone.add(B2)
    assert cluster.sources(C1) == (A1,)


def test_gateways_go_on_with_another_node_at_the_root() -> None:
    cluster = Cluster()
    cluster.sources(B1, waiting=(C1, D1))
    cluster.gone.add(A1)
    assert cluster.sources(D1, root=B1) == (C1, B1)
    assert cluster.sources(C1, root=B1) == (B1,)
    assert cluster.sources(B1, root=C1) == (C1,)  # that one died, too


def test_node_of_the_roots_zone_takes_the_blob_from_the_root() -> None:
    cluster = Cluster()
    cluster.sources(B1)
    assert cluster.sources(node("a2")) == (A1,)


def test_nodes_without_a_zone_have_a_gateway_as_if_they_were_one() -> None:
    cluster = Cluster(unlabelled=(C1, C2))
    assert cluster.sources(C1, waiting=(C2,)) == (A1,)
    assert cluster.sources(D1) == (A1,)


def test_zone_with_many_gateways_names_the_latest_ones() -> None:
    cluster = Cluster()
    many = [node(f"b{number}") for number in range(9)]
    assert cluster.sources(C1, waiting=many) == (*many[-4:], A1)


def test_tree_is_forgotten_when_too_many_came_since() -> None:
    cluster = Cluster()
    cluster.sources(C1)
    assert cluster.sources(D1, waiting=(B1,)) == (C1, A1)  # C1 keeps the parent that it was told
    for number in range(_KEYS_MAX):
        cluster.gateways.sources(number, D1, A1, ())
    assert cluster.sources(D1) == (C1, B1, A1)


NODES = [node(f"{zone}{number}") for zone in "abcd" for number in range(3)]


@given(
    st.lists(st.tuples(st.sampled_from(("ask", "ask", "gone", "root")), st.sampled_from(NODES)), max_size=40),
    st.integers(1, 3),
)
def test_whatever_dies_everybody_is_led_to_who_fetches_by_nodes_that_are_there(
    events: list[tuple[str, NodeName]], children_max: int
) -> None:
    cluster, root = Cluster(children_max), NODES[0]
    for event, name in events:
        if event == "gone" and name != root:
            cluster.gone.add(name)
        elif event == "root" and name not in cluster.gone:
            root = name
        elif event == "ask" and name not in cluster.gone | {root}:
            sources = cluster.sources(name, root)
            assert sources[-1] == root
            assert len(set(sources)) == len(sources)
            assert not {name, *cluster.gone} & {*sources}
            zones = [*dict.fromkeys(map(cluster.zone_of, sources))]
            assert cluster.zone_of(name) not in zones[1:-1]  # the blob never comes back to its zone
