"""The cluster as one node knows it: what beats what, what peers tell, what is forgotten, what changes."""

import math
import random

import pytest

from tests.unit.topology.clusters import (
    FAR,
    OWN,
    TIMING,
    A,
    B,
    C,
    busy_cluster,
    cluster,
    measure,
    named,
    standing,
    tell,
)
from tests.unit.twins import located, node, zone_key
from topology.cluster import ClusterTopology, report_ttl_s
from topology.placement import NodeName, Tier
from topology.ranking import rank
from topology.snapshot import PRIORS_US, Source

# What beats what


def test_nothing_measured_costs_what_is_typical_of_the_tier() -> None:
    topology = cluster(near=located("r", "a"), next=located("r", "b"), far=located("q", "x"))
    for name, tier in (("near", Tier.ZONE), ("next", Tier.REGION), ("far", Tier.REMOTE)):
        known = standing(topology, name)
        assert (known.tier, known.source) == (tier, Source.PRIOR)
        assert known.cost_us == pytest.approx(PRIORS_US[tier])


def test_way_between_any_two_zones_is_the_measured_one_or_the_usual_one() -> None:
    topology = cluster(b1=located("r", "b"), c1=located("r", "c"), x1=located("q", "x"))
    tell(topology, "b1", zones={C: 1234.0})
    topology.refresh(2.0)
    assert topology.between_us(B, C) == topology.between_us(C, B) == pytest.approx(1234.0)
    assert topology.between_us(A, C) == pytest.approx(1234.0)  # usual in this region, as far as is known
    assert topology.between_us(A, FAR) == pytest.approx(PRIORS_US[Tier.REMOTE])
    assert topology.between_us(None, None) == pytest.approx(PRIORS_US[Tier.ZONE])
    assert topology.between_us(None, A) == pytest.approx(PRIORS_US[Tier.REMOTE])


def test_measured_latency_beats_the_zones_median() -> None:
    topology = cluster(b1=located("r", "b"), b2=located("r", "b"))
    tell(topology, "b1", zones={A: 2000.0})
    measure(topology, "b2", 700.0)
    assert standing(topology, "b2")[3:5] == (700.0, Source.MEASURED)


def test_zones_median_stands_in_for_a_node_that_was_not_measured() -> None:
    topology = cluster(b1=located("r", "b"), b2=located("r", "b"))
    measure(topology, "b1", 1500.0)
    assert standing(topology, "b2")[3:5] == (1500.0, Source.ZONE_PAIR)


def test_zones_median_beats_a_shorter_path() -> None:
    topology = cluster(b1=located("r", "b"), c1=located("r", "c"))
    tell(topology, "b1", zones={A: 5000.0})
    tell(topology, "c1", zones={A: 700.0, B: 700.0})
    assert standing(topology, "b1")[3:5] == (5000.0, Source.ZONE_PAIR)


def test_shortest_path_beats_the_prior() -> None:
    others = {f"{zone}1": located("p", zone) for zone in "uvw"}
    topology = cluster(b1=located("r", "b"), x1=located("q", "x"), **others)
    dear = {zone_key(f"p/{zone}"): 60_000.0 for zone in "uvw"}
    tell(topology, "b1", zones={A: 900.0, FAR: 5000.0, **dear})
    known = standing(topology, "x1")
    assert known.source is Source.PATH
    assert known.cost_us == pytest.approx(5900.0, rel=0.1)


def test_measured_path_beats_the_prior_where_no_node_has_a_region_label() -> None:
    """Both ways that were measured take 5 ms: the third takes more than the 0.9 ms of a guess."""
    a, b = zone_key("a"), zone_key("b")
    topology = cluster(located(None, "a"), b1=located(None, "b"), c1=located(None, "c"))
    tell(topology, "b1", zones={a: 5000.0, zone_key("c"): 5000.0})
    tell(topology, "c1", zones={b: 5000.0})
    assert standing(topology, "c1").cost_us >= 4000.0


def test_measured_path_of_a_region_with_labels_counts_for_its_unmeasured_zones() -> None:
    topology = cluster(b1=located("r", "b"), c1=located("r", "c"))
    tell(topology, "b1", zones={A: 5000.0, C: 5000.0})
    assert standing(topology, "c1").cost_us >= 4000.0


def test_rack_peers_stand_in_for_each_other_at_every_depth() -> None:
    deep = [("row", "1"), ("rack", "1")]
    topology = cluster(
        located("r", "a", *deep),
        rack1=located("r", "a", *deep),
        rack2=located("r", "a", *deep),
        row1=located("r", "a", deep[0], ("rack", "2")),
        row2=located("r", "a", deep[0], ("rack", "3")),
    )
    measure(topology, "rack1", 100.0)
    measure(topology, "row1", 200.0)
    snapshot = topology.refresh(5.0)
    assert snapshot.standings[node("rack2")].cost_us == 100.0
    assert snapshot.standings[node("row2")].cost_us == 200.0
    assert snapshot.key(node("rack2")) < snapshot.key(node("row2"))


def test_estimate_without_new_samples_decays_to_the_prior_and_never_beyond() -> None:
    topology = cluster(near=located("r", "a"))
    measure(topology, "near", 3000.0)
    costs = [round(standing(topology, "near", now_s).cost_us, 6) for now_s in range(1, 3000, 30)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == 3000.0
    assert costs[-1] == PRIORS_US[Tier.ZONE]
    assert standing(topology, "near", 3001.0).source is Source.PRIOR


def test_own_node_costs_nothing() -> None:
    known = standing(cluster(), "own")
    assert (known.cost_us, known.tier, known.source) == (0.0, Tier.NODE, Source.SELF)


@pytest.mark.parametrize("rtt_us", [math.nan, math.inf, -math.inf, -1.0, 0.0, 0.1, 2e7, 1e300])
def test_sample_that_cannot_be_true_never_gets_in(rtt_us: float) -> None:
    topology = cluster(near=located("r", "a"))
    assert not topology.sample(node("near"), rtt_us, 1.0)
    assert topology.estimate(node("near"), 1.0) is None
    assert standing(topology, "near").source is Source.PRIOR


def test_sample_of_the_own_node_or_of_a_stranger_is_not_taken() -> None:
    topology = cluster()
    assert not topology.sample(OWN, 300.0, 1.0)
    assert not topology.sample(node("stranger"), 300.0, 1.0)


# What peers tell


def test_absurd_values_are_clamped_counted_and_never_shown() -> None:
    topology = cluster(b1=located("r", "b"), u=located())
    values = {A: math.nan, B: -1.0, C: 1e300, FAR: math.inf}
    assert tell(topology, "b1", zones=values, nodes={"u": math.nan}) == 5
    assert tell(topology, "b1", zones={A: 0.0}, nodes={"u": -math.inf}) == 2
    assert tell(topology, "b1", zones={A: 900.0, B: 300.0}) == 0
    assert all(math.isfinite(each.cost_us) for each in topology.refresh(2.0).standings.values())


def test_word_of_the_own_node_or_of_a_stranger_is_not_heard() -> None:
    topology = cluster(b1=located("r", "b"))
    for reporter in ("own", "stranger"):
        assert tell(topology, reporter, zones={B: math.nan, A: 1.0}) == 0
    assert standing(topology, "b1").source is Source.PRIOR


def test_zone_that_nobody_is_in_is_not_made_by_a_report() -> None:
    topology = cluster(b1=located("r", "b"))
    tell(topology, "b1", zones={zone_key(f"r/made-up-{number}"): 1.0 for number in range(64)})
    assert topology.refresh(2.0).zones.keys() == {A, B}


@pytest.mark.parametrize("lie_us", [0.0, 1.0, 1e7])
def test_one_lying_reporter_among_several_does_not_move_a_median(lie_us: float) -> None:
    topology = cluster(**{f"b{number}": located("r", "b") for number in range(5)})
    for number, rtt_us in enumerate((900.0, 910.0, 890.0, 905.0)):
        tell(topology, f"b{number}", zones={A: rtt_us})
    honest_us = standing(topology, "b3").cost_us
    for _ in range(50):
        tell(topology, "b4", zones={A: lie_us})
    assert standing(topology, "b3").cost_us == pytest.approx(honest_us, rel=0.03)


def test_node_is_believed_to_be_slower_than_its_zone_and_never_to_be_nearer() -> None:
    topology = cluster(**{f"b{number}": located("r", "b") for number in range(4)})
    for number, rtt_us in enumerate((900.0, 900.0, 2700.0, 300.0)):
        tell(topology, f"b{number}", zones={A: rtt_us})
    assert standing(topology, "b2").cost_us == pytest.approx(2700.0)
    assert standing(topology, "b2").source is Source.SAYS_SLOWER
    assert standing(topology, "b3")[3:5] == (900.0, Source.ZONE_PAIR)
    measure(topology, "b2", 950.0)
    assert standing(topology, "b2")[3:5] == (950.0, Source.MEASURED)


def test_own_measurement_is_not_overruled_by_one_other_voice() -> None:
    topology = cluster(b1=located("r", "b"), b2=located("r", "b"), b3=located("r", "b"))
    measure(topology, "b1", 900.0)
    tell(topology, "b2", zones={A: 1.0})
    assert standing(topology, "b3")[3:5] == (900.0, Source.ZONE_PAIR)


def test_report_is_told_of_what_was_measured_and_of_nodes_without_a_zone() -> None:
    topology = cluster(b1=located("r", "b"), b2=located("r", "b"), u=located("r"))
    for name, rtt_us in (("b1", 900.0), ("b2", 920.0), ("u", 5000.0)):
        measure(topology, name, rtt_us, rtt_us, rtt_us)
    topology.refresh(5.0)
    report = topology.report(5.0, load=3)
    assert report.load == 3
    assert report.zones.keys() == {B}
    assert 900 <= report.zones[B] <= 920
    assert report.nodes == {"u": 5000.0}


def test_report_is_bounded() -> None:
    places = {f"n{number}": located("r", f"z{number}") for number in range(200)}
    places |= {f"u{number}": located("r") for number in range(200)}
    topology = cluster(**places)
    for name in places:
        measure(topology, name, 900.0, 900.0, 900.0)
    report = topology.report(5.0)
    assert len(report.zones) <= 64
    assert len(report.nodes) <= 32


# Old knowledge


def test_what_peers_told_is_forgotten_after_its_time() -> None:
    topology = cluster(b1=located("r", "b"), b2=located("r", "b"))
    tell(topology, "b1", zones={A: 5000.0})
    assert standing(topology, "b2").cost_us == 5000.0
    for now_s in (700.0, 701.0):
        topology.refresh(now_s)
    assert standing(topology, "b2", 702.0).source is Source.PRIOR
    assert topology.zone_costs[B][1] is Source.PRIOR


def test_median_of_a_region_is_forgotten_with_the_last_pair_it_comes_from() -> None:
    topology = cluster(b1=located("r", "b"), c1=located("r", "c"), d1=located("r", "d"))
    tell(topology, "b1", zones={C: 7000.0})
    assert standing(topology, "d1").cost_us == pytest.approx(7000.0)
    for now_s in (700.0, 701.0):
        topology.refresh(now_s)
    assert standing(topology, "d1", 702.0).cost_us == pytest.approx(PRIORS_US[Tier.REGION])


def sizes(topology: ClusterTopology) -> dict[str, int]:
    """The sizes of all that the topology keeps."""
    kept = {name: len(value) for name, value in vars(topology).items() if isinstance(value, dict)}
    kept["mentions by"] = sum(map(len, topology._witnesses._mentions.values()))
    kept["votes"] = sum(len(votes) for votes in topology._matrix._votes.values())
    kept["vertices"] = len(topology.graph.graph)
    kept["edges"] = topology.graph.graph.number_of_edges()
    return kept


def test_nodes_that_leave_are_forgotten_everywhere() -> None:
    topology, _ = busy_cluster()
    topology.update({}, 6.0)
    topology.refresh(7.0)
    topology.refresh(700.0)
    topology.refresh(701.0)
    fresh = cluster()
    fresh.refresh(7.0)
    assert sizes(topology) == sizes(fresh)


def test_word_of_a_node_that_left_about_another_is_forgotten() -> None:
    topology, places = busy_cluster()
    topology.update({node("u1"): places[node("u1")]}, 6.0)
    assert sizes(topology)["mentions by"] <= 1


def test_members_that_come_and_go_for_ever_leave_nothing_behind() -> None:
    topology = cluster(stays=located("r", "a"))
    for number in range(60):
        new = {node("stays"): located("r", "a"), node(f"n{number}"): located("r", f"z{number}")}
        now_s = 20.0 * number
        topology.update(new, now_s)
        topology.sample(node(f"n{number}"), 900.0, now_s)
        tell(topology, f"n{number}", now_s, zones={A: 900.0}, nodes={"stays": 300.0})
        topology.refresh(now_s + 1)
    assert all(size <= 100 for size in sizes(topology).values()), sizes(topology)


# Sizes and extremes


def test_ten_thousand_nodes_of_one_zone_are_all_equal() -> None:
    places = named({f"n{number}": located("r", "a") for number in range(10_000)})
    topology = cluster()
    topology.update(places, 0.0)
    measure(topology, "n1", 300.0)
    snapshot = topology.refresh(2.0)
    assert len(snapshot.standings) == 10_001
    assert snapshot.zones == {A: 10_001}
    assert {snapshot.standings[name].cost_us for name in places} == {300.0}


def test_cluster_without_any_labels_is_ordered_by_latency_alone() -> None:
    topology = cluster(located(), **{f"n{number}": located() for number in range(5)})
    for number in range(5):
        measure(topology, f"n{number}", *[300.0 * 3**number] * 3)
    snapshot = topology.refresh(5.0)
    assert snapshot.zones == {}
    assert snapshot.problems == ()
    order = sorted((key, name) for name, key in snapshot.keys.items() if name != OWN)
    assert [name for _, name in order] == [f"n{number}" for number in range(5)]


def test_node_on_its_own_has_a_snapshot() -> None:
    for own in (located(), located("r", "a")):
        assert cluster(own).refresh(1.0).standings.keys() == {OWN}


def test_clock_that_jumps_leaves_everything_finite() -> None:
    topology, _ = busy_cluster()
    for now_s in (1e9, 0.0, -1e9, 5.0):
        topology.sample(node("n1"), 300.0, now_s)
        snapshot = topology.refresh(now_s)
        assert all(math.isfinite(each.cost_us) for each in snapshot.standings.values())


def test_latest_of_thousands_of_measured_peers_are_kept() -> None:
    places = named({f"n{number}": located("r", "a") for number in range(4200)})
    topology = cluster()
    topology.update(places, 0.0)
    for name in places:
        topology.sample(name, 300.0, 1.0)
    topology.refresh(2.0)
    measured = [name for name in places if topology.estimate(name, 2.0) is not None]
    assert len(measured) == 4096
    assert node("n4199") in measured


# What a change of the way does to the choice


WAYS = [(300.0, 5300.0), (300.0, 1000.0)]
INTERVAL_S, REFRESH_S = 2.0, 1.0
STATED_S = TIMING.window_s + INTERVAL_S + 2 * REFRESH_S  # as the README has it


def choice(topology: ClusterTopology, holders: list[NodeName], number: int) -> str:
    return rank(holders, topology.snapshot, digest=f"sha256:{number}", limit=1)[0].node


@pytest.mark.parametrize(("near_us", "far_us"), WAYS)
@pytest.mark.parametrize("seed", range(5))
def test_choice_swaps_within_the_stated_time_when_two_ways_swap(
    near_us: float, far_us: float, seed: int
) -> None:
    """Measurements every two seconds, jitter and spikes; pulls measure their new connections in passing."""
    dice = random.Random(seed)
    topology = cluster(one=located("r", "a"), other=located("r", "a"))
    holders = [node("one"), node("other")]
    ways = {"one": near_us, "other": far_us}
    now_s = swapped_s = 0.0
    for second in range(120):
        now_s = float(second)
        if second == 60:
            ways = {"one": far_us, "other": near_us}
            swapped_s = now_s
        for name, way_us in ways.items():
            jitter_us = dice.expovariate(1 / 50) + (dice.uniform(0, 12_000) if dice.random() < 0.02 else 0)
            if second % INTERVAL_S == 0 or dice.random() < 0.2:
                topology.sample(node(name), way_us + jitter_us, now_s)
        topology.refresh(now_s)
        chosen = {choice(topology, holders, number) for number in range(20)}
        if second == 59:
            assert chosen == {"one"}
        elif swapped_s and now_s - swapped_s > STATED_S:
            assert chosen == {"other"}, now_s - swapped_s


def test_one_bad_handshake_does_not_decide() -> None:
    """A peer that was never measured is known by one connection, and that one met a spike."""
    topology = cluster(**{f"a{number}": located("r", "a") for number in range(4)})
    for number in range(3):
        measure(topology, f"a{number}", 300.0, 310.0, 305.0)
    topology.sample(node("a3"), 12_000.0, 3.0)
    known = standing(topology, "a3", 4.0)
    assert known.source is not Source.MEASURED
    assert known.cost_us < 1500.0
    topology.sample(node("a3"), 310.0, 5.0)
    assert standing(topology, "a3", 6.0).cost_us < 500.0


def test_one_handshake_below_what_is_usual_is_believed() -> None:
    """Jitter only adds: 8 ms to a region of which nothing is known, instead of a prior of 30."""
    topology = cluster(x1=located("q", "x"))
    topology.sample(node("x1"), 8000.0, 1.0)
    assert standing(topology, "x1", 2.0)[3:5] == (8000.0, Source.MEASURED)


def test_absurd_words_of_many_do_not_overrule_what_this_node_measured() -> None:
    names = [f"b{number}" for number in range(8)]
    topology = cluster(**{name: located("r", "b") for name in names})
    measure(topology, "b0", 900.0)
    for name in names[1:]:
        tell(topology, name, zones={A: 9_000_000.0})
    assert standing(topology, "b0").cost_us == 900.0
    assert topology.zone_costs[B][0] == 900.0


def test_unchanged_members_change_nothing() -> None:
    topology = cluster(b1=located("r", "b"))
    generation = topology.snapshot.generation
    assert topology.update({node("b1"): located("r", "b")}, 9.0).generation == generation
    assert topology.update({node("b1"): located("r", "c")}, 9.0).generation > generation


@pytest.mark.parametrize(("report_s", "ttl_s"), [(15.0, 600.0), (150.0, 600.0), (300.0, 1200.0)])
def test_report_counts_for_ten_minutes_or_for_four_intervals(report_s: float, ttl_s: float) -> None:
    assert report_ttl_s(report_s) == ttl_s
