"""Snapshots do not change, and one that is made in increments is the one made at once."""

import dataclasses
import json
import math
import random
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.topology.clusters import (
    OWN,
    ZONES,
    A,
    B,
    busy_cluster,
    cluster,
    measure,
    tell,
)
from tests.unit.twins import located, node, zone_key
from topology.placement import NodeName, Placement, ZoneKey
from topology.snapshot import Snapshot, Source
from topology.zones import Report

# Snapshots


def frozen(snapshot: Snapshot) -> dict[str, object]:
    """A copy of everything that a snapshot says."""
    return {
        entry.name: dict(value) if isinstance(value, Mapping) else value
        for entry in dataclasses.fields(snapshot)
        for value in [getattr(snapshot, entry.name)]
    }


def test_old_snapshot_does_not_change_when_newer_ones_are_made() -> None:
    topology, places = busy_cluster()
    old = topology.snapshot
    before = frozen(old)
    measure(topology, "n3", 5000.0, start_s=6.0)
    tell(topology, "n1", 6.0, zones={A: 10.0, zone_key("r/z1"): 20.0}, nodes={"u2": 300.0})
    topology.refresh(7.0)
    topology.refresh(2000.0)
    assert frozen(old) == before
    topology.update({name: places[name] for name in list(places)[3:]} | {node("new"): located()}, 2001.0)
    topology.refresh(2002.0)
    assert frozen(old) == before


def test_refresh_without_news_says_the_same_again() -> None:
    topology, _ = busy_cluster()
    one, other = topology.refresh(6.0), topology.refresh(6.0)
    assert one.standings == other.standings
    assert one.keys == other.keys
    assert one.generation == other.generation


# Increments

MEMBERS = {
    node(f"n{number}"): located(zone.region, zone.zone, *finer)
    for number, (zone, finer) in enumerate(
        [(zone, finer) for zone in ZONES for finer in ((), (("rack", "1"),), (("rack", "2"),))]
    )
}
RTTS = st.sampled_from((200.0, 320.0, 900.0, 5000.0, 1e6)) | st.floats(1.0, 1e7)
REFRESH = ("refresh", node(""), None)
STEPS = st.one_of(
    st.tuples(st.just("sample"), st.sampled_from(sorted(MEMBERS)), RTTS),
    st.tuples(
        st.just("hear"), st.sampled_from(sorted(MEMBERS)), st.dictionaries(st.sampled_from(ZONES), RTTS)
    ),
    st.just(REFRESH),
)


@example(  # a node with two samples only, in a zone whose cost lags a little
    steps=[
        ("hear", node("n0"), {A: 200.0, B: 6018730.0}),
        REFRESH,
        ("sample", node("n3"), 6018741.0),
        ("sample", node("n3"), 6018741.0),
    ]
)
@example(  # nobody votes again after what is usual in the region has changed
    steps=[("hear", node("n3"), {A: 200.0}), REFRESH, ("hear", node("n3"), {A: 320.0}), REFRESH]
)
@given(steps=st.lists(STEPS, max_size=40))
def test_snapshot_made_in_increments_is_the_one_made_at_once(
    steps: list[tuple[str, NodeName, object]],
) -> None:
    """All within one window, so that nothing ages; a zone's cost may lag by the tenth that is no news, and
    what is usual between regions by ten seconds.
    """
    own = located("r", "a", ("rack", "1"))
    one, other = cluster(own), cluster(own)
    for topology in (one, other):
        topology.update(MEMBERS, 0.0)
    now_s = 0.0
    for what, name, value in steps:
        now_s += 0.1
        for topology in (one, other):
            if what == "sample":
                assert isinstance(value, float)
                topology.sample(name, value, now_s)
            elif what == "hear":
                assert isinstance(value, dict)
                topology.add_report(name, Report(zones=value, nodes={}), now_s)
            elif topology is one:
                topology.refresh(now_s)
    made, fresh = one.refresh(now_s + 10.0), other.refresh(now_s + 10.0)
    assert made.zones == fresh.zones
    assert made.standings.keys() == fresh.standings.keys()
    for name, known in made.standings.items():
        expected = fresh.standings[name]
        assert known[:3] == expected[:3]
        assert known[4:7] == expected[4:7], (name, known, expected)
        assert known.cost_us == pytest.approx(expected.cost_us, rel=0.1001)
        # Few samples are blended with the zone's cost, which may lag.
        if known.source is Source.MEASURED and known.estimate is not None and known.estimate.weight >= 1.0:
            assert known.cost_us == expected.cost_us


PASSING = [node(f"p{number}") for number in range(6)]
ANYWHERE = [located(), located("r"), located(None, "a"), *MEMBERS.values(), located("new", "zone")]
COMINGS = st.dictionaries(st.sampled_from(PASSING), st.sampled_from(ANYWHERE))


@given(steps=st.lists(st.one_of(STEPS, st.tuples(st.just("come"), st.just(node("")), COMINGS)), max_size=40))
def test_members_that_come_go_and_move_one_by_one_stand_as_if_they_had_been_there_at_once(
    steps: list[tuple[str, NodeName, object]],
) -> None:
    """The members that are measured stay. All within one window, as above."""
    own = located("r", "a", ("rack", "1"))
    one, other = cluster(own), cluster(own)
    came = [value for what, _, value in steps if what == "come" and isinstance(value, dict)]
    passing = came[-1] if came else {}
    one.update(MEMBERS, 0.0)
    other.update({**MEMBERS, **passing}, 0.0)
    now_s = 0.0
    for what, name, value in steps:
        now_s += 0.1
        if what == "come":
            assert isinstance(value, dict)
            one.update({**MEMBERS, **value}, now_s)
        elif what == "refresh":
            one.refresh(now_s)
        for topology in (one, other):
            if what == "sample":
                assert isinstance(value, float)
                topology.sample(name, value, now_s)
            elif what == "hear":
                assert isinstance(value, dict)
                topology.add_report(name, Report(zones=value, nodes={}), now_s)
    made, fresh = one.refresh(now_s + 10.0), other.refresh(now_s + 10.0)
    assert made.zones == fresh.zones
    assert made.standings.keys() == fresh.standings.keys() == made.keys.keys()
    for name, known in made.standings.items():
        expected = fresh.standings[name]
        assert known[:3] == expected[:3]
        assert known.cost_us == pytest.approx(expected.cost_us, rel=0.1001)


PLACES = [located(), located("r"), *(located(zone.region, zone.zone) for zone in ZONES)]
PLACES += [located("r", "a", ("rack", "1")), located(None, "a"), located(None, None, ("rack", "1"))]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_any_history_leaves_a_snapshot_that_agrees_with_its_members(seed: int) -> None:
    dice = random.Random(seed)
    topology = cluster(dice.choice(PLACES))
    names = [node(f"n{number}") for number in range(10)]
    places: dict[NodeName, Placement] = {}
    now_s = 0.0
    for _ in range(30):
        now_s += dice.choice((0.0, 0.5, 30.0, 400.0, -5.0))
        what = dice.choice(("update", "sample", "sample", "hear", "refresh"))
        if what == "update":
            places = {name: dice.choice(PLACES) for name in names if dice.random() < 0.7}
            topology.update(places, now_s)
        elif what == "sample":
            topology.sample(dice.choice(names), dice.choice((300.0, 900.0, 1e7, math.nan)), now_s)
        elif what == "hear":
            topology.add_report(
                dice.choice(names),
                Report(
                    zones={
                        zone: dice.choice((300.0, 900.0, math.inf)) for zone in ZONES if dice.random() < 0.7
                    },
                    nodes={name: dice.choice((300.0, 900.0, -1.0)) for name in names if dice.random() < 0.3},
                ),
                now_s,
            )
        snapshot = topology.refresh(now_s)
        assert snapshot.standings.keys() == snapshot.keys.keys() == {OWN, *places}
        assert snapshot.standings.keys() == snapshot.keys.keys()
        members: dict[ZoneKey, int] = {}
        for name, known in snapshot.standings.items():
            zone = known.placement.zone_key
            if zone is not None:
                members[zone] = members.get(zone, 0) + 1
            labelled = places.get(name)
            if labelled is not None and labelled.zone is not None:
                assert known.placement.zone == labelled.zone
                assert not known.inferred
            assert math.isfinite(known.cost_us)
            assert topology.graph.path(name) == known.placement.path
        assert snapshot.zones == members
        json.dumps(
            [cost for zone in snapshot.zones for cost, _ in topology.matrix_row(zone).values()],
            allow_nan=False,
        )
