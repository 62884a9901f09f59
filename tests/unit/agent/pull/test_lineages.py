"""From whom this node has what is still arriving."""

from agent.pull.lineages import Lineage, Lineages
from tests.unit.twins import node, sha256

OWN = Lineage(origin=node("own"), depth=0)
THERE = Lineage(origin=node("first"), depth=2)


def test_what_no_peer_sends_begins_here() -> None:
    assert Lineages(node("own")).of(sha256("a")) == OWN


def test_the_last_peer_that_sent_it_counts() -> None:
    lineages = Lineages(node("own"))
    lineages.came_from(sha256("a"), Lineage(origin=node("other"), depth=0))
    lineages.came_from(sha256("a"), THERE)
    assert lineages.of(sha256("a")) == THERE
    assert lineages.of(sha256("b")) == OWN


def test_what_the_registry_goes_on_with_begins_here_again() -> None:
    lineages = Lineages(node("own"))
    lineages.came_from(sha256("a"), THERE)
    lineages.left_to_registry(sha256("a"))
    lineages.left_to_registry(sha256("never seen"))
    assert lineages.of(sha256("a")) == OWN


def test_only_the_newest_contents_are_remembered() -> None:
    lineages = Lineages(node("own"))
    for number in range(1025):
        lineages.came_from(sha256(number), THERE)
    assert lineages.of(sha256(0)) == OWN
    assert lineages.of(sha256(1)) == THERE
