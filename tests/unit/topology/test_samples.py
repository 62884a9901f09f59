"""What a node measured itself: bounded, and the longest unmeasured node goes first."""

from tests.unit.twins import node
from topology.samples import OwnSamples


def test_node_without_samples_has_no_estimate() -> None:
    samples = OwnSamples(window_s=20.0, half_life_s=120.0)
    assert samples.estimate(node("a"), 0.0) is None
    samples.forget(node("a"))
    assert not samples.nodes()


def test_too_many_nodes_name_the_one_that_waited_longest_for_a_sample() -> None:
    samples = OwnSamples(window_s=20.0, half_life_s=120.0)
    crowded_out = [samples.add(node(f"n{number}"), 300.0, float(number)) for number in range(4096)]
    assert set(crowded_out) == {None}
    assert samples.add(node("n0"), 300.0, 5000.0) is None, "it is known already, and now the newest"
    assert samples.add(node("new"), 300.0, 5001.0) == "n1"
    samples.forget(node("n1"))
    assert samples.add(node("n2"), 300.0, 5002.0) is None


def test_fresh_estimates_are_those_that_count_more_than_what_is_usual() -> None:
    samples = OwnSamples(window_s=20.0, half_life_s=120.0)
    for name, count in (("once", 1), ("often", 3), ("elsewhere", 3)):
        for _ in range(count):
            samples.add(node(name), 300.0, 0.0)
    asked = {node("once"), node("often"), node("never")}
    assert [name for name, _ in samples.fresh(asked, 1.0)] == ["often"]
    assert not [*samples.fresh(asked, 1000.0)], "half-lives later"
