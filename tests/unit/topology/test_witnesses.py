"""What peers' reports say about where a node sits."""

import pytest

from tests.unit.twins import node, zone_key
from topology.placement import NodeName, ZoneKey
from topology.witnesses import Witnesses

A, B = zone_key("r/a"), zone_key("r/b")
N, M, FAR = node("n"), node("m"), node("far")
TTL_S = 60.0


@pytest.fixture
def witnesses() -> Witnesses:
    return Witnesses(ttl_s=TTL_S)


def evidence(
    witnesses: Witnesses, about: NodeName = N, now_s: float = 1.0, **more: object
) -> dict[ZoneKey, float]:
    zones = {M: A, FAR: B}
    return dict(witnesses.evidence(about, now_s, zone_of=zones.get, own=more.get("own")))  # type: ignore[arg-type]


def test_nothing_is_known_of_a_node_without_reports(witnesses: Witnesses) -> None:
    assert evidence(witnesses) == {}
    assert witnesses.reported_median_us(N, A, 1.0) is None
    assert set(witnesses.reported_nodes) == set()


def test_what_a_node_says_of_itself_counts_until_it_is_old(witnesses: Witnesses) -> None:
    witnesses.add_medians(N, {A: 300.0, B: 900.0}, 1.0)
    assert witnesses.reported_median_us(N, B, 1.0 + TTL_S) == 900.0
    assert evidence(witnesses) == {A: 300.0, B: 900.0}
    assert witnesses.reported_median_us(N, B, 1.1 + TTL_S) is None
    assert evidence(witnesses, now_s=1.1 + TTL_S) == {}


def test_mention_counts_for_the_labelled_zone_of_its_reporter(witnesses: Witnesses) -> None:
    witnesses.add_mention(M, N, 310.0, 1.0)
    witnesses.add_mention(node("unlabelled"), N, 1.0, 1.0)
    assert evidence(witnesses) == {A: 310.0}


def test_reporter_has_one_vote_which_is_its_latest(witnesses: Witnesses) -> None:
    witnesses.add_mention(M, N, 900.0, 1.0)
    witnesses.add_mention(M, N, 310.0, 2.0)
    assert evidence(witnesses, now_s=2.0) == {A: 310.0}


def test_of_several_votes_for_a_zone_the_lower_median_counts(witnesses: Witnesses) -> None:
    witnesses.add_medians(N, {A: 500.0}, 1.0)
    witnesses.add_mention(M, N, 310.0, 1.0)
    assert evidence(witnesses, own=(A, 320.0)) == {A: 320.0}
    assert evidence(witnesses) == {A: 310.0}


def test_of_very_many_reporters_the_latest_are_kept(witnesses: Witnesses) -> None:
    witnesses.add_mention(M, N, 310.0, 1.0)
    for number in range(100):
        witnesses.add_mention(node(f"other-{number}"), N, 1.0, 1.0)
    assert evidence(witnesses) == {}


def test_nodes_that_left_are_forgotten_as_reporters_and_as_subjects(witnesses: Witnesses) -> None:
    witnesses.add_medians(N, {A: 300.0}, 1.0)
    witnesses.add_mention(M, N, 310.0, 1.0)
    witnesses.add_mention(N, FAR, 900.0, 1.0)
    witnesses.forget([N])
    assert evidence(witnesses) == {}
    assert evidence(witnesses, FAR) == {}
    assert set(witnesses.reported_nodes) == set()
