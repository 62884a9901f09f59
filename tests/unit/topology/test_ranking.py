"""Ranking: tier, then round trip, of which a ratio of 1.6 is equal, then load, then equal shares."""

import dataclasses
import itertools
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.twins import located, node
from topology.cluster import ClusterTopology
from topology.placement import NodeName, Path, Tier
from topology.ranking import Condition, Ranked, rank
from topology.rtt import Estimate
from topology.snapshot import SEED_BITS, Snapshot, Source, Standing, cost_steps, seed_of, tier_key

OWN = node("own")
OWN_PATH: Path = (("region", "r"), ("zone", "z"), ("row", "1"), ("rack", "1"))
PLACES = {  # what a holder has in common with the own node
    "rack": located("r", "z", ("row", "1"), ("rack", "1")),
    "row": located("r", "z", ("row", "1"), ("rack", "2")),
    "zone": located("r", "z", ("row", "2")),
    "region": located("r", "y"),
    "remote": located("q", "x"),
}
SHARED = {
    "rack": (Tier.RACK, 4),
    "row": (Tier.RACK, 3),
    "zone": (Tier.ZONE, 2),
    "region": (Tier.REGION, 1),
    "remote": (Tier.REMOTE, 0),
}
TIERS = list(SHARED)
COOLING, SATURATED, LOADED = Condition(cooling=True), Condition(saturated=True), Condition(load=4)


def standing(place: str, cost_us: float, estimate: Estimate | None = None) -> Standing:
    tier, shared = SHARED[place]
    return Standing(
        placement=PLACES[place],
        tier=tier,
        shared=shared,
        cost_us=cost_us,
        source=Source.PRIOR if estimate is None else Source.MEASURED,
        estimate=estimate,
        inferred=False,
        suspect=None,
    )


def snapshot_of(nodes: Mapping[str, Standing], own: NodeName = OWN) -> Snapshot:
    return Snapshot(
        own=own,
        standings={node(name): each for name, each in nodes.items()},
        keys={
            node(name): (
                (tier_key(each.tier, each.placement.path, each.shared) + cost_steps(each.cost_us))
                << SEED_BITS
                | seed_of(name)
            )
            for name, each in nodes.items()
        },
        zones={},
        problems=(),
        made_s=0.0,
        generation=1,
    )


def cluster(**nodes: tuple[str, float]) -> Snapshot:
    """A snapshot of nodes by their tier and round trip in microseconds."""
    return snapshot_of({name: standing(*each) for name, each in nodes.items()})


def order(
    snapshot: Snapshot,
    *names: str,
    digest: str = "sha256:0",
    limit: int | None = None,
    conditions: Mapping[str, Condition] | None = None,
) -> list[str]:
    known = {node(name): condition for name, condition in (conditions or {}).items()}
    holders = [node(name) for name in names] or list(snapshot.standings)
    return [each.node for each in rank(holders, snapshot, digest=digest, conditions=known, limit=limit)]


def test_same_zone_holder_outranks_lower_rtt_cross_zone() -> None:
    assert order(cluster(near=("zone", 900_000), far=("region", 50))) == ["near", "far"]


def test_deeper_level_in_common_outranks_lower_rtt() -> None:
    snapshot = cluster(zone=("zone", 10), row=("row", 20), rack=("rack", 900), remote=("remote", 1))
    assert order(snapshot) == ["rack", "row", "zone", "remote"]


def test_clearly_lower_rtt_outranks_within_a_tier() -> None:
    for number in range(50):
        snapshot = cluster(slow=("zone", 700), quick=("zone", 400))
        assert order(snapshot, digest=f"sha256:{number}") == ["quick", "slow"]


def test_rtts_within_the_ratio_share_the_work() -> None:
    snapshot = cluster(a=("zone", 260), b=("zone", 410))
    first = Counter(order(snapshot, digest=f"sha256:{number}")[0] for number in range(1000))
    assert min(first["a"], first["b"]) > 400


def test_equal_is_measured_from_the_nearest_and_not_from_a_neighbour_in_the_order() -> None:
    chain = {f"n{number}": standing("zone", 100 * 1.3**number) for number in range(8)}
    snapshot = snapshot_of(chain)
    for number in range(100):
        first = order(snapshot, digest=f"sha256:{number}")[0]
        assert chain[first].cost_us <= 160


def test_less_loaded_equal_comes_first_and_load_does_not_outrank_the_rtt() -> None:
    snapshot = cluster(busy=("zone", 300), idle=("zone", 320), slow=("zone", 3000))
    for number in range(30):
        ranked = order(snapshot, digest=f"sha256:{number}", conditions={"busy": LOADED})
        assert ranked == ["idle", "busy", "slow"]


def test_more_loaded_comes_later_among_equals() -> None:
    conditions = {f"n{load}": Condition(load=load) for load in (0, 1, 2, 4, 8, 1_000_000)}
    snapshot = cluster(**dict.fromkeys(conditions, ("zone", 300.0)))
    assert order(snapshot, conditions=conditions) == ["n0", "n1", "n2", "n4", "n8", "n1000000"]


def test_saturated_tier_spills_over_to_the_next_at_once() -> None:
    snapshot = cluster(a=("rack", 100), b=("rack", 100), c=("zone", 300), d=("remote", 80_000))
    conditions = {"a": SATURATED, "b": SATURATED}
    ranked = order(snapshot, conditions=conditions)
    assert ranked[:2] == ["c", "d"]
    assert set(ranked[2:]) == {"a", "b"}


def test_cooling_holder_is_behind_a_saturated_one_of_the_farthest_tier() -> None:
    snapshot = cluster(cooling=("rack", 50), saturated=("remote", 80_000), well=("remote", 90_000))
    assert order(snapshot, conditions={"cooling": COOLING, "saturated": SATURATED}) == [
        "well",
        "saturated",
        "cooling",
    ]


def test_holder_that_is_both_cooling_and_saturated_is_the_very_last() -> None:
    snapshot = cluster(both=("rack", 50), cooling=("remote", 80_000))
    both = Condition(cooling=True, saturated=True, load=1)
    assert order(snapshot, conditions={"both": both, "cooling": COOLING}) == ["cooling", "both"]


def test_one_in_flight_is_behind_the_complete_ones_of_its_tier_and_before_a_farther_tier() -> None:
    snapshot = cluster(near=("rack", 10.0), slow=("rack", 900.0), far=("zone", 10.0))
    conditions = {"near": Condition(in_flight=99), "slow": Condition(load=1000)}
    assert order(snapshot, conditions=conditions) == ["slow", "near", "far"]


def test_how_much_of_it_is_there_does_not_decide_between_those_in_flight() -> None:
    snapshot = cluster(near=("zone", 100.0), far=("zone", 900.0))
    conditions = {"near": Condition(in_flight=0), "far": Condition(in_flight=99)}
    assert order(snapshot, conditions=conditions) == ["near", "far"]


def test_doubted_holder_is_behind_every_other_one_and_still_there() -> None:
    snapshot = cluster(doubted=("rack", 50), both=("remote", 80_000))
    both = Condition(cooling=True, saturated=True, load=1000)
    conditions = {"doubted": Condition(doubted=True), "both": both}
    assert order(snapshot, conditions=conditions) == ["both", "doubted"]


def test_stranger_is_behind_every_member_that_is_well() -> None:
    snapshot = cluster(far=("remote", 9_999_999))
    assert order(snapshot, "stranger", "far") == ["far", "stranger"]


@pytest.mark.parametrize("limit", [None, 1, 8, 150])
def test_hundreds_of_strangers_are_ranked_like_anybody(limit: int | None) -> None:
    snapshot = cluster(near=("zone", 300))
    names = [f"stranger-{number}" for number in range(500)]
    ranked = order(snapshot, *names, "near", limit=limit)
    assert ranked[0] == "near"
    assert len(ranked) == (limit or 501)


def test_nobody_to_rank_is_an_empty_ranking() -> None:
    for limit in (None, 0, 1):
        assert rank([], cluster(), digest="sha256:0", limit=limit) == ()


def test_holder_given_twice_is_ranked_once() -> None:
    snapshot = cluster(a=("zone", 300), b=("zone", 300))
    assert sorted(order(snapshot, "a", "b", "a", "a")) == ["a", "b"]


def test_own_node_comes_before_all_others() -> None:
    topology = ClusterTopology(own=OWN, placement=PLACES["rack"])
    topology.update({node("near"): PLACES["rack"]}, 0.0)
    topology.sample(node("near"), 1.0, 1.0)
    assert order(topology.refresh(2.0)) == ["own", "near"]


# How work is shared


def spread(names: Sequence[str], digests: int, own: str = "own") -> Counter[str]:
    snapshot = snapshot_of({name: standing("zone", 300) for name in names}, node(own))
    return Counter(order(snapshot, digest=f"sha256:{number}", limit=1)[0] for number in range(digests))


def chi_square(counts: Counter[str], names: Sequence[str]) -> float:
    expected = counts.total() / len(names)
    return sum((counts[name] - expected) ** 2 / expected for name in names)


@pytest.mark.parametrize("count", [2, 3, 4, 7, 16, 64])
def test_equal_holders_share_the_digests_evenly(count: int) -> None:
    names = [f"node-{number}" for number in range(count)]
    degrees = count - 1
    # Six standard deviations of the chi-square distribution.
    assert chi_square(spread(names, 3000), names) < degrees + 6 * math.sqrt(2 * degrees)


def test_equal_holders_share_the_clients_of_one_digest_evenly() -> None:
    names = [f"node-{number}" for number in range(8)]
    nodes = {name: standing("zone", 300) for name in names}
    first = Counter(order(snapshot_of(nodes, node(f"c{number}")), limit=1)[0] for number in range(3000))
    assert chi_square(first, names) < 7 + 6 * math.sqrt(14)


def test_nodes_of_one_zone_choose_the_same_holder_of_another_zone_if_they_pass_it_on() -> None:
    names = [f"node-{number}" for number in range(8)]

    def first(client: str, zone: str, tier: str = "region", digest: str = "d") -> NodeName:
        nodes = {name: standing(tier, 300) for name in names}
        own = standing("zone", 1)._replace(placement=located("r", zone))
        snapshot = snapshot_of({**nodes, client: own}, node(client))
        return rank(list(map(node, names)), snapshot, digest=digest, zone_as_one=True)[0].node

    clients = [f"client-{number}" for number in range(40)]
    assert len({first(client, "z") for client in clients}) == 1
    assert len({first("client", f"z{number}") for number in range(40)}) > 4, "each zone its own"
    assert len({first("client", "z", digest=f"d{number}") for number in range(40)}) > 4, "each digest its own"
    assert len({first(client, "z", "zone") for client in clients}) > 4, "near holders share the clients"


def test_second_choice_is_as_evenly_shared_as_the_first() -> None:
    """What the clients of a holder that fails take next must not be one and the same."""
    names = [f"node-{number}" for number in range(6)]
    snapshot = snapshot_of({name: standing("zone", 300) for name in names})
    orders = [order(snapshot, digest=f"sha256:{number}", limit=2) for number in range(12_000)]
    for name in names:
        second = Counter(ranked[1] for ranked in orders if ranked[0] == name)
        rest = [other for other in names if other != name]
        expected = second.total() / len(rest)
        assert all(0.5 * expected < second[other] < 1.6 * expected for other in rest), (name, second)


def test_holder_that_leaves_moves_only_its_own_share() -> None:
    names = [f"n{number}" for number in range(12)]
    snapshot = snapshot_of({name: standing("zone", 300) for name in names})
    for number in range(300):
        before = order(snapshot, *names, digest=f"sha256:{number}")
        after = order(snapshot, *names[1:], digest=f"sha256:{number}")
        assert after == [name for name in before if name != "n0"]


def test_holder_that_joins_takes_only_what_it_gets_first() -> None:
    names = [f"n{number}" for number in range(200)]
    old = snapshot_of({name: standing("zone", 300) for name in names})
    new = snapshot_of({name: standing("zone", 300) for name in [*names, "new"]})
    for number in range(100):
        digest = f"sha256:{number}"
        after = order(new, digest=digest, limit=1)
        assert after == ["new"] or after == order(old, digest=digest, limit=1)


# Properties

COSTS = st.sampled_from((0.0, 1.0, 250.0, 300.0, 320.0, 480.0, 500.0, 1e4, 1e7)) | st.floats(0.0, 1e7)
CONDITIONS = st.builds(
    Condition,
    load=st.sampled_from((0, 1, 3, 100)),
    saturated=st.booleans(),
    cooling=st.booleans(),
    in_flight=st.sampled_from((None, None, 0, 61)),
)
NAMES = [f"n{number}" for number in range(40)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[Snapshot, list[NodeName], dict[NodeName, Condition]]:
    """A snapshot, holders of which some are strangers or there twice, and what is known of some."""
    members = draw(st.lists(st.sampled_from(NAMES), unique=True))
    nodes = {name: standing(draw(st.sampled_from(TIERS)), draw(COSTS)) for name in members}
    holders = [node(name) for name in draw(st.lists(st.sampled_from(NAMES)))]
    known = draw(st.dictionaries(st.sampled_from([node(name) for name in NAMES]), CONDITIONS, max_size=10))
    return snapshot_of(nodes), holders, known


@settings(max_examples=60)
@given(case=cases(), digest=st.text("0123456789abcdef", min_size=1))
def test_ranking_is_a_permutation_with_places_from_one(
    case: tuple[Snapshot, list[NodeName], dict[NodeName, Condition]], digest: str
) -> None:
    snapshot, holders, known = case
    ranked = rank(holders, snapshot, digest=digest, conditions=known)
    assert sorted(each.node for each in ranked) == sorted(set(holders))
    assert [each.rank for each in ranked] == list(range(1, len(ranked) + 1))
    assert all(each.tier is snapshot.tier(each.node) for each in ranked)


@settings(max_examples=60)
@given(data=st.data(), case=cases())
def test_order_does_not_depend_on_the_order_given(
    data: st.DataObject, case: tuple[Snapshot, list[NodeName], dict[NodeName, Condition]]
) -> None:
    snapshot, holders, known = case
    shuffled = data.draw(st.permutations(holders))
    limit = data.draw(st.none() | st.integers(0, 12))
    one = rank(holders, snapshot, digest="d", conditions=known, limit=limit)
    assert one == rank(iter(shuffled), snapshot, digest="d", conditions=known, limit=limit)


@settings(max_examples=60)
@given(case=cases())
def test_no_dominated_holder_is_preferred(
    case: tuple[Snapshot, list[NodeName], dict[NodeName, Condition]],
) -> None:
    snapshot, holders, known = case
    ranked = rank(holders, snapshot, digest="d", conditions=known)
    for better, worse in itertools.combinations(ranked, 2):
        first, second = (
            (each.doubted, each.cooling, each.saturated) for each in (better.condition, worse.condition)
        )
        assert first <= second
        if first != second:
            continue
        assert better.tier <= worse.tier
        a, b = better.standing, worse.standing
        if a is None or b is None or better.tier is not worse.tier or a.shared != b.shared:
            continue  # each finer level within a zone is a tier of its own
        arrives, arrives_too = (each.condition.in_flight is not None for each in (better, worse))
        if arrives != arrives_too:
            assert not arrives, "one that has all of it comes first in its tier"
            continue
        assert a.cost_us <= max(b.cost_us, 1.0) * 1.65, "one step of the scale is all that is overlooked"


@settings(max_examples=60)
@given(case=cases())
def test_every_result_has_a_reason_in_one_line(
    case: tuple[Snapshot, list[NodeName], dict[NodeName, Condition]],
) -> None:
    snapshot, holders, known = case
    for each in rank(holders, snapshot, digest="d", conditions=known):
        assert each.reason
        assert each.reason.isprintable()
        assert "nan" not in each.reason
        assert "inf" not in each.reason.replace("inferred", "")


def random_case(dice: random.Random, size: int) -> tuple[Snapshot, list[NodeName], dict[NodeName, Condition]]:
    """Thousands of holders: few or many different costs, crowds of equals, strangers, conditions."""
    tiers = dice.sample(TIERS, dice.randint(1, len(TIERS)))
    kind = dice.choice(("equal", "few", "spread", "edge", "one near"))

    def cost_us(number: int) -> float:
        if kind == "equal":
            return 300.0
        if kind == "few":
            return dice.choice((250.0, 300.0, 390.0, 410.0, 900.0))
        if kind == "spread":
            return 10 ** dice.uniform(0, 7)
        if kind == "edge":  # about one step on either side of the borders between bins
            return float(200 * 1.02 ** (24 * dice.randint(0, 3) + dice.randint(-1, 1)))
        return 200.0 if number == 0 else 300.0

    nodes = {
        f"n{number}": standing(dice.choice(tiers), cost_us(number))
        for number in range(size)
        if dice.random() < 0.97
    }
    holders = [node(f"n{number}") for number in range(size)]
    holders += dice.sample(holders, size // 20)
    dice.shuffle(holders)
    share = dice.choice((0.0, 0.01, 0.3, 1.0))
    known = {
        name: Condition(
            load=dice.choice((0, 0, 1, 2, 1000)),
            saturated=dice.random() < 0.3,
            cooling=dice.random() < 0.3,
            doubted=dice.random() < 0.2,
            in_flight=dice.choice((None, None, 0, 61)),
        )
        for name in dict.fromkeys(holders)
        if dice.random() < share
    }
    return snapshot_of(nodes), holders, known


def in_own_zone(snapshot: Snapshot) -> Snapshot:
    """The same, of a node whose zone is known."""
    own = standing("zone", 1)._replace(placement=located("r", "z"))
    return dataclasses.replace(snapshot, standings={**snapshot.standings, snapshot.own: own})


def without_equals(ranked: Sequence[Ranked]) -> list[Ranked]:
    """With a limit, equals are counted among the holders that were looked at."""
    return [each._replace(equals=1) for each in ranked]


@pytest.mark.parametrize("seed", range(16))
def test_with_a_limit_it_is_the_beginning_of_the_whole_order_among_thousands(seed: int) -> None:
    dice = random.Random(seed)
    snapshot, holders, known = random_case(dice, (90, 200, 700, 2000)[seed % 4])
    digest = f"sha256:{seed}"
    whole = without_equals(rank(holders, snapshot, digest=digest, conditions=known))
    for limit in (0, 1, 2, 8, 16, 63, 64, 100, len(set(holders)) - 1, 10**6):
        first = rank(holders, snapshot, digest=digest, conditions=known, limit=limit)
        assert without_equals(first) == whole[:limit]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), size=st.integers(60, 400), limit=st.integers(1, 100))
def test_with_a_limit_it_is_the_beginning_of_the_whole_order(seed: int, size: int, limit: int) -> None:
    snapshot, holders, known = random_case(random.Random(seed), size)
    for seen, as_one in ((snapshot, False), (in_own_zone(snapshot), True)):
        ranked = partial(rank, holders, seen, digest="d", conditions=known, zone_as_one=as_one)
        assert without_equals(ranked(limit=limit)) == without_equals(ranked())[:limit]


def test_limit_is_right_where_the_hash_of_the_nearest_is_unlucky() -> None:
    """The nearest holder sets what counts as equal, even if its own hash puts it far back."""
    nodes = {"nearest": standing("zone", 200), **{f"n{i}": standing("zone", 300) for i in range(300)}}
    nodes |= {f"m{i}": standing("zone", 200 * 1.02**25) for i in range(300)}
    snapshot = snapshot_of(nodes)
    known = {f"n{i}": Condition(load=1) for i in range(0, 300, 2)}
    for number in range(40):
        digest = f"sha256:{number}"
        whole = order(snapshot, digest=digest, conditions=known)
        for limit in (1, 8, 200, 320):
            assert order(snapshot, digest=digest, conditions=known, limit=limit) == whole[:limit]


# Reasons


def only(snapshot: Snapshot, name: str, condition: Condition | None = None) -> Ranked:
    known = {} if condition is None else {node(name): condition}
    (ranked,) = rank([node(name)], snapshot, digest="sha256:0", conditions=known)
    return ranked


def test_reason_names_the_tier_the_round_trip_and_where_it_comes_from() -> None:
    estimate = Estimate(
        low_us=1234, min_us=1200, jitter_us=10, samples=12, age_s=3.4, weight=1.0, freshness=1.0
    )
    snapshot = snapshot_of({"a": standing("region", 1234, estimate)})
    assert only(snapshot, "a").reason == "tier region, rtt 1.23 ms (12 samples, 3 s ago)"


def test_reason_says_that_nothing_was_measured() -> None:
    assert "not measured" in only(cluster(a=("zone", 320)), "a").reason


def test_reason_says_what_held_it_back() -> None:
    snapshot = cluster(a=("zone", 320))
    assert "load 7" in only(snapshot, "a", Condition(load=7)).reason
    assert "capacity" in only(snapshot, "a", SATURATED).reason
    assert "last resort" in only(snapshot, "a", COOLING).reason
    assert "in flight, 0 %" in only(snapshot, "a", Condition(in_flight=0)).reason
    assert "not committed" in only(snapshot, "a", Condition(doubted=True)).reason


def test_reason_says_how_many_were_as_good() -> None:
    snapshot = cluster(a=("zone", 320), b=("zone", 330), c=("zone", 3000))
    reasons = {each.node: each.reason for each in rank(snapshot.standings, snapshot, digest="d")}
    assert "one of 2 equals" in reasons[node("a")]
    assert "equals" not in reasons[node("c")]


def test_reason_of_a_stranger_says_so() -> None:
    assert only(cluster(), "stranger").reason == "not a member any more"


def test_reason_tells_of_inference_and_suspicion() -> None:
    odd = standing("zone", 320)._replace(inferred=True, suspect="too far")
    reason = only(snapshot_of({"a": odd}), "a").reason
    assert "zone inferred from latency" in reason
    assert "suspect: too far" in reason


def test_ranking_does_not_change_what_it_reads() -> None:
    snapshot = cluster(a=("zone", 320), b=("region", 900))
    before = dataclasses.replace(snapshot, standings=dict(snapshot.standings), keys=dict(snapshot.keys))
    rank([node("b"), node("a"), node("x")], snapshot, digest="d", limit=1)
    assert (snapshot.standings, snapshot.keys) == (before.standings, before.keys)
