"""Which ways there are, and which of them a machine can have."""

from itertools import pairwise

import pytest

from benchmarks.path.ways import BASE, CELLS, Cell, Path, Rules, Tools, order

_ALL = Tools(iptables=True, nftables=True, port_map=True)


def _possible(tools: Tools) -> set[Cell]:
    return {cell for cell in CELLS if not tools.lacking(cell)}


def test_every_way_is_measured_under_the_rules_of_both_modes() -> None:
    assert _possible(_ALL) == set(CELLS)
    assert {(cell.path, cell.rules) for cell in CELLS if cell != BASE} == {
        (path, rules) for path in Path for rules in (Rules.IPTABLES, Rules.NFTABLES)
    }


@pytest.mark.parametrize(
    ("tools", "left"),
    [
        (Tools(iptables=True, nftables=False, port_map=True), 5),
        (Tools(iptables=False, nftables=True, port_map=True), 4),
        (Tools(iptables=True, nftables=True, port_map=False), 7),
        (Tools(iptables=False, nftables=False, port_map=False), 1),
    ],
)
def test_what_the_machine_lacks_is_left_out_and_the_rest_is_measured(tools: Tools, left: int) -> None:
    assert len(_possible(tools)) == left
    assert BASE in _possible(tools)
    assert all("on this machine" in tools.lacking(cell) for cell in set(CELLS) - _possible(tools))


def test_neighbours_share_their_rules_in_either_direction() -> None:
    for number in (0, 1):
        rules = [cell.rules for cell in order(CELLS, number)]
        changes = sum(one is not other for one, other in pairwise(rules))
        assert changes == len(Rules) - 1
