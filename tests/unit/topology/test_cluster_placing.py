"""Nodes without a zone label are placed by latency; a label that latency contradicts is suspect."""

import pytest

from tests.unit.topology.clusters import (
    FAR,
    OWN,
    A,
    B,
    C,
    cluster,
    measure,
    placed_in,
    standing,
    tell,
    three_zones,
)
from tests.unit.twins import located, node
from topology.placement import Tier, ZoneKey

# Nodes without a zone label


def test_node_without_a_label_is_placed_by_own_samples() -> None:
    topology = three_zones(u=located("r"))
    measure(topology, "u", 310.0, 330.0, 320.0)
    assert placed_in(topology, "u") == A
    assert standing(topology, "u").tier is Tier.ZONE


def test_node_without_a_label_is_placed_by_what_it_tells_itself() -> None:
    topology = three_zones(u=located("r"))
    tell(topology, "u", zones={A: 900.0, B: 310.0, C: 950.0})
    assert placed_in(topology, "u") == B


def test_node_without_a_label_is_placed_by_what_others_tell_of_it() -> None:
    topology = three_zones(u=located())
    tell(topology, "c1", nodes={"u": 320.0})
    tell(topology, "b1", nodes={"u": 900.0})
    assert placed_in(topology, "u") == C
    assert standing(topology, "u").tier is Tier.REGION


def test_own_node_without_a_label_is_placed_by_its_samples() -> None:
    topology = three_zones(located("r"), u=located("r"))
    for name, rtt_us in (("a1", 900.0), ("b1", 310.0), ("b2", 330.0), ("c1", 920.0)):
        measure(topology, name, rtt_us, rtt_us, rtt_us)
    assert placed_in(topology, "own") == B
    assert standing(topology, "b2").tier is Tier.ZONE
    assert standing(topology, "a2").cost_us == pytest.approx(900.0, rel=0.1)


def test_own_node_without_any_label_or_measurement_still_has_an_order() -> None:
    topology = three_zones(located())
    snapshot = topology.refresh(5.0)
    assert all(each.tier is Tier.REMOTE for name, each in snapshot.standings.items() if name != OWN)
    measure(topology, "c1", 300.0)
    snapshot = topology.refresh(6.0)
    assert min((key, name) for name, key in snapshot.keys.items() if name != OWN)[1] == "c1"


def test_two_samples_are_not_enough_to_place_a_node() -> None:
    topology = three_zones(u=located("r"))
    measure(topology, "u", 310.0, 320.0)
    assert placed_in(topology, "u") is None


@pytest.mark.parametrize(
    "told", [{A: 310.0, B: 320.0}, {A: 600.0, B: 650.0, C: 610.0}, {B: 900.0}, {FAR: 30_000.0}]
)
def test_nobody_is_placed_when_the_evidence_is_ambiguous(told: dict[ZoneKey, float]) -> None:
    topology = three_zones(u=located("r"), x1=located("q", "x"))
    tell(topology, "u", zones=told)
    assert placed_in(topology, "u") is None


def test_one_liar_among_several_does_not_place_a_node() -> None:
    places = {f"c{number}": located("r", "c") for number in range(3, 7)}
    topology = three_zones(u=located("r"), **places)
    measure(topology, "u", 310.0, 320.0, 330.0)
    for name in ("c1", "c2", *places):
        tell(topology, name, nodes={"u": 1.0 if name == "c4" else 900.0})
    assert placed_in(topology, "u") == A


def test_placed_node_moves_when_its_latency_does() -> None:
    topology = three_zones(u=located("r"))
    tell(topology, "u", zones={A: 310.0, B: 900.0, C: 900.0})
    assert placed_in(topology, "u") == A
    tell(topology, "u", 10.0, zones={A: 900.0, B: 310.0, C: 900.0})
    assert placed_in(topology, "u", 11.0) == B
    assert topology.refresh(12.0).zones == {A: 3, B: 3, C: 2}


def test_label_that_comes_later_wins_over_what_was_inferred() -> None:
    topology = three_zones(u=located("r"))
    tell(topology, "u", zones={A: 310.0, B: 900.0, C: 900.0})
    assert placed_in(topology, "u") == A
    places = {name: each.placement for name, each in topology.snapshot.standings.items() if name != OWN}
    topology.update({**places, node("u"): located("r", "c")}, 6.0)
    known = standing(topology, "u", 7.0)
    assert known.placement.zone_key == C
    assert not known.inferred


def test_inferred_node_stays_placed_when_only_its_own_zones_evidence_fades() -> None:
    """Zone b still says "one zone away", which fits: the node must not fall out of its zone."""
    topology = three_zones(u=located("r"))
    measure(topology, "u", 310.0, 320.0, 330.0)
    assert placed_in(topology, "u") == A
    tell(topology, "b1", 100.0, nodes={"u": 900.0})
    for now_s in range(100, 400, 10):
        topology.refresh(float(now_s))
    assert placed_in(topology, "u", 400.0) == A


def test_inferred_zone_never_contradicts_the_nodes_own_region_label() -> None:
    topology = three_zones(u=located("eu"), x1=located("eu", "x"))
    measure(topology, "u", 310.0, 320.0, 330.0)
    known = standing(topology, "u")
    assert known.placement.region == "eu"


def test_generation_tells_that_a_node_was_placed_and_nothing_else() -> None:
    topology = three_zones(u=located("r"))
    before = topology.refresh(2.0).generation
    measure(topology, "a1", 300.0)
    assert topology.refresh(3.0).generation == before
    tell(topology, "u", zones={A: 310.0, B: 900.0, C: 900.0})
    assert topology.refresh(4.0).generation != before


# Suspects


def test_suspect_appears_and_disappears_with_the_evidence() -> None:
    topology = three_zones(odd=located("r", "b"))
    measure(topology, "odd", 300.0, 310.0, 320.0)
    suspicion = standing(topology, "odd").suspect
    assert suspicion is not None
    assert "r/b" in suspicion
    for number in range(40):
        topology.sample(node("odd"), 900.0, 10.0 + number)
    assert standing(topology, "odd", 50.0).suspect is None


def test_suspicion_is_forgotten_when_its_evidence_is() -> None:
    topology = three_zones(odd=located("r", "b"))
    measure(topology, "odd", 300.0, 310.0, 320.0)
    assert standing(topology, "odd").suspect is not None
    for now_s in range(10, 2000, 100):
        topology.refresh(float(now_s))
    assert standing(topology, "odd", 2000.0).suspect is None


def test_suspicion_is_forgotten_at_once_when_the_label_is_corrected() -> None:
    places = {f"n{number}": located("r", "a") for number in range(300)}
    topology = three_zones(odd=located("r", "b"), **places)
    for name in places:
        measure(topology, name, 310.0, 320.0, 330.0)
    measure(topology, "odd", 300.0, 310.0, 320.0)
    snapshot = topology.refresh(5.0)
    assert snapshot.standings[node("odd")].suspect is not None
    corrected = {name: each.placement for name, each in snapshot.standings.items() if name != OWN}
    corrected[node("odd")] = located("r", "a")
    topology.update(corrected, 6.0)
    assert standing(topology, "odd", 7.0).suspect is None


def test_suspicion_against_the_own_node_is_forgotten_with_the_last_of_the_evidence() -> None:
    topology = cluster(b1=located("r", "b"))
    measure(topology, "b1", 300.0, 310.0, 320.0)
    tell(topology, "b1", zones={A: 900.0})
    tell(topology, "b1", zones={})
    if standing(topology, "own").suspect is None:
        measure(topology, "b1", 100.0, 100.0, 100.0, start_s=6.0)
    topology.update({}, 10.0)
    for now_s in (11.0, 1000.0, 1001.0):
        topology.refresh(now_s)
    assert standing(topology, "own", 1002.0).suspect is None


def test_suspect_is_mentioned_in_the_report_and_stays_where_its_label_says() -> None:
    topology = three_zones(odd=located("r", "b"))
    measure(topology, "odd", 300.0, 310.0, 320.0)
    assert standing(topology, "odd").placement == located("r", "b")
    assert topology.report(5.0).nodes.keys() == {"odd"}
