"""One object for equal values."""

from topology.interning import Interned
from topology.placement import Placement, Zone


def test_equal_values_become_one_object() -> None:
    shared = Interned[Placement]()
    first, second = Placement(zone=Zone("a")), Placement(zone=Zone("a"))
    assert shared.of(first) is first
    assert shared.of(second) is first
    assert shared.of(Placement(zone=Zone("b"))) is not first


def test_so_many_values_are_remembered_and_no_more() -> None:
    shared = Interned[str](most=2)
    first = shared.of("".join(("a", "b")))
    for value in ("c", "d", "e"):
        shared.of(value)
    again = "".join(("a", "b"))
    assert shared.of(again) is again
    assert first == again
