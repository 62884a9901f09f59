"""Bytes are conserved, links are not overrun, and nobody has more than the node that it follows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulator.network import REGISTRY, Flow, Network

SIZE, OTHER_SIZE = 1_000_000, 30_000
QUANTUM_S = 0.01


def network(nodes: int = 6, *, uplink: float = np.inf, nic: float = 1e7) -> Network:
    return Network(
        nics=np.full(nodes, nic),
        zones=np.arange(nodes) % 2,
        uplinks=np.array([uplink, uplink]),
        registry_bytes_per_s=2e7,
        sizes=np.array([SIZE, OTHER_SIZE]),
    )


def opened(net: Network, source: int, node: int, content: int = 0, limit: float = 1e9) -> Flow:
    return net.open(source, node, content, None, limit=limit, now_s=0.0, patience_s=0.05, look_s=float("inf"))


def steps(net: Network, number: int, first: int = 0) -> list[Flow]:
    """So many steps. Returns the bodies that became whole, which are closed."""
    done = []
    for each in range(first, first + number):
        whole, _, _ = net.step(each * QUANTUM_S, QUANTUM_S)
        for flow in whole:
            net.close(flow)
        done += whole
    return done


def test_a_body_takes_as_long_as_its_narrowest_link() -> None:
    net = network()
    flow = opened(net, REGISTRY, 0)
    assert not steps(net, 9)
    assert net.have[0, 0] == 900_000
    assert steps(net, 1) == [flow]
    assert net.have[0, 0] == SIZE


def test_a_follower_has_what_its_source_had_a_quantum_ago() -> None:
    net = network()
    opened(net, REGISTRY, 0, limit=2e6)
    opened(net, 0, 2)
    opened(net, 2, 4)
    steps(net, 5)
    assert net.have[0, [0, 2, 4]].tolist() == [100_000, 80_000, 60_000]


def test_an_uplink_is_shared_by_all_that_crosses_the_border() -> None:
    net = network(uplink=2e6)
    net.have[0, [0, 2]] = SIZE
    for source, node in ((0, 1), (2, 3), (0, 4)):
        opened(net, source, node)
    steps(net, 5)
    crossed = net.have[0, [1, 3]]
    assert crossed.sum() <= 2e6 * 5 * QUANTUM_S + 2
    assert crossed[0] == pytest.approx(crossed[1], rel=0.01)
    assert net.have[0, 4] > 4 * crossed[0], "what stays in the zone does not go through it"


def test_several_sources_give_one_node_together_no_more_than_there_is() -> None:
    net = network(nic=1e9)
    net.have[0, [2, 4, 1]] = SIZE
    flows = [opened(net, source, 0, limit=4e7) for source in (2, 4, 1)]
    whole, _, _ = net.step(0.0, QUANTUM_S)
    assert set(map(id, whole)) == set(map(id, flows))
    assert net.have[0, 0] == SIZE
    assert sum(net.close(flow) for flow in flows) == SIZE


def test_who_gets_nothing_stalls_and_who_is_frozen_gives_nothing() -> None:
    net = network()
    net.have[0, 0] = SIZE
    flow = opened(net, 0, 2)
    steps(net, 2)
    net.set_rate(0, 0.0)
    had = int(net.have[0, 2])
    stalled = []
    for each in range(2, 9):
        stalled += net.step(each * QUANTUM_S, QUANTUM_S)[1]
    assert stalled[0] is flow
    assert net.have[0, 2] == had


@settings(max_examples=60)
@given(st.data())
def test_bytes_are_conserved_whatever_begins_and_ends(data: st.DataObject) -> None:
    net = network(uplink=5e6)
    net.have[:, 0] = net.sizes
    carried = np.zeros_like(net.have)
    had = net.have.copy()
    busy: dict[tuple[int, int], Flow] = {}

    def end(flow: Flow) -> None:
        carried[flow.content, flow.node] += net.close(flow)
        del busy[flow.content, flow.node]

    for each in range(25):
        for node, content in data.draw(st.sets(st.tuples(st.integers(1, 5), st.integers(0, 1)), max_size=3)):
            source = data.draw(st.integers(-1, 5))
            if (content, node) in busy:
                end(busy[content, node])
            elif source != node:
                busy[content, node] = opened(net, source, node, content)
        before = net.have.copy()
        whole, _, _ = net.step(each * QUANTUM_S, QUANTUM_S)
        moved = net.have - before
        assert (moved >= 0).all()
        assert (net.have <= net.sizes[:, None]).all()
        assert (moved.sum(axis=0) <= 1e7 * QUANTUM_S + 2 * len(net.sizes)).all(), "no link is overrun"
        for flow in busy.values():
            assert flow.source == REGISTRY or net.have[flow.content, flow.node] <= max(
                before[flow.content, flow.source], before[flow.content, flow.node]
            )
        for flow in whole:
            if flow.slot >= 0:
                end(flow)
    for flow in [*busy.values()]:
        end(flow)
    assert (carried == net.have - had).all()
