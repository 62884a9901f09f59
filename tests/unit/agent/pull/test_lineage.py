"""Whom the bytes of a content in flight came from first."""

from agent.pull.lineage import DEPTH_MAX, Lineage, Lineages
from tests.unit.twins import node, sha256

OWN, BLOB = node("own"), sha256("blob")


def test_content_that_nobody_sent_is_this_nodes_own() -> None:
    assert Lineages(OWN).of(BLOB, 0.0) == Lineage(origin=OWN, depth=0)


def test_origin_is_passed_on_and_the_depth_grows_by_one_at_each_agent() -> None:
    first, second = Lineages(node("b")), Lineages(node("c"))
    first.sent_by(BLOB, node("a"), 0.0)
    told = first.of(BLOB, 1.0)
    assert told == Lineage(origin=node("a"), depth=1)
    second.sent_by(BLOB, node("b"), 1.0, origin=told.origin, depth=told.depth)
    assert second.of(BLOB, 2.0) == Lineage(origin=node("a"), depth=2)


def test_depth_that_a_peer_makes_up_is_bounded() -> None:
    lineages = Lineages(OWN)
    assert lineages.sent_by(BLOB, node("liar"), 0.0, depth=10**18).depth == DEPTH_MAX
    assert lineages.sent_by(BLOB, node("liar"), 0.0, depth=-5).depth == 1


def test_node_that_goes_on_at_the_registry_answers_for_the_bytes_itself() -> None:
    lineages = Lineages(OWN)
    lineages.sent_by(BLOB, node("a"), 0.0)
    lineages.left_to_registry(BLOB)
    assert lineages.of(BLOB, 1.0).origin == OWN


def test_what_is_known_is_bounded_in_number_and_in_time() -> None:
    lineages = Lineages(OWN)
    lineages.sent_by(BLOB, node("a"), 0.0)
    assert lineages.of(BLOB, 3601.0).origin == OWN
    for number in range(10_000):
        lineages.sent_by(sha256(number), node("a"), 0.0)
    assert lineages.of(BLOB, 1.0).origin == OWN
    assert lineages.of(sha256(9_999), 1.0).origin == node("a")
