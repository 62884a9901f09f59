"""Why no peer gave a content, in words that stay short in a cluster of any size."""

from agent.pull.absence import ago, is_fault, listed, nobody_gave_it, not_asked, without
from tests.unit.twins import node


def reasons(count: int, words: str = "status 404") -> dict:  # type: ignore[type-arg]
    return {node(f"n{number:04}"): words for number in range(count)}


def test_when_everybody_was_asked_nobody_has_it() -> None:
    assert nobody_gave_it(0, {}, {}) == "no peer has it (0 tried)"


def test_those_that_were_tried_are_named_with_what_they_did() -> None:
    tried = {node("n2"): "no byte for 3 s", node("n1"): "status 500"}
    assert nobody_gave_it(3, tried, {}) == "no peer gives it (3 tried: n1 (status 500), n2 (no byte for 3 s))"


def test_those_that_were_not_asked_are_named_and_nobody_is_said_to_have_nothing() -> None:
    told = nobody_gave_it(0, {}, {node("n2"): "no reply, 4 s ago"})
    assert told == (
        "no peer that was asked in full gives it (0 tried); not asked in full: n2 (no reply, 4 s ago)"
    )


def test_sentence_without_anybody_has_no_end() -> None:
    assert not_asked({}) == ""
    assert not_asked({node("n1"): "it failed"}) == "; not asked in full: n1 (it failed)"


def test_node_that_could_not_ask_says_so_and_of_nobody_that_it_has_nothing() -> None:
    told = nobody_gave_it(0, {}, {}, "network is unreachable, 1 s ago")
    assert told == (
        "no peer that was asked in full gives it (0 tried); "
        "this node could not ask: network is unreachable, 1 s ago"
    )
    assert not_asked({node("n1"): "it failed"}, "no network") == (
        "; not asked in full: n1 (it failed); this node could not ask: no network"
    )


def test_of_five_thousand_nodes_three_are_named_and_the_others_counted() -> None:
    told = nobody_gave_it(9, reasons(9), reasons(5000, "x" * 1000))
    assert "n0002" in told
    assert "n0003" not in told
    assert told.endswith("and 4997 more")
    assert len(told) < 600


def test_ages_are_whole_seconds_and_never_negative() -> None:
    assert ago("it failed", 4.4) == "it failed, 4 s ago"
    assert ago("it failed", -1.0) == "it failed, 0 s ago"


def test_nodes_can_be_left_out() -> None:
    assert without([node("n0000")], reasons(2)) == {node("n0001"): "status 404"}
    assert listed(reasons(1)) == "n0000 (status 404)"


def test_cold_content_is_nobody_s_fault_even_where_some_peers_are_always_away() -> None:
    assert not is_fault(faults=0, unasked=0, peers=0, own=False)
    assert not is_fault(faults=0, unasked=2, peers=4999, own=False)


def test_404_is_a_fault_if_a_holder_failed_or_this_node_or_most_peers_could_not_be_asked() -> None:
    assert is_fault(faults=1, unasked=0, peers=3, own=False)
    assert is_fault(faults=0, unasked=0, peers=3, own=True)
    assert is_fault(faults=0, unasked=2, peers=3, own=False)
