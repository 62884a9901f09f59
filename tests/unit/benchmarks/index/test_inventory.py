"""Who has what in a simulated cluster."""

from itertools import islice

from benchmarks.index.inventory import Inventory


def test_node_has_as_many_different_contents_as_it_should_and_the_same_each_time() -> None:
    inventory = Inventory(digests=1000, blobs=50)
    assert len(set(inventory.of(3))) == 50
    assert inventory.of(3) == Inventory(digests=1000, blobs=50).of(3)
    assert set(inventory.of(3)) != set(inventory.of(4))


def test_first_contents_are_nearly_everywhere_and_the_last_on_few_nodes() -> None:
    inventory = Inventory(digests=1000, blobs=100)
    holders = [0] * 1000
    for node in range(200):
        for number in inventory.numbers(node):
            holders[number] += 1
    assert min(holders[:3]) > 190
    assert 0 < sum(holders[-100:]) / 100 < 20


def test_node_that_has_everything_has_everything() -> None:
    assert sorted(Inventory(digests=20, blobs=500).numbers(1)) == list(range(20))


def test_what_is_asked_for_most_is_what_most_nodes_have() -> None:
    asked = list(islice(Inventory(digests=1000, blobs=10).asked(7), 5000))
    assert asked.count(0) > asked.count(100) > 0
