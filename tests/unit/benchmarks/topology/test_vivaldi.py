"""Vivaldi coordinates: what the paper claims of them, on networks that can be embedded."""

import math
import random
import statistics
from collections.abc import Callable

import pytest

from benchmarks.topology.vivaldi import Coordinate, VivaldiNode

Rtt = Callable[[int, int], float]


def settled(count: int, rtt_us: Rtt, rounds: int = 1000) -> list[VivaldiNode]:
    """Nodes that measured each other, each a few in every round."""
    dice = random.Random(7)
    nodes = [VivaldiNode(dice) for _ in range(count)]
    for _ in range(rounds):
        for one in range(count):
            other = dice.choice([number for number in range(count) if number != one])
            nodes[one].observe(nodes[other], rtt_us(one, other))
    return nodes


def worst_error(nodes: list[VivaldiNode], rtt_us: Rtt) -> float:
    """The largest relative error of the predictions."""
    return max(
        abs(nodes[one].coordinate.rtt_us(nodes[other].coordinate) - rtt_us(one, other)) / rtt_us(one, other)
        for one in range(len(nodes))
        for other in range(len(nodes))
        if one != other
    )


def grid_us(one: int, other: int) -> float:
    """Twelve nodes in a plane, a millisecond between neighbours."""
    return 1000.0 * math.dist(divmod(one, 4), divmod(other, 4))


def access_us(one: int, other: int) -> float:
    """All alike but for their access links, which both ends add: no plane has these distances."""
    return 100.0 * (one + 1) + 100.0 * (other + 1)


def test_distance_is_the_plane_between_and_both_heights() -> None:
    one = Coordinate(x_us=0.0, y_us=0.0, height_us=10.0)
    other = Coordinate(x_us=300.0, y_us=400.0, height_us=20.0)
    assert one.rtt_us(other) == other.rtt_us(one) == 530.0


def test_network_in_a_plane_is_predicted_well() -> None:
    assert worst_error(settled(12, grid_us), grid_us) < 0.1


def test_access_links_become_heights() -> None:
    nodes = settled(12, access_us)
    assert worst_error(nodes, access_us) < 0.15
    assert statistics.median(node.coordinate.height_us for node in nodes) > 200


def test_error_estimate_falls_as_the_predictions_become_right() -> None:
    assert VivaldiNode(random.Random(1)).error == 1.0
    assert all(node.error < 0.1 for node in settled(12, grid_us))


def test_one_sample_moves_the_observer_by_the_timestep_and_the_peer_not_at_all() -> None:
    dice = random.Random(1)
    observer, peer = VivaldiNode(dice), VivaldiNode(dice)
    observer.coordinate = Coordinate(x_us=100.0, height_us=50.0)
    peer.coordinate = before = Coordinate(height_us=50.0)
    observer.observe(peer, 400.0)
    # Both are equally unsure, so a quarter of a half of the 200 us that are missing.
    assert observer.coordinate == Coordinate(x_us=112.5, height_us=62.5)
    assert observer.error == pytest.approx(0.125 * 0.5 + 0.875)
    assert peer.coordinate == before


def test_sure_node_hardly_moves_for_an_unsure_peer() -> None:
    dice = random.Random(1)
    sure, unsure = VivaldiNode(dice), VivaldiNode(dice)
    sure.error, sure.coordinate = 0.01, Coordinate(x_us=100.0)
    sure.observe(unsure, 10_000.0)
    assert sure.coordinate.x_us < 130.0


def test_nodes_at_one_point_part() -> None:
    dice = random.Random(1)
    one, other = VivaldiNode(dice), VivaldiNode(dice)
    one.observe(other, 1000.0)
    assert (one.coordinate.x_us, one.coordinate.y_us) != (0.0, 0.0)


def test_height_stays_positive() -> None:
    dice = random.Random(1)
    one, other = VivaldiNode(dice), VivaldiNode(dice)
    one.coordinate = other.coordinate = Coordinate(height_us=500.0)
    for _ in range(100):
        one.observe(other, 1.0)
    assert one.coordinate.height_us > 0
