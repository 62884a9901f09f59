"""To how many nodes at once a content is given, and whom the others are told of."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.digest import Digest
from agent.pull.arrival import SHARED_MAX
from agent.pull.fanout import AGAIN_S, LEAST_BYTES, Admitted, Fanout, Shared, is_shared_out
from tests.unit.twins import located, node, sha256
from topology.placement import ZoneKey

LAYER, OTHER = sha256("layer"), sha256("other")


def zone(name: str) -> ZoneKey:
    key = located("r", name).zone_key
    assert key is not None
    return key


class Asking:
    """Asks one fan-out. A node's zone is the first letter of its name."""

    def __init__(self, followers_max: int = 3) -> None:
        self.fanout = Fanout(followers_max=followers_max)
        self.now_s = 100.0

    def ask(self, name: str, digest: Digest = LAYER, *, in_flight: bool = False) -> Admitted | Shared:
        return self.fanout.ask(digest, node(name), zone(name[0]), self.now_s, in_flight=in_flight)

    def admit(self, name: str, digest: Digest = LAYER, *, in_flight: bool = False) -> Admitted:
        admitted = self.ask(name, digest, in_flight=in_flight)
        assert isinstance(admitted, Admitted)
        return admitted

    def told(self, name: str, digest: Digest = LAYER, *, in_flight: bool = False) -> Sequence[str]:
        shared = self.ask(name, digest, in_flight=in_flight)
        assert isinstance(shared, Shared)
        return shared.nodes

    def end(self, admitted: Admitted, *, whole: bool = True) -> None:
        self.fanout.ended(admitted, self.now_s, whole=whole)


def test_complete_content_is_given_to_one_node_of_each_zone_and_the_others_are_told_of_it() -> None:
    asking = Asking()
    asking.admit("a1")
    assert asking.told("a2") == asking.told("a3") == ("a1",)
    asking.admit("b1")
    assert asking.told("b2") == ("b1",)


def test_another_content_is_another_matter() -> None:
    asking = Asking()
    asking.admit("a1")
    asking.admit("a2", OTHER)


def test_node_that_has_one_body_of_it_already_is_given_another() -> None:
    asking = Asking(followers_max=1)
    asking.admit("a1")
    asking.admit("a1")
    asking.admit("a1", in_flight=True)
    assert asking.fanout.followers(LAYER) == ("a1",)


def test_what_arrives_is_given_to_a_few_and_the_others_are_told_of_those_of_their_zone() -> None:
    asking = Asking(followers_max=3)
    for name in ("a1", "b1", "a2"):
        asking.admit(name, in_flight=True)
    assert asking.told("b2", in_flight=True) == ("b1",)
    assert asking.told("a3", in_flight=True) == ("a1", "a2")
    assert len(asking.fanout) == 3


def test_first_node_of_each_zone_is_given_what_arrives_however_many_others_are() -> None:
    """It could take it from none of these, so it would only come back."""
    asking = Asking(followers_max=2)
    for name in ("b1", "c1", "d1", "a1"):
        asking.admit(name, in_flight=True)
    for number in range(2, 100):
        assert asking.told(f"a{number}", in_flight=True) == ("a1",)


def test_a_place_that_is_free_again_goes_to_the_next_who_asks() -> None:
    asking = Asking(followers_max=1)
    first = asking.admit("a1", in_flight=True)
    asking.told("a2", in_flight=True)
    asking.end(first, whole=False)
    asking.admit("a3", in_flight=True)
    assert len(asking.fanout) == 1


@pytest.mark.parametrize("in_flight", [False, True])
def test_node_that_comes_back_is_given_it_so_a_wrong_word_costs_one_round_trip(in_flight: bool) -> None:
    asking = Asking(followers_max=1)
    asking.admit("a1", in_flight=in_flight)
    asking.told("a2", in_flight=in_flight)
    asking.now_s += AGAIN_S - 0.1
    asking.admit("a2", in_flight=in_flight)


def test_thousand_nodes_that_are_sent_elsewhere_at_once_may_all_come_back() -> None:
    asking = Asking()
    layers = [sha256(number) for number in range(16)]
    for layer in layers:
        asking.admit("a0", layer)
        for number in range(1, 1000):
            asking.told(f"a{number}", layer)
    for layer in layers:
        asking.admit("a1", layer)


def test_node_that_comes_back_much_later_is_told_again() -> None:
    asking = Asking()
    asking.admit("a1")
    asking.told("a2")
    asking.now_s += AGAIN_S
    assert asking.told("a2") == ("a1",)


def test_whoever_got_it_whole_a_moment_ago_is_named_to_the_others_of_its_zone() -> None:
    asking = Asking()
    asking.end(asking.admit("a1"))
    asking.now_s += 29.0
    assert asking.told("a2") == ("a1",)
    asking.end(asking.admit("b1"))
    asking.admit("a1")
    asking.now_s += 2.0
    assert asking.told("b2") == ("b1",)
    assert asking.told("a3") == ("a1",)


def test_whoever_did_not_get_all_of_it_or_got_it_long_ago_is_not_named() -> None:
    asking = Asking()
    asking.end(asking.admit("a1"), whole=False)
    asking.end(asking.admit("a2"))
    asking.now_s += 30.0
    asking.admit("a3")


def test_of_thousands_that_got_it_a_few_are_named_the_newest_first_and_none_is_kept_for_long() -> None:
    asking = Asking()
    for number in range(3000):
        if number:
            asking.told(f"a{number}")
        asking.now_s += 0.02
        asking.end(asking.admit(f"a{number}"))
    assert asking.told("a9999") == tuple(f"a{number}" for number in range(2999, 2991, -1))
    asking.now_s += 31.0
    asking.end(asking.admit("a0"))
    assert asking.told("a1") == ("a0",)


def test_thousand_askers_at_once_are_told_of_a_few_and_forgotten_in_time() -> None:
    asking = Asking(followers_max=10)
    for number in range(10):
        asking.admit(f"a{number}", in_flight=True)
    for number in range(10, 16_500):
        assert len(asking.told(f"a{number}", in_flight=True)) == SHARED_MAX
    asking.told("a10", in_flight=True)  # as it asked long ago, it is not remembered
    asking.admit("a16499", in_flight=True)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "end")),
        st.sampled_from([f"{zone}{number}" for zone in "ab" for number in range(6)]),
        st.booleans(),
        st.sampled_from((0.0, 0.0, 1.0, 20.0)),
    ),
    max_size=40,
)


@given(steps=STEPS, followers_max=st.integers(1, 4))
def test_whoever_is_told_is_told_of_others_that_are_given_it_and_asks_twice_at_most(
    steps: list[tuple[str, str, bool, float]], followers_max: int
) -> None:
    asking = Asking(followers_max)
    given_now: list[Admitted] = []
    ever: set[str] = set()
    for what, name, in_flight, later_s in steps:
        asking.now_s += later_s
        if what == "end":
            if given_now:
                asking.end(given_now.pop(0), whole=in_flight)
            continue
        answer = asking.ask(name, in_flight=in_flight)
        if isinstance(answer, Shared):
            assert answer.nodes
            assert name not in answer.nodes
            assert set(answer.nodes) <= ever
            if in_flight:
                assert set(answer.nodes) <= {each.node for each in given_now}
                assert len({each.node for each in given_now}) >= followers_max
            else:
                assert all(other[0] == name[0] for other in answer.nodes)
            answer = asking.ask(name, in_flight=in_flight)
        assert isinstance(answer, Admitted), "told twice within a moment"
        given_now.append(answer)
        ever.add(name)
    for each in given_now:
        asking.end(each, whole=False)
    assert asking.fanout.followers(LAYER) == ()
    assert len(asking.fanout) == 0


@pytest.mark.parametrize(
    ("size_bytes", "part", "in_flight", "shared_out"),
    [
        (LEAST_BYTES, False, False, True),
        (LEAST_BYTES - 1, False, False, False),
        (LEAST_BYTES, True, False, False),
        (1, True, True, True),
    ],
)
def test_what_is_small_or_a_part_of_something_complete_is_given_to_everybody(
    size_bytes: int, *, part: bool, in_flight: bool, shared_out: bool
) -> None:
    assert is_shared_out(size_bytes, part=part, in_flight=in_flight) is shared_out
