"""Who decides on which content: the same on all nodes, evenly spread, at a cost that does not grow."""

from collections import Counter
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from agent.holders.arbiters import Arbiters
from agent.holders.claims import ClaimKey, arbiters
from tests.unit.twins import node, sha256
from topology.placement import NodeName

NAMES = [node(f"n{number}") for number in range(12)]
OWN = NAMES[0]


class Counted:
    """Members that count how often they are read."""

    def __init__(self) -> None:
        self.reads = 0

    def __iter__(self) -> Iterator[NodeName]:
        self.reads += 1
        return iter(NAMES)


@given(
    members=st.lists(st.sampled_from(NAMES[1:]), unique=True),
    without=st.sets(st.sampled_from(NAMES)),
    content=st.integers(0, 20),
)
def test_first_is_who_comes_first_among_those_that_can_be_asked(
    members: list[NodeName], without: set[NodeName], content: int
) -> None:
    key = ClaimKey(sha256(content))
    left = [name for name in members if name not in without]
    expected = arbiters(key, (*left, OWN), most=1)[0] if left else None
    deciding = Arbiters((OWN, *members))
    assert deciding.first(key, OWN, without=without) == expected
    assert deciding.first(key, OWN, without=without) == expected, "the second time it is known"
    assert deciding.any_other(OWN, without) is bool(left)


def test_members_are_not_gone_through_for_each_question() -> None:
    members = Counted()
    deciding = Arbiters(members)
    assert {deciding.first(ClaimKey(sha256(content)), OWN) for content in range(100)} > {OWN}
    assert members.reads == 1


def test_scopes_and_names_of_one_content_have_arbiters_of_their_own() -> None:
    deciding, digest = Arbiters(NAMES), sha256("x")
    keys = [ClaimKey(digest), *(ClaimKey(digest, realm) for realm in "abcdefgh")]
    assert len({deciding.first(key, OWN) for key in keys}) > 1


MANY = [node(f"ip-10-0-{number // 256}-{number % 256}") for number in range(5000)]
KEYS = [ClaimKey(sha256(content)) for content in range(2000)]


def test_of_thousands_of_members_each_decides_on_about_as_much() -> None:
    deciding = Arbiters(MANY)
    contents = [ClaimKey(sha256(content)) for content in range(10_000)]
    count = Counter(deciding.first(key, MANY[0]) for key in contents)
    assert max(count.values()) <= 12, "two is the mean; 9 is usual where each content hashes all members"
    assert len(count) > 3500, "of 4,323 where each content hashes all members"


def test_nodes_that_miss_a_few_of_thousands_of_members_agree_nearly_always() -> None:
    one, other = Arbiters(MANY), Arbiters([name for name in MANY if not name.endswith("-99")])
    differ = [key for key in KEYS if one.first(key, MANY[0]) != other.first(key, MANY[0])]
    missing = 1 - len([name for name in MANY if not name.endswith("-99")]) / len(MANY)
    assert len(differ) < 3 * missing * len(KEYS) + 5


def test_order_in_which_thousands_of_members_are_listed_does_not_matter() -> None:
    one, other = Arbiters(MANY), Arbiters(reversed(MANY))
    assert [one.first(key, MANY[0]) for key in KEYS] == [other.first(key, MANY[0]) for key in KEYS]


def test_of_thousands_of_members_those_that_can_not_be_asked_are_passed_over() -> None:
    deciding, key = Arbiters(MANY), KEYS[0]
    silent = set[NodeName]()
    for _ in range(100):
        first = deciding.first(key, MANY[0], without=silent)
        assert first is not None
        assert first not in silent
        silent.add(first)
    assert deciding.first(key, MANY[0], without={*MANY} - {MANY[0], MANY[77]}) in (MANY[0], MANY[77])
    assert deciding.first(key, MANY[0], without={*MANY}) is None


def test_members_that_came_and_went_are_as_if_they_had_always_been_so() -> None:
    before = Arbiters(MANY)
    before.first(KEYS[0], MANY[0])
    changed = [*MANY[1000:], node("newcomer")]
    one, other = Arbiters(changed, before), Arbiters(changed)
    assert [one.first(key, changed[0]) for key in KEYS] == [other.first(key, changed[0]) for key in KEYS]


def test_who_decides_in_a_cluster_of_a_few_hundred_is_what_earlier_versions_say() -> None:
    few = MANY[:500]
    deciding = Arbiters(few)
    assert all(deciding.first(key, few[0]) == arbiters(key, few)[0] for key in KEYS[:50])
