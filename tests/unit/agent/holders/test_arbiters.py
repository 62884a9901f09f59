"""Who decides on which content is the same as by hashing all members, and costs that only once."""

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
