"""Ranking: tier first, then round-trip time by steps, then equal shares; cooling peers last."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import node
from topology.placement import Locality
from topology.ranking import Candidate, Ranked, rank

CANDIDATES = st.lists(
    st.builds(
        Candidate,
        node=st.text("abcdef", min_size=1, max_size=3).map(node),
        locality=st.sampled_from(Locality),
        rtt_us=st.none() | st.floats(),  # measurements may be nonsense: NaN, infinite, negative
        cooling=st.booleans(),
    ),
    unique_by=lambda candidate: candidate.node,
)
CLIENT = node("client")


def candidate(
    name: str, locality: Locality = Locality.ZONE, rtt_us: float | None = None, *, cooling: bool = False
) -> Candidate:
    return Candidate(node=node(name), locality=locality, rtt_us=rtt_us, cooling=cooling)


def order(*candidates: Candidate, digest: str = "sha256:0", client: str = "client") -> list[str]:
    return [ranked.node for ranked in rank(candidates, client=node(client), digest=digest)]


def one(candidate: Candidate) -> Ranked:
    (ranked,) = rank([candidate], client=CLIENT, digest="sha256:0")
    return ranked


def test_same_zone_holder_outranks_lower_rtt_cross_zone() -> None:
    near, far = candidate("near", Locality.ZONE, 900_000), candidate("far", Locality.REGION, 50)
    assert order(far, near) == ["near", "far"]


def test_lower_rtt_outranks_within_a_tier_when_it_is_another_order_of_size() -> None:
    assert order(candidate("slow", rtt_us=4000), candidate("quick", rtt_us=300)) == ["quick", "slow"]


def test_cooling_peer_is_behind_the_farthest_well_one() -> None:
    cooling, far = candidate("cooling", Locality.RACK, 50, cooling=True), candidate("far", Locality.REMOTE)
    assert order(cooling, far) == ["far", "cooling"]


def test_unmeasured_peer_is_between_a_quick_and_a_slow_one() -> None:
    quick, unmeasured, slow = candidate("quick", rtt_us=100), candidate("new"), candidate("slow", rtt_us=9000)
    assert order(slow, unmeasured, quick) == ["quick", "new", "slow"]


def test_equal_holders_share_the_digests() -> None:
    holders = [candidate(name) for name in ("a", "b", "c", "d")]
    first = Counter(order(*holders, digest=f"sha256:{number}")[0] for number in range(2000))
    assert set(first) == {"a", "b", "c", "d"}
    assert max(first.values()) < 1.2 * min(first.values())


def test_equal_holders_share_the_clients_of_one_digest() -> None:
    holders = [candidate(name) for name in ("a", "b", "c", "d")]
    first = Counter(order(*holders, client=f"client-{number}")[0] for number in range(2000))
    assert max(first.values()) < 1.2 * min(first.values())


def test_jitter_within_a_step_does_not_take_work_from_the_equal_holder() -> None:
    holders = [candidate("a", rtt_us=260), candidate("b", rtt_us=410)]
    first = Counter(order(*holders, digest=f"sha256:{number}")[0] for number in range(1000))
    assert min(first["a"], first["b"]) > 400


def test_holder_that_leaves_moves_only_its_own_share() -> None:
    holders = [candidate(name) for name in ("a", "b", "c", "d")]
    for number in range(300):
        digest = f"sha256:{number}"
        before = order(*holders, digest=digest)
        after = order(*holders[1:], digest=digest)
        assert after == [name for name in before if name != "a"]


@given(candidates=CANDIDATES)
def test_ranking_is_a_permutation_with_places_from_one(candidates: list[Candidate]) -> None:
    ranked = rank(candidates, client=CLIENT, digest="sha256:0")
    assert sorted((r.node, r.locality) for r in ranked) == sorted((c.node, c.locality) for c in candidates)
    assert [r.rank for r in ranked] == list(range(1, len(candidates) + 1))


@given(data=st.data(), candidates=CANDIDATES)
def test_order_does_not_depend_on_the_order_given(data: st.DataObject, candidates: list[Candidate]) -> None:
    shuffled = data.draw(st.permutations(candidates))
    assert order(*shuffled) == order(*candidates)


@given(candidates=CANDIDATES)
def test_no_dominated_peer_is_preferred(candidates: list[Candidate]) -> None:
    by_name = {each.node: each for each in candidates}
    ranked = [by_name[node(name)] for name in order(*candidates)]
    for place, better in enumerate(ranked):
        for worse in ranked[place + 1 :]:
            assert (better.cooling, better.locality) <= (worse.cooling, worse.locality)
            same_tier = (better.cooling, better.locality) == (worse.cooling, worse.locality)
            if same_tier and _is_measured(better.rtt_us) and _is_measured(worse.rtt_us):
                assert better.rtt_us is not None
                assert worse.rtt_us is not None
                assert better.rtt_us < 2 * worse.rtt_us, "one step of the scale is all that is overlooked"


def _is_measured(rtt_us: float | None) -> bool:
    return rtt_us is not None and math.isfinite(rtt_us) and 1e-300 < rtt_us < 1e300


def test_reason_names_the_tier_and_the_round_trip_time() -> None:
    assert one(candidate("a", Locality.REGION, 1234.0)).reason == "tier region, rtt 1.23 ms"


def test_reason_says_what_was_not_measured_and_what_failed() -> None:
    assert one(candidate("a", cooling=True)).reason == (
        "tier zone, rtt unmeasured, failed a moment ago, last resort"
    )
