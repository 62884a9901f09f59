"""Many nodes that take one content from each other while it arrives. Some die, some freeze. See `Swarm`."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.agent.pull.swarm import LAYER, MIB, SIZE, Swarm

NODES = 7
SOON_S = 40 * 0.05 * 4  # four times as long as the registry takes for one
BOUND_S = 60.0
"""Longer than anything here takes: each death or freeze costs a stall and a deadline at most."""

TIMES = st.sampled_from((0.0, 0.0, 0.05, 0.2, 0.5, 1.0, 1.5, 3.0, 6.0))
STARTS = st.lists(TIMES, min_size=NODES, max_size=NODES)
TROUBLES = st.lists(
    st.tuples(
        st.sampled_from(("dies", "freezes")),
        st.integers(0, NODES - 1),
        st.sampled_from((0.1, 0.4, 0.7, 1.2, 1.8, 2.5, 4.0, 8.0)),
        st.sampled_from((0.5, 2.0, 3.5, 5.0, 20.0)),
    ),
    max_size=6,
)


def trouble(swarm: Swarm, troubles: list[tuple[str, int, float, float]]) -> None:
    for what, number, at_s, for_s in troubles:
        if what == "dies":
            swarm.at(at_s, lambda number=number: swarm.dies(number))  # type: ignore[misc]
        else:
            swarm.at(at_s, lambda number=number, for_s=for_s: swarm.freezes(number, for_s))  # type: ignore[misc]


@settings(max_examples=60, deadline=None)
@given(starts=STARTS, troubles=TROUBLES, holders=st.integers(0, 2), followers_max=st.integers(1, 3))
def test_every_node_that_lives_gets_it_in_time_and_none_waits_for_one_that_waits_for_it(
    starts: list[float], troubles: list[tuple[str, int, float, float]], holders: int, followers_max: int
) -> None:
    """`Swarm` itself sees that nobody gets ahead of its source, that there is no circle, and no gap."""
    swarm = Swarm(NODES, followers_max=followers_max)
    for number in range(holders):
        swarm[number].has_bytes = SIZE
    for number, at_s in enumerate(starts):
        swarm.at(at_s, lambda number=number: swarm.starts(number))  # type: ignore[misc]
    trouble(swarm, troubles)
    swarm.runs(BOUND_S)
    for each in swarm.nodes.values():
        assert each.requests <= 60, "nobody asks on and on"
        assert each.fanout.followers(LAYER) == (), "no place is lost"


def test_one_complete_holder_gives_it_once_and_the_others_take_it_from_each_other() -> None:
    swarm = Swarm(6)
    swarm[0].has_bytes = SIZE
    for number in range(1, 6):
        swarm.at(0.001 * number, lambda number=number: swarm.starts(number))  # type: ignore[misc]
    swarm.runs(SOON_S)
    assert swarm[0].gave_bytes == SIZE
    assert sum(each.fetches for each in swarm.nodes.values()) == 0
    assert all(each.gave_bytes <= 3 * SIZE for each in swarm.nodes.values())


def test_holder_gives_it_once_also_to_those_who_come_later() -> None:
    swarm = Swarm(6)
    swarm[0].has_bytes = SIZE
    for number in range(1, 6):
        swarm.at(1.5 * number, lambda number=number: swarm.starts(number))  # type: ignore[misc]
    swarm.runs(30.0)
    assert swarm[0].gave_bytes + min(each.gave_bytes for each in swarm.nodes.values()) <= 1.5 * SIZE


def test_zone_takes_it_from_the_one_that_fetches_it_in_about_the_time_that_this_one_takes() -> None:
    swarm = Swarm(8)
    swarm[0].at_registry, swarm[0].fetches = True, 1
    for number in range(1, 8):
        swarm.at(0.3, lambda number=number: swarm.starts(number))  # type: ignore[misc]
    swarm.runs(SIZE / MIB * 0.05 * 1.5)
    assert sum(each.fetches for each in swarm.nodes.values()) == 1
    assert all(each.gave_bytes <= 3 * SIZE for each in swarm.nodes.values())


def test_node_below_one_that_finds_another_source_stays_where_it_is() -> None:
    """The chain is 0, 1, 2. The first one freezes. The second one notices first, and goes on for both."""
    swarm = Swarm(3, followers_max=1)
    swarm[0].at_registry = True
    swarm.at(0.3, lambda: swarm.starts(1))
    swarm.at(0.5, lambda: swarm.starts(2))
    swarm.at(1.0, lambda: swarm.freezes(0, 10.0))
    swarm.runs(20.0)
    assert (swarm[1].fetches, swarm[2].fetches) == (1, 0)


def test_thousand_nodes_that_ask_within_a_second_form_a_tree_that_is_no_chain() -> None:
    swarm = Swarm(1000)
    swarm[0].has_bytes = SIZE
    for number in range(1, 1000):
        swarm.at(0.001 * number, lambda number=number: swarm.starts(number))  # type: ignore[misc]
    swarm.runs(30.0)
    assert swarm[0].gave_bytes <= 1.5 * SIZE
    assert max(each.gave_bytes for each in swarm.nodes.values()) <= 5 * SIZE
    assert sum(each.fetches for each in swarm.nodes.values()) == 0
    assert max(each.requests for each in swarm.nodes.values()) <= 30
    assert swarm.depth <= 24
