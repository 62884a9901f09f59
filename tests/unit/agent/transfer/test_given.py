"""What each holder gave to one pull, and who had it first."""

import pytest

from agent.observe.metrics import Metrics
from agent.pull.arrival import Arrival
from agent.pull.lineages import Lineage, Lineages
from agent.transfer.given import Given
from tests.unit.exposition import total
from tests.unit.twins import node, sha256
from topology.placement import Tier
from topology.ranking import Condition, Ranked

LAYER = sha256("layer")
HELD = Ranked(node=node("held"), tier=Tier.ZONE, rank=1)
ARRIVING = Ranked(node=node("arriving"), tier=Tier.ZONE, rank=1, condition=Condition(in_flight=61))
PEERS = frozenset(map(node, ("held", "arriving", "first")))


class Pulled:
    """What was given to one pull of the node ``own``."""

    def __init__(self) -> None:
        self.lineages, self.metrics = Lineages(node("own")), Metrics()
        self.given = Given(LAYER, lineages=self.lineages, metrics=self.metrics)

    @property
    def lineage(self) -> Lineage:
        return self.lineages.of(LAYER)

    def metric(self, name: str) -> float:
        return total(self.metrics.expose(), name)


def test_bytes_of_each_holder_are_added_up_and_those_in_flight_are_told_apart() -> None:
    pulled = Pulled()
    for holder, size_bytes in ((HELD, 10), (ARRIVING, 5), (ARRIVING, 6), (HELD, 1)):
        pulled.given.add(holder, size_bytes)
    assert pulled.given.sizes == {"held": 11, "arriving": 11}
    assert pulled.given.in_flight_bytes == {"arriving": 11}
    assert pulled.metric("in_flight_received_bytes_total") == 11


def test_content_of_a_complete_holder_begins_there() -> None:
    pulled = Pulled()
    pulled.given.comes_from(HELD, None, PEERS)
    assert pulled.lineage == Lineage(origin=node("held"), depth=1)
    assert pulled.given.origins == {}


def test_content_that_arrives_at_its_holder_begins_where_that_says_and_its_depth_counts_once() -> None:
    pulled = Pulled()
    for _ in range(2):
        pulled.given.comes_from(ARRIVING, Arrival(available_bytes=7, origin=node("first"), depth=2), PEERS)
    assert pulled.lineage == Lineage(origin=node("first"), depth=3)
    assert pulled.given.origins == {"arriving": "first"}
    assert pulled.metric("tree_depth_count") == 1
    assert pulled.metric("tree_depth_sum") == 3


@pytest.mark.parametrize("origin", [None, "stranger", "own"])
def test_origin_that_is_no_peer_is_not_believed(origin: str | None) -> None:
    pulled = Pulled()
    said = Arrival(available_bytes=7, origin=None if origin is None else node(origin))
    pulled.given.comes_from(ARRIVING, said, PEERS)
    assert pulled.given.origins == {"arriving": "arriving"}


def test_what_the_registry_goes_on_with_begins_here() -> None:
    pulled = Pulled()
    pulled.given.comes_from(HELD, None, PEERS)
    pulled.given.left_to_registry()
    assert pulled.lineage == Lineage(origin=node("own"), depth=0)
