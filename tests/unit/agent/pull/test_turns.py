"""Turns: whose check is next, and who makes room."""

from hypothesis import given
from hypothesis import strategies as st

from agent.oci.digest import Digest
from agent.pull.turns import Turns
from tests.unit.twins import node
from topology.placement import NodeName

A, B, C = node("a"), node("b"), node("c")


def digest(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


def added(turns: Turns, who: NodeName, *numbers: int) -> list[bool]:
    return [turns.add(digest(number), who)[0] for number in numbers]


def played(turns: Turns, *, failing: frozenset[NodeName] = frozenset()) -> list[NodeName]:
    """Whose checks run, in their order."""
    order = []
    while turns:
        checked, who = turns.next()
        turns.ended(checked, who, failed=who in failing)
        order.append(who)
    return order


def test_each_peer_gets_its_turn_however_many_checks_another_has() -> None:
    turns = Turns()
    added(turns, A, *range(100))
    added(turns, B, 1, 2)
    assert played(turns)[:5] == [A, B, A, B, A]


def test_peer_whose_check_failed_goes_after_everybody_else() -> None:
    turns = Turns()
    added(turns, A, 1, 2)
    added(turns, B, 1, 2)
    added(turns, C, 1)
    assert played(turns, failing=frozenset({A})) == [A, B, C, B, A]


def test_peer_that_takes_all_places_loses_its_last_ones_to_others_until_all_have_as_many() -> None:
    turns = Turns(at_most=8)
    assert added(turns, A, *range(8)) == [True] * 8
    assert turns.add(digest(8), A) == (False, None)
    assert turns.add(digest(1), B) == (True, (digest(7), A))
    assert turns.add(digest(2), B) == (True, (digest(6), A))
    assert added(turns, B, *range(3, 9)) == [True, True, False, False, False, False]
    assert sorted(played(turns)) == [A] * 4 + [B] * 4


def test_check_that_waits_already_is_not_added_again() -> None:
    turns = Turns(at_most=1)
    assert turns.add(digest(1), A) == (True, None)
    assert turns.add(digest(1), A) == (True, None)
    assert played(turns) == [A]


def test_check_that_runs_never_makes_room() -> None:
    turns = Turns(at_most=2)
    added(turns, A, 1, 2)
    running = turns.next()
    assert turns.add(digest(3), B) == (True, (digest(2), A))
    assert running == (digest(1), A)
    assert turns.add(digest(4), C) == (False, None)


@given(wanted=st.lists(st.tuples(st.integers(0, 9), st.sampled_from((A, B, C))), max_size=60))
def test_number_is_bounded_and_no_peer_is_left_out_while_another_has_two_more(
    wanted: list[tuple[int, NodeName]],
) -> None:
    turns, counts = Turns(at_most=6), {A: 0, B: 0, C: 0}
    seen: set[tuple[int, NodeName]] = set()
    for number, who in wanted:
        known = (number, who) in seen
        waits, dropped = turns.add(digest(number), who)
        if waits and not known:
            counts[who] += 1
            seen.add((number, who))
        if dropped is not None:
            counts[dropped[1]] -= 1
            seen.discard((int(dropped[0].partition(":")[2], 16), dropped[1]))
        assert sum(counts.values()) <= 6
        assert waits or max(counts.values()) < counts[who] + 2
    order = played(turns)
    assert {who: order.count(who) for who in counts} == counts
