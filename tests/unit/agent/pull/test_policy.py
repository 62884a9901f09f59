"""The policy of all pulls: the holders that they may try, in which order, and what a finding means."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Mapping, Set
from typing import Any

import pytest

from agent.config import ColdStartSettings, PullSettings, TransferSettings
from agent.holders.index import InFlight
from agent.oci.digest import Digest
from agent.oci.ranges import RangeSpec
from agent.pull.events import Avoid, Commend, Failure, Relieve, Shun
from agent.pull.fanout import LEAST_BYTES
from agent.pull.meter import Meter, Rate
from agent.pull.pace import Pace
from agent.pull.policy import SHUN_COOLOFFS, Delivery, Policy
from agent.pull.regard import Regard
from agent.pull.trust import Distrust
from tests.unit.twins import make_policy, node, placed, sha256
from topology.cluster import ClusterTopology
from topology.placement import NodeName, Tier
from topology.snapshot import Snapshot

PULL, TRANSFER = PullSettings(), TransferSettings()
DIGEST = sha256("layer")
PLACES = {"far": placed("us", "us-a"), "near": placed("eu", "eu-a"), "region": placed("eu", "eu-b")}


@pytest.fixture
def policy() -> Policy:
    regard = Regard(cooloff_s=PULL.cooloff_s)
    regard.members_changed(map(node, PLACES))
    pace = Pace(patience_s=PULL.patience_s)
    return Policy(regard=regard, pace=pace, pull=PULL, transfer=TRANSFER, chance=lambda low, high: high)


@pytest.fixture
def snapshot() -> Snapshot:
    topology = ClusterTopology(own=node("own"), placement=placed("eu", "eu-a"))
    return topology.update({node(name): place for name, place in PLACES.items()}, 0.0)


def order(policy: Policy, snapshot: Snapshot, now_s: float = 100.0) -> list[NodeName]:
    return [one.node for one in policy.candidates(DIGEST, map(node, PLACES), snapshot, now_s)]


def test_nearest_candidate_comes_first(policy: Policy, snapshot: Snapshot) -> None:
    assert order(policy, snapshot) == ["near", "region", "far"]


def test_one_in_flight_comes_behind_those_of_its_tier_that_have_it_and_before_a_farther_tier(
    policy: Policy, snapshot: Snapshot
) -> None:
    in_flight = {node("near"): 61}
    held = map(node, ("far", "region"))
    found = policy.candidates(DIGEST, held, snapshot, 100.0, in_flight=in_flight)
    assert [one.node for one in found] == ["near", "region", "far"]
    assert found[0].condition.in_flight == 61
    assert "in flight, 61 %" in found[0].reason
    found = policy.candidates(DIGEST, [node("far")], snapshot, 100.0, in_flight={node("region"): 0})
    assert [(one.node, one.condition.in_flight) for one in found] == [("region", 0), ("far", None)]


def test_one_in_flight_is_passed_over_like_any_other(policy: Policy, snapshot: Snapshot) -> None:
    policy.apply(Shun(node=node("near")), DIGEST, 100.0)
    assert policy.candidates(DIGEST, (), snapshot, 100.0, in_flight={node("near"): 99}) == ()


def in_flight(name: str, available_bytes: int) -> InFlight:
    return InFlight(node=node(name), available_bytes=available_bytes, size_bytes=200)


def test_one_in_flight_that_is_not_ahead_is_not_asked_and_nobody_is_by_a_pull_that_does_not_follow(
    policy: Policy, snapshot: Snapshot
) -> None:
    arriving = [in_flight("near", 100), in_flight("region", 50)]

    def found(position: int, *, follows: bool) -> list[NodeName]:
        ranked = policy.found(
            DIGEST,
            [node("far")],
            arriving,
            snapshot,
            100.0,
            position=position,
            size_bytes=200,
            follows=follows,
        )
        return [one.node for one in ranked]

    assert found(0, follows=True) == ["near", "region", "far"]
    assert found(50, follows=True) == ["near", "far"]
    assert found(100, follows=True) == ["far"]
    assert found(0, follows=False) == ["far"]


@pytest.mark.parametrize("complete", [True, False])
def test_those_that_a_claim_names_are_asked_in_the_order_in_which_they_are_named(
    policy: Policy, snapshot: Snapshot, *, complete: bool
) -> None:
    sources = [node("far"), node("near"), node("region")]
    claimed = policy.claimed(DIGEST, sources, snapshot, 100.0, complete=complete)
    assert [one.node for one in claimed] == sources
    assert [one.condition.in_flight for one in claimed] == [None if complete else 0] * 3


def test_nobody_follows_a_suspect_while_it_fetches_the_same_content_again(
    policy: Policy, snapshot: Snapshot
) -> None:
    policy.delivered(DIGEST, FROM_NEAR, 100.0)
    policy.requested(DIGEST, None, 101.0)
    in_flight = {node("near"): 99, node("region"): 3}
    found = policy.candidates(DIGEST, (), snapshot, 101.0, in_flight=in_flight)
    assert [one.node for one in found] == ["region"]
    assert policy.passed_over_reasons(DIGEST, 101.0, arriving=in_flight) == {"near": Distrust.SUSPECT}
    assert policy.passed_over_reasons(DIGEST, 101.0) == {}, "if it has all of it, it is asked last"


def test_avoided_peer_is_the_last_resort_behind_one_that_is_full(policy: Policy, snapshot: Snapshot) -> None:
    policy.apply(Avoid(node=node("near")), DIGEST, 100.0)
    policy.apply(Relieve(node=node("region"), wait_s=60.0), DIGEST, 100.0)
    assert order(policy, snapshot) == ["far", "region", "near"]
    assert order(policy, snapshot, 100.0 + PULL.cooloff_s) == ["near", "far", "region"]


def test_shunned_peer_is_no_candidate_for_that_digest_for_some_cool_offs(
    policy: Policy, snapshot: Snapshot
) -> None:
    policy.apply(Avoid(node=node("near")), DIGEST, 100.0)
    policy.apply(Shun(node=node("near")), DIGEST, 100.0)
    end_s = 100.0 + SHUN_COOLOFFS * PULL.cooloff_s
    assert order(policy, snapshot, end_s - 0.1) == ["region", "far"]
    assert policy.passed_over(DIGEST, end_s - 0.1) == {"near"}
    assert policy.passed_over(sha256("other"), end_s - 0.1) == set()
    assert order(policy, snapshot, end_s) == ["near", "region", "far"]


@pytest.mark.parametrize("avoided_before_s", [None, 0.0, 4.0])
def test_shunning_lasts_as_long_alone_and_late_as_together_with_avoiding(
    policy: Policy, avoided_before_s: float | None
) -> None:
    if avoided_before_s is not None:
        policy.apply(Avoid(node=node("near")), DIGEST, 100.0 - avoided_before_s)
    policy.apply(Shun(node=node("near")), DIGEST, 100.0)
    end_s = 100.0 + SHUN_COOLOFFS * PULL.cooloff_s
    assert policy.passed_over(DIGEST, end_s - 0.1) == {"near"}
    assert policy.passed_over(DIGEST, end_s) == set()


def test_node_that_is_no_member_is_not_shunned(policy: Policy) -> None:
    policy.apply(Shun(node=node("gone")), DIGEST, 100.0)
    assert policy.passed_over(DIGEST, 100.0) == set()


def test_commended_peer_is_well_and_trusted_again(policy: Policy, snapshot: Snapshot) -> None:
    for finding in (Avoid(node=node("near")), Shun(node=node("near"))):
        policy.apply(finding, DIGEST, 100.0)
    policy.apply(Commend(node=node("near")), DIGEST, 101.0)
    assert order(policy, snapshot, 101.0) == ["near", "region", "far"]


def test_importing_the_policy_loads_neither_yaml_nor_random() -> None:
    heavy = "{'yaml', 'random', 'asyncio', 'aiohttp'}"
    script = (
        "import sys; before = {*sys.modules}; import agent.pull.policy; "  # a machine's own hooks import, too
        f"print({heavy} & (sys.modules.keys() - before) or 'none')"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert run.stdout.strip() == "none"


def test_as_many_candidates_as_a_pull_can_try(snapshot: Snapshot) -> None:
    few = PullSettings(attempts_max=1)
    policy = make_policy(pull=few)
    holders = [node(f"n{number}") for number in range(10)]
    assert len(policy.candidates(DIGEST, holders, snapshot, 0.0)) == 3
    assert len(policy.ranked(DIGEST, holders, snapshot, 0.0)) == 10


def test_only_a_large_content_waits_at_the_border_of_its_zone() -> None:
    policy, claims = make_policy(), ColdStartSettings()
    large = policy.limits(in_chunks=False, resumes=False, claims=claims, size_bytes=LEAST_BYTES)
    assert large.border_wait_s == 2.0
    for changed in (
        {"size_bytes": LEAST_BYTES - 1},
        {"size_bytes": None},
        {"resumes": True},
        {"claims": None},
    ):
        asked: dict[str, Any] = {"resumes": False, "claims": claims, "size_bytes": LEAST_BYTES} | changed
        assert policy.limits(in_chunks=False, **asked).border_wait_s == 0.0, changed


def test_client_that_resumes_is_answered_404_later(policy: Policy) -> None:
    assert policy.limits(in_chunks=False, resumes=False).stubborn_s == 0.0
    assert policy.limits(in_chunks=False, resumes=True).stubborn_s == 0.5
    chunks = policy.limits(in_chunks=True, resumes=True)
    assert (chunks.stubborn_s, chunks.stubborn_begun_s) == (2.0, 2.0), "then the layer is handed over"


def test_busy_peers_are_asked_again_later_than_they_say_and_not_all_at_once(policy: Policy) -> None:
    assert policy.busy_wait_s(Failure.BUSY, 2.0) == pytest.approx(2.6)


@pytest.mark.parametrize(
    ("told_s", "wait_s"), [(None, 1.0), (0.0, 0.05), (0.04, 0.05), (3.0, 3.0), (60.0, 60.0), (1e9, 60.0)]
)
def test_wait_for_a_busy_peer_has_bounds_whatever_the_peer_says(
    policy: Policy, told_s: float | None, wait_s: float
) -> None:
    assert policy.busy_wait_s(Failure.BUSY, told_s) == pytest.approx(1.3 * wait_s)


def test_only_a_busy_peer_is_waited_for(policy: Policy) -> None:
    assert policy.busy_wait_s(Failure.ERROR, 5.0) == 0.0


def test_pulls_share_what_is_expected_of_a_tier(policy: Policy) -> None:
    rate = Rate(bytes_per_s=1.0, over_s=1.0, source_bound=True)
    for _ in range(8):
        policy.pace.body(Tier.ZONE, 1 << 30, 1.0)
    told = policy.progressed(Tier.ZONE, rate, left_bytes=5, pulls=4, lanes_max=3, in_chunks=False)
    assert (told.expected_bytes_per_s, told.lanes_max, told.left_bytes) == (1 << 28, 3, 5)
    chunk = policy.progressed(Tier.REGION, rate, left_bytes=5, pulls=0, lanes_max=3, in_chunks=True)
    assert (chunk.expected_bytes_per_s, chunk.lanes_max) == (10e6, 1)


@pytest.mark.parametrize(("waited_s", "learned"), [(5.0, True), (4.9, False)])
def test_rate_is_learned_only_where_the_source_was_waited_for(
    policy: Policy, waited_s: float, learned: bool
) -> None:
    for _ in range(8):
        meter = Meter(0.0, window_s=3.0)
        meter.moved_bytes, meter.waited_s = 1 << 30, waited_s
        policy.measured(Tier.ZONE, meter, took_s=10.0)
    assert (policy.pace.median_bytes_per_s(Tier.ZONE) is not None) == learned


def test_source_that_broke_off_answers_for_a_wrong_body(policy: Policy) -> None:
    given = {node("near"): 5, node("far"): 6}
    assert policy.responsible_sources(given, {node("far"), node("region")}) == {"far"}
    assert policy.responsible_sources(given, set()) == {"near", "far"}


def hedge_s(policy: Policy, first_byte: Callable[[], None]) -> float:
    """How long a second peer waits after many first bytes like this."""
    for _ in range(64):
        first_byte()
    return policy.pace.hedge_s()[Tier.ZONE]


def test_hedges_wait_as_long_as_first_bytes_of_blobs_take(policy: Policy) -> None:
    assert hedge_s(policy, lambda: policy.first_byte(Tier.ZONE, 0.1, manifest=False)) == 0.1


def test_manifests_say_nothing_about_first_bytes(policy: Policy) -> None:
    assert hedge_s(policy, lambda: policy.first_byte(Tier.ZONE, 0.1, manifest=True)) == PULL.patience_s


def test_peer_that_lost_the_race_took_at_least_as_long_as_it_was_waited_for(policy: Policy) -> None:
    assert hedge_s(policy, lambda: policy.no_first_byte(Tier.ZONE, 0.2, client_left=False)) == 0.2


def test_client_that_left_says_nothing_about_a_peers_first_byte(policy: Policy) -> None:
    gone = hedge_s(policy, lambda: policy.no_first_byte(Tier.ZONE, 0.2, client_left=True))
    assert gone == PULL.patience_s


def delivery(*, stop: int = 10, verified: bool = False, failed: Set[NodeName] = frozenset()) -> Delivery:
    given_bytes = {node("near"): 4, node("far"): stop - 4}
    return Delivery(
        start=0,
        stop=stop,
        size_bytes=10,
        given_bytes=given_bytes,
        failed=failed,
        verified=verified,
        taken=True,
        began_s=0.0,
    )


FROM_NEAR = dataclasses.replace(delivery(), given_bytes={node("near"): 10}, received=True)
"""The store's owner was seen to write this blob."""


def suspects(policy: Policy, sent: Delivery, again: RangeSpec | None = None) -> Set[NodeName]:
    """Who is suspect if containerd commits one blob, is sent another one, and requests that again."""
    policy.delivered(sha256("good"), delivery(), 0.0)
    policy.committed(sha256("good"), 0.0)
    policy.delivered(DIGEST, sent, 0.0)
    found = policy.requested(DIGEST, again, 1.0)
    assert policy.passed_over(DIGEST, 1.0) == set(), "a suspect is not left out"
    return found


@pytest.mark.parametrize("again", [None, RangeSpec(first=0, last=None), RangeSpec(first=0, last=5)])
def test_blob_that_is_requested_again_from_its_start_was_bad(policy: Policy, again: RangeSpec | None) -> None:
    assert suspects(policy, delivery(), again) == {"near", "far"}


@pytest.mark.parametrize("again", [RangeSpec(first=5, last=None), RangeSpec(first=None, last=5)])
def test_blob_that_is_resumed_was_not_bad(policy: Policy, again: RangeSpec) -> None:
    assert suspects(policy, delivery(), again) == set()


def test_peer_that_failed_is_suspected_alone(policy: Policy) -> None:
    assert suspects(policy, delivery(failed={node("near")})) == {"near"}


@pytest.mark.parametrize("sent", [delivery(verified=True), delivery(stop=9)])
def test_blob_that_was_verified_or_is_not_whole_makes_nobody_suspect(policy: Policy, sent: Delivery) -> None:
    assert suspects(policy, sent) == set()


def test_peer_to_which_containerd_was_redirected_is_suspect_the_second_time(policy: Policy) -> None:
    policy.delivered(sha256("good"), delivery(), 0.0)
    policy.committed(sha256("good"), 0.0)
    for expected in (set(), {"far"}):
        policy.redirected(DIGEST, node("far"), size_bytes=10, received=None, now_s=0.0)
        assert policy.requested(DIGEST, None, 1.0) == expected


def test_blob_that_is_not_committed_in_time_makes_its_sources_suspect(policy: Policy) -> None:
    policy.delivered(sha256("good"), delivery(), 0.0)
    policy.committed(sha256("good"), 0.0)
    policy.delivered(DIGEST, delivery(), 0.0)
    assert overdue(policy, 29.0) == {}
    assert overdue(policy, 31.0) == {DIGEST: {"near", "far"}}


def overdue(policy: Policy, now_s: float) -> Mapping[Digest, Set[NodeName]]:
    return policy.suspect_overdue(now_s, holds=lambda _: False, receiving=lambda _: None)


def test_suspect_is_the_very_last_that_is_tried_but_never_left_out(
    policy: Policy, snapshot: Snapshot
) -> None:
    policy.delivered(DIGEST, FROM_NEAR, 100.0)
    assert policy.requested(DIGEST, None, 101.0) == {"near"}
    policy.apply(Avoid(node=node("region")), DIGEST, 101.0)
    policy.apply(Relieve(node=node("far"), wait_s=60.0), DIGEST, 101.0)
    ranked = policy.candidates(DIGEST, map(node, PLACES), snapshot, 101.0)
    assert [one.node for one in ranked] == ["far", "region", "near"]
    assert [one.condition.doubted for one in ranked] == [False, False, True]
    assert order(policy, snapshot, 101.0 + 601.0) == ["near", "region", "far"]


@pytest.mark.parametrize(("right", "tried"), [(True, ["near", "region", "far"]), (False, ["region", "far"])])
def test_check_brings_a_suspect_back_to_its_place_or_leaves_it_out(
    policy: Policy, snapshot: Snapshot, right: bool, tried: list[str]
) -> None:
    policy.delivered(DIGEST, FROM_NEAR, 100.0)
    policy.requested(DIGEST, None, 101.0)
    policy.checked(DIGEST, node("near"), right=right, now_s=102.0)
    assert order(policy, snapshot, 103.0) == tried


def test_what_a_sick_store_lost_makes_nobody_suspect(policy: Policy) -> None:
    policy.delivered(DIGEST, FROM_NEAR, 0.0)
    assert policy.pending_bytes == 10
    policy.store_unwell(1.0)
    assert policy.pending_bytes == 0
    assert policy.requested(DIGEST, None, 2.0) == set()


def test_those_that_are_not_asked_in_full_are_told_with_the_reason_in_words(policy: Policy) -> None:
    regard = policy.regard
    regard.unanswered(node("far"), "no reply to a question within 0.5 s", 100.0)
    policy.apply(Avoid(node=node("region")), DIGEST, 102.0)
    regard.trust.checked(DIGEST, node("near"), right=False, now_s=102.0)
    assert policy.unasked(104.0) == {
        "far": "no reply to a question within 0.5 s, 4 s ago",
        "region": "it did not answer in time, 2 s ago",
    }
    assert policy.unasked(104.0, DIGEST).keys() == {"far", "region", "near"}
    regard.heard(node("far"), 103.0)
    assert policy.unasked(104.0)[node("far")].endswith("within 0.5 s, 4 s ago, and has answered since")
    assert policy.unasked(104.0, DIGEST)[node("near")].startswith("wrong")
    assert policy.unasked(1000.0, sha256("other")) == {}


def test_peer_that_had_nothing_more_of_what_it_was_fetching_may_be_dead_or_well(policy: Policy) -> None:
    near = node("near")
    policy.regard.unanswered(near, "no reply", 100.0)
    policy.attempt_failed(near, Failure.STARVED, "no byte within 3 s", 101.0)
    assert policy.regard.silence(near) is not None
    policy.attempt_failed(near, Failure.SHARED, "given to others", 102.0)
    assert policy.regard.silence(near) is None
    policy.attempt_failed(near, Failure.STARVED, "no byte within 3 s", 103.0)
    assert policy.regard.silence(near) is None


def test_node_that_could_not_ask_a_moment_ago_tells_why_for_a_while(policy: Policy) -> None:
    assert policy.own_trouble(100.0) == ""
    policy.regard.could_not_ask("network is unreachable", 100.0)
    assert policy.own_trouble(101.0) == "network is unreachable, 1 s ago"
    assert policy.own_trouble(106.0) == ""
    assert policy.unasked(101.0) == {}, "no peer is to blame"
