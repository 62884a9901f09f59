"""How the policies that the product is compared with choose."""

from random import Random

import numpy as np

from benchmarks.simulator.policies import POLICIES
from benchmarks.simulator.scenario import Choosing, Numbers
from topology.cluster import ClusterTopology
from topology.placement import NodeName, Placement

_ZONES = 4
_NODES = 200


def _choosing(*, complete: list[int], arriving: list[int], sending: dict[int, int] | None = None) -> Choosing:
    """Node 0 asks. Every fourth node is in its zone; a nearer number is a shorter round trip."""
    names = [f"n{number}" for number in range(_NODES)]
    topology = ClusterTopology(own=NodeName(names[0]), placement=Placement())
    busy = np.zeros(_NODES, dtype=np.int64)
    for node, bodies in (sending or {}).items():
        busy[node] = bodies
    return Choosing(
        asker=0,
        content=0,
        complete=_numbers(complete),
        arriving=_numbers(arriving),
        zones=_numbers([number % _ZONES for number in range(_NODES)]),
        have_bytes=np.zeros(_NODES, dtype=np.int64),
        sending=busy,
        rtt_s=lambda node: float(node),
        snapshot=topology.refresh(0.0),
        names=names,
        now_s=0.0,
        lot=Random(1),
    )


def _numbers(nodes: list[int]) -> Numbers:
    return np.array(nodes, dtype=np.int64)


def _chosen(policy: str, choosing: Choosing) -> list[int]:
    choose = POLICIES[policy].choose
    assert choose is not None
    return [*choose(choosing)]


_HALF = _choosing(complete=[*range(1, 101)], arriving=[*range(101, _NODES)])


def test_dht_names_three_complete_holders_from_anywhere() -> None:
    drawn = {node for seed in range(40) for node in _chosen("dht-3", _HALF)}
    assert len(_chosen("dht-3", _HALF)) == 3
    assert max(drawn) <= 100
    assert {node % _ZONES for node in drawn} == {0, 1, 2, 3}


def test_sample_of_fifteen_has_those_of_the_own_zone_first() -> None:
    chosen = _chosen("sample-15", _HALF)
    assert len(chosen) == 15
    near = [node % _ZONES == 0 for node in chosen]
    assert near == sorted(near, reverse=True)


def test_zone_only_never_leaves_the_zone() -> None:
    assert all(node % _ZONES == 0 for node in _chosen("zone-only", _HALF))
    assert _chosen("zone-only", _choosing(complete=[1, 2, 3], arriving=[5])) == []


def test_round_trip_alone_does_not_look_at_zones() -> None:
    assert _chosen("round-trip", _HALF)[:3] == [1, 2, 3]


def test_the_oracle_takes_the_idle_one_of_the_own_zone() -> None:
    choosing = _choosing(complete=[1, 4, 8], arriving=[12], sending={4: 2, 8: 1})
    assert _chosen("oracle", choosing) == [12, 8, 4, 1]


def test_nobody_fetches_from_itself() -> None:
    choosing = _choosing(complete=[0, 4], arriving=[])
    for name, policy in POLICIES.items():
        if policy.choose is not None:
            assert 0 not in _chosen(name, choosing), name


def test_nobody_to_choose_from_is_no_choice() -> None:
    choosing = _choosing(complete=[], arriving=[])
    assert all(not _chosen(name, choosing) for name, policy in POLICIES.items() if policy.choose)


def test_the_same_lot_makes_the_same_choice() -> None:
    one, other = (_choosing(complete=[*range(1, 101)], arriving=[]) for _ in range(2))
    for name, policy in POLICIES.items():
        if policy.choose is not None:
            assert _chosen(name, one) == _chosen(name, other)
