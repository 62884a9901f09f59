"""Whole runs of small clusters: everybody gets everything, bytes are conserved, and runs are repeatable."""

import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from random import Random

import numpy as np
import pytest

from agent.config import ColdStartSettings
from benchmarks.simulator.result import Origin, Result
from benchmarks.simulator.run import run
from benchmarks.simulator.scenario import (
    MIB,
    Fault,
    FaultKind,
    Held,
    Image,
    IndexPlan,
    Scenario,
    Start,
    ZonePlan,
)
from tests.unit.twins import REPOSITORY_ROOT

IMAGE = Image(name="app", layer_sizes=(40 * MIB, 10 * MIB, MIB))
CONTENTS = 5


def cluster(*sizes: int, **changes: object) -> Scenario:
    zones = tuple(ZonePlan(name=f"z{number}", nodes=nodes) for number, nodes in enumerate(sizes))
    scenario = Scenario(
        zones=zones, images=(IMAGE,), starts=(Start(nodes=range(sum(sizes)), spread_s=0.2),), until_s=120.0
    )
    return replace(scenario, **changes)  # type: ignore[arg-type]


def require_whole(result: Result, *, without: int = 0) -> None:
    """Everybody has everything, and got each byte once."""
    assert np.isnan(result.image_s()).sum() == without
    sizes = np.array([size for _, size in result.scenario.contents()])
    got = result.received_bytes.sum(axis=0)
    whole = ~np.isnan(result.finished_s)
    assert (got[whole] == np.broadcast_to(sizes[:, None], got.shape)[whole]).all(), (
        "no byte is lost or made up"
    )
    between, registry = result.crossed_bytes.sum(), result.registry_bytes.sum()
    assert between == result.received_bytes[: Origin.REGISTRY].sum()
    assert registry == result.received_bytes[Origin.REGISTRY].sum()


@pytest.fixture(scope="module")
def two_hundred() -> Result:
    return run(cluster(50, 50, 50, 50))


def test_two_hundred_nodes_that_start_at_once_are_whole_with_one_fetch_a_zone(two_hundred: Result) -> None:
    require_whole(two_hundred)
    assert all(two_hundred.fetches_of(content) <= 4 for content in range(CONTENTS))
    assert two_hundred.dead_dials.sum() == 0


def test_a_run_is_the_same_each_time(two_hundred: Result) -> None:
    again = run(cluster(50, 50, 50, 50))
    assert again.events == two_hundred.events
    assert again.fetches == two_hundred.fetches
    np.testing.assert_array_equal(again.finished_s, two_hundred.finished_s)
    np.testing.assert_array_equal(again.received_bytes, two_hundred.received_bytes)


_PRINTS = """
from tests.unit.benchmarks.simulator.test_run import churned, fingerprint
print(fingerprint(churned()))
"""


def fingerprint(scenario: Scenario) -> str:
    """What came of it, in short."""
    result = run(scenario)
    tables = result.finished_s.tobytes() + result.received_bytes.tobytes()
    return f"{result.events} {sha256(tables).hexdigest()}"


def churned() -> Scenario:
    """A cluster in which several things go wrong."""
    faults = (
        Fault(at_s=0.4, kind=FaultKind.REPLACE, nodes=[1, 22]),
        Fault(at_s=0.5, kind=FaultKind.INDEX_LOST, for_s=1.0),
        Fault(at_s=0.6, kind=FaultKind.DIE, nodes=[7, 8, 31]),
    )
    return cluster(20, 20, faults=faults)


def test_a_run_is_the_same_in_another_process_with_other_hashes() -> None:
    hashes = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    printed = subprocess.run(
        [sys.executable, "-c", _PRINTS],
        env={**os.environ, "PYTHONHASHSEED": hashes},
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == fingerprint(churned())


def test_another_seed_gives_another_run(two_hundred: Result) -> None:
    other = run(cluster(50, 50, 50, 50, seed=1))
    assert not np.array_equal(other.finished_s, two_hundred.finished_s)
    require_whole(other)


def test_one_fetch_is_enough_for_the_whole_cluster_if_that_is_the_scope() -> None:
    result = run(cluster(8, 8, 8, cold_start=ColdStartSettings(scope="cluster")))
    require_whole(result)
    assert [result.fetches_of(content) for content in range(CONTENTS)] == [1] * CONTENTS
    crossed = result.received_bytes[[Origin.REGION, Origin.REMOTE]].sum()
    assert crossed <= 1.2 * 2 * sum(size for _, size in result.scenario.contents()), "each zone gets it once"


def test_what_the_zone_has_comes_from_the_zone() -> None:
    result = run(
        cluster(10, 10, held=(Held(nodes=[0, 10]),), starts=(Start(nodes=[*range(1, 10), *range(11, 20)]),))
    )
    require_whole(result)
    assert not result.fetches
    assert result.received_bytes[Origin.ZONE].sum() == result.received_bytes.sum()


def test_nodes_of_a_rack_take_it_from_each_other() -> None:
    zones = (ZonePlan(name="z", nodes=20, racks=2),)
    held, starts = (Held(nodes=[0, 10]),), (Start(nodes=[*range(1, 10), *range(11, 20)]),)
    result = run(cluster(20, zones=zones, held=held, starts=starts))
    require_whole(result)
    assert result.received_bytes[Origin.RACK].sum() >= 0.9 * result.received_bytes.sum()


@pytest.mark.parametrize("at_s", [0.3, 0.6, 0.9])
def test_whoever_lives_is_whole_although_a_third_of_the_nodes_die(at_s: float) -> None:
    dying = [number for number in range(30) if number % 3 == 0]
    result = run(cluster(15, 15, faults=(Fault(at_s=at_s, kind=FaultKind.DIE, nodes=dying),)))
    finished = ~np.isnan(result.image_s())
    assert all(finished[number] for number in range(30) if number % 3)


def test_a_zone_that_is_cut_off_goes_on_afterwards() -> None:
    cut = Fault(at_s=0.3, kind=FaultKind.CUT_OFF, zone=1, for_s=4.0)
    result = run(cluster(10, 10, faults=(cut,)))
    require_whole(result)


@pytest.mark.parametrize("lost", [True, False])
def test_nodes_find_each_other_without_a_server(*, lost: bool) -> None:
    faults = (Fault(at_s=0.0, kind=FaultKind.INDEX_LOST),) if lost else ()
    held, starts = (Held(nodes=[0]),), (Start(nodes=range(1, 12)),)
    result = run(cluster(12, faults=faults, index=IndexPlan(server=lost), held=held, starts=starts))
    require_whole(result)
    assert not result.fetches


def test_kubelet_begins_anew_when_the_registry_is_down() -> None:
    down = Fault(at_s=0.0, kind=FaultKind.REGISTRY_DOWN, for_s=5.0)
    result = run(cluster(4, faults=(down,)))
    require_whole(result)
    assert result.failed_pulls > 0


def test_half_a_quantum_gives_nearly_the_same() -> None:
    usual, fine = run(cluster(40)), run(cluster(40, quantum_s=0.005))
    difference = abs(float(np.median(usual.image_s())) / float(np.median(fine.image_s())) - 1)
    assert difference < 0.1


def test_several_slow_holders_give_a_layer_together() -> None:
    nics = dict.fromkeys(range(4), 30e6)
    image = Image(name="large", layer_sizes=(300 * MIB,))
    result = run(
        cluster(
            5, images=(image,), nics=nics, held=(Held(nodes=range(4)),), starts=(Start(nodes=[4]),), seed=3
        )
    )
    require_whole(result)
    alone_s = 300 * MIB / 30e6
    assert result.image_s()[0] < 0.5 * alone_s


def test_whoever_follows_a_node_that_stands_still_goes_on_elsewhere() -> None:
    frozen = Fault(at_s=0.7, kind=FaultKind.FREEZE, nodes=[0, 1, 2], for_s=60.0)
    result = run(cluster(20, faults=(frozen,)))
    finished_s = result.image_finished_s[0]
    assert (finished_s[3:] < 30.0).all()
    assert not np.isnan(finished_s[:3]).any()


_LASTING = (FaultKind.SLOW, FaultKind.DIE)
_FAULTS = [kind for kind in FaultKind if kind is not FaultKind.JOIN]


@pytest.mark.parametrize("seed", range(5))
def test_whoever_lives_has_everything_in_the_end_whatever_goes_wrong(seed: int) -> None:
    lot = Random(seed)
    faults = [
        Fault(
            at_s=lot.uniform(0.0, 2.0),
            kind=kind,
            nodes=lot.sample(range(16), 4),
            zone=lot.randrange(2),
            for_s=None if kind in _LASTING else lot.uniform(0.5, 8.0),
        )
        for kind in lot.sample(_FAULTS, 4)
    ]
    scope = ColdStartSettings(scope=lot.choice(["zone", "cluster"]))
    result = run(cluster(9, 7, faults=tuple(faults), cold_start=scope, seed=seed, until_s=400.0))
    gone = {
        node for fault in faults if fault.kind in (FaultKind.DIE, FaultKind.REPLACE) for node in fault.nodes
    }
    assert {int(node) for node in np.flatnonzero(np.isnan(result.image_s()))} <= gone
