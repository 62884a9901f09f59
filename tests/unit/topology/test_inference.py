"""Zones inferred from latency, and labels that latency contradicts; in doubt neither."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import zone_key
from topology.inference import NOISE_US, ZoneRtt, border_of, contradiction, infer_zone
from topology.placement import ZoneKey

A, B, C, FAR = zone_key("r/a"), zone_key("r/b"), zone_key("r/c"), zone_key("q/x")
ZONES = (A, B, C, FAR)


def zone_rtt_us(one: ZoneKey, other: ZoneKey) -> float:
    if one == other:
        return 320.0
    return 900.0 if one.region == other.region else 30_000.0


def border_us(zone: ZoneKey) -> float:
    return border_of(zone, ZONES, zone_rtt_us)


def lonely_us(zone: ZoneKey) -> float:
    """The border of a zone when there is no other."""
    return border_of(zone, (zone,), zone_rtt_us)


def test_node_that_is_inside_of_one_zone_by_its_latency_is_placed_there() -> None:
    assert infer_zone({A: 330.0, B: 900.0, C: 950.0}, border_us) == A
    assert infer_zone({A: 330.0}, border_us) == A


def test_nobody_is_placed_without_evidence() -> None:
    assert infer_zone({}, border_us) is None
    assert infer_zone({}, border_us) is None


@pytest.mark.parametrize(
    "evidence",
    [
        {A: 330.0, B: 340.0},  # two zones as near
        {A: 900.0, B: 950.0},  # next to both, inside of neither
        {B: 900.0},  # one zone away from what was measured
        {A: 5000.0, B: 9000.0, FAR: 30_000.0},
        {FAR: 10_000.0},
    ],
)
def test_nobody_is_placed_when_the_evidence_is_ambiguous(evidence: dict[ZoneKey, float]) -> None:
    assert infer_zone(evidence, border_us) is None


def test_node_between_two_zones_stays_where_it_was_placed() -> None:
    evidence = {A: 340.0, B: 330.0}
    assert infer_zone(evidence, border_us, current=A) == A
    assert infer_zone(evidence, border_us, current=B) == B


def test_node_without_newer_evidence_stays_where_it_was_placed() -> None:
    assert infer_zone({}, border_us, current=A) == A


def test_node_stays_where_it_was_placed_while_the_rest_of_the_evidence_agrees_with_it() -> None:
    """Nobody of zone A measured it lately; that it is one zone away from B is no news."""
    assert infer_zone({B: 900.0}, border_us, current=A) == A


def test_node_moves_when_another_zone_is_clearly_nearer() -> None:
    assert infer_zone({A: 900.0, B: 330.0}, border_us, current=A) == B


def test_the_only_zone_is_not_taken_for_a_node_far_away() -> None:
    assert infer_zone({A: 300.0}, lonely_us) == A
    assert infer_zone({A: 30_000.0}, lonely_us) is None


def test_border_is_between_inside_and_next_door() -> None:
    assert 320 < border_us(A) < 900
    assert math.isfinite(lonely_us(A))
    assert border_of(A, ZONES, lambda one, other: 500.0) == pytest.approx(500.0)


def test_latency_that_fits_the_label_is_no_contradiction() -> None:
    assert contradiction(A, {}, border_us, zone_rtt_us) is None
    assert contradiction(A, {A: 330.0, B: 900.0}, border_us, zone_rtt_us) is None
    assert contradiction(A, {B: 850.0}, border_us, zone_rtt_us) is None


def test_node_that_is_inside_of_another_zone_by_its_latency_is_suspect() -> None:
    reason = contradiction(A, {A: 900.0, B: 310.0}, border_us, zone_rtt_us)
    assert reason is not None
    assert "r/a" in reason
    assert "r/b" in reason
    assert contradiction(A, {B: 310.0}, border_us, zone_rtt_us) is not None


def test_node_that_is_far_from_its_own_zone_is_suspect() -> None:
    assert contradiction(A, {A: 2000.0}, border_us, zone_rtt_us) is not None


def test_slow_access_alone_is_a_suspicion_only_beyond_the_border() -> None:
    assert contradiction(A, {A: 500.0, B: 1100.0}, border_us, zone_rtt_us) is None


def test_suspicion_and_its_end_are_apart_so_that_jitter_does_not_flap_it() -> None:
    limit_us = max(2 * 320.0, border_us(A))
    assert contradiction(A, {A: limit_us * 0.95}, border_us, zone_rtt_us) is None
    assert contradiction(A, {A: limit_us * 1.05}, border_us, zone_rtt_us) is not None
    assert contradiction(A, {A: limit_us * 0.95}, border_us, zone_rtt_us, suspect=True) is not None
    assert contradiction(A, {A: 330.0}, border_us, zone_rtt_us, suspect=True) is None


def test_what_is_said_is_one_line_and_never_fails_for_any_evidence() -> None:
    dice = random.Random(3)
    for _ in range(500):
        known = {pair: 10 ** dice.uniform(0, 7) for pair in [(a, b) for a in ZONES for b in ZONES]}
        evidence = {zone: 10 ** dice.uniform(0, 7) for zone in ZONES if dice.random() < 0.6}

        def apart(one: ZoneKey, other: ZoneKey, known: dict[tuple[ZoneKey, ZoneKey], float] = known) -> float:
            return known[one, other]

        def border(zone: ZoneKey, apart: ZoneRtt = apart) -> float:
            return border_of(zone, ZONES, apart)

        reason = contradiction(A, evidence, border, apart)
        assert reason is None or (reason.isprintable() and "nan" not in reason)
        found = infer_zone(evidence, border)
        assert found is None or found in evidence


def test_microseconds_on_one_machine_contradict_no_label() -> None:
    """Agents on loopback: 7 µs are usual, and one of them is answered later because a processor is busy."""

    def loopback_us(one: ZoneKey, other: ZoneKey) -> float:
        return 7.0 if one == other else 14.0

    for evidence in ({A: 64.0, B: 7.0}, {A: 64.0}, {B: 5.0}, {A: 30.0, B: 6.0, C: 90.0}):
        assert contradiction(A, evidence, lonely_us, loopback_us) is None
        assert contradiction(A, evidence, lonely_us, loopback_us, suspect=True) is None


_ZONES = st.sampled_from(ZONES)


@given(
    base_us=st.floats(1.0, 1e6),
    usual=st.dictionaries(st.frozensets(_ZONES, min_size=1, max_size=2), st.floats(0.0, 0.99)),
    measured=st.dictionaries(_ZONES, st.floats(0.0, 0.99)),
    suspect=st.booleans(),
)
def test_differences_below_the_noise_contradict_no_label_however_large_their_ratio(
    base_us: float,
    usual: dict[frozenset[ZoneKey], float],
    measured: dict[ZoneKey, float],
    suspect: bool,
) -> None:
    def apart_us(one: ZoneKey, other: ZoneKey) -> float:
        return base_us + NOISE_US * usual.get(frozenset((one, other)), 0.5)

    evidence = {zone: base_us + NOISE_US * share for zone, share in measured.items()}
    border = {zone: border_of(zone, ZONES, apart_us) for zone in ZONES}
    assert contradiction(A, evidence, border.__getitem__, apart_us, suspect=suspect) is None


@given(
    usual=st.dictionaries(st.frozensets(_ZONES, min_size=1, max_size=2), st.floats(1.0, 1e5)),
    evidence=st.dictionaries(_ZONES, st.floats(1.0, 1e5)),
)
def test_contradiction_rests_on_a_difference_above_the_noise_and_does_not_end_by_being_stated(
    usual: dict[frozenset[ZoneKey], float], evidence: dict[ZoneKey, float]
) -> None:
    def apart_us(one: ZoneKey, other: ZoneKey) -> float:
        return usual.get(frozenset((one, other)), 500.0)

    def border(zone: ZoneKey) -> float:
        return border_of(zone, ZONES, apart_us)

    if contradiction(A, evidence, border, apart_us) is None:
        return
    differences = [apart_us(A, zone) - us for zone, us in evidence.items() if zone != A]
    differences += [evidence[A] - apart_us(A, A)] if A in evidence else []
    assert max(differences) >= NOISE_US
    assert contradiction(A, evidence, border, apart_us, suspect=True) is not None
