"""A list of members held against itself and against this node."""

import pytest

from agent.members.checks import OwnAgent, OwnListener, check_members
from agent.members.member import Peer
from tests.unit.twins import node
from topology.placement import Placement

OWN = OwnAgent(name=node("own"), addresses=("10.0.0.9", "fd00::9"), port=30020)
ME = ("own", "10.0.0.9", 30020)


def checked(*listed: tuple[str, str, int], own: OwnAgent = OWN) -> tuple[list[str], list[str]]:
    """The names that are used as peers, and what is wrong, each with its node."""
    peers = [
        Peer(name=node(name), address=address, port=port, placement=Placement())
        for name, address, port in listed
    ]
    used, problems = check_members(peers, own)
    assert all(problem.hint for problem in problems)
    return list(used), [f"{problem.node}: {problem.problem}" for problem in problems]


def test_list_with_this_node_and_others_is_in_order() -> None:
    assert checked(ME, ("a", "10.0.0.1", 30020), ("b", "10.0.0.1", 30021)) == (["a", "b"], [])


@pytest.mark.parametrize("address", ["10.0.0.9", "fd00::9"])
def test_own_address_under_another_name_is_no_peer(address: str) -> None:
    used, (problem,) = checked(ME, ("a", "10.0.0.1", 30020), ("also-me", address, 30020))
    assert used == ["a"]
    assert problem.startswith("also-me: ")
    assert "itself" in problem


def test_other_port_of_the_own_address_is_another_agent() -> None:
    assert checked(ME, ("a", "10.0.0.9", 30021)) == (["a"], [])


@pytest.mark.parametrize("entry", [("own", "10.0.0.1", 30020), ("own", "10.0.0.9", 30021)])
def test_own_name_at_another_address_is_told_and_is_no_peer(entry: tuple[str, str, int]) -> None:
    used, (problem,) = checked(entry, ("a", "10.0.0.2", 30020))
    assert used == ["a"]
    assert problem.startswith("own: ")
    assert "10.0.0.9:30020" in problem


def test_list_without_this_node_is_told() -> None:
    used, (problem,) = checked(("a", "10.0.0.1", 30020))
    assert used == ["a"]
    assert "own: this node is not listed" in problem


def test_empty_list_is_told() -> None:
    used, (problem,) = checked()
    assert used == []
    assert "no peers" in problem


def test_two_members_with_one_address_are_one_peer_and_both_are_named() -> None:
    used, (problem,) = checked(ME, ("a", "10.0.0.1", 30020), ("b", "10.0.0.1", 30020))
    assert used == ["a"]
    assert problem.startswith("b: ")
    assert "only a is used" in problem


def test_names_that_differ_in_case_only_are_told_and_used() -> None:
    used, (problem,) = checked(ME, ("a", "10.0.0.1", 1), ("A", "10.0.0.2", 1))
    assert used == ["a", "A"]
    assert problem.startswith("A: differs from a only")


@pytest.mark.parametrize("entry", [("A", "10.0.0.1", 1), ("OWN", "10.0.0.9", 30020)])
def test_entry_that_is_left_out_is_told_once_whatever_else_is_wrong_with_it(
    entry: tuple[str, str, int],
) -> None:
    used, (problem,) = checked(ME, ("a", "10.0.0.1", 1), entry)
    assert used == ["a"]
    assert problem.startswith(f"{entry[0]}: ")


def test_own_name_in_another_case_is_told() -> None:
    used, problems = checked(("OWN", "10.0.0.2", 30020))
    assert used == ["OWN"]
    assert any("OWN: differs from own only" in problem for problem in problems)


def test_node_that_listens_on_every_address_is_found_by_the_one_that_is_known() -> None:
    used, problems = checked(ME, ("x", "10.0.0.9", 30020), own=OWN)
    assert used == []
    assert len(problems) == 1


LISTENING = OwnAgent(
    name=node("own"),
    addresses=("10.0.0.9",),
    port=30020,
    others=(
        OwnListener(name="hostport", host="127.0.0.1", port=30020),
        OwnListener(name="nodeport", host="10.0.0.9", port=30022),
        OwnListener(name="admin", host="0.0.0.0", port=9090),
    ),
)


@pytest.mark.parametrize(
    ("address", "port", "listener"),
    [
        ("127.0.0.1", 30020, "hostport"),
        ("10.0.0.9", 30022, "nodeport"),
        ("10.0.0.9", 9090, "admin"),
        ("127.0.0.1", 9090, "admin"),
        ("127.8.9.1", 9090, "admin"),
    ],
)
def test_own_listener_that_is_not_for_peers_is_no_peer_and_is_named(
    address: str, port: int, listener: str
) -> None:
    used, (problem,) = checked(ME, ("a", address, port), ("b", "10.0.0.1", 30020), own=LISTENING)
    assert used == ["b"]
    own = f"this node's own (own) listen.{listener}"
    assert problem == f"a: {address}:{port} is no peer listener: it is {own}; not used as a peer"


@pytest.mark.parametrize(
    ("address", "port"), [("10.0.0.1", 30022), ("127.0.0.2", 30020), ("10.0.0.9", 30021), ("10.0.0.8", 9090)]
)
def test_same_port_elsewhere_is_not_this_nodes(address: str, port: int) -> None:
    assert checked(ME, ("a", address, port), own=LISTENING) == (["a"], [])


def test_own_entry_with_the_port_of_another_listener_says_which_one_and_what_to_write() -> None:
    used, (problem,) = checked(("own", "10.0.0.9", 30022), ("a", "10.0.0.1", 30020), own=LISTENING)
    assert used == ["a"]
    assert "listen.nodeport, which is not for peers" in problem


def test_agent_is_shown_as_an_address_with_a_port() -> None:
    assert str(OWN) == "10.0.0.9:30020"
    assert str(OwnAgent(name=node("x"), addresses=("fd00::1",), port=1)) == "[fd00::1]:1"
