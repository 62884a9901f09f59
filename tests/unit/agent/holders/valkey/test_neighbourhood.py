"""The members with their numbers: what is made anew when."""

from agent.holders.valkey.neighbourhood import Neighbourhood
from agent.holders.valkey.numbers import SLOT_BYTES, Numbers, slot_value
from agent.members.roster import Roster
from tests.unit.twins import node, peer, peers, placed

HERE, THERE = placed("eu", "eu-a"), placed("eu", "eu-b")


class Seen:
    """One neighbourhood, with a clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.roster = Roster(own=node("own"), placement=HERE, clock=lambda: self.now_s)
        self.roster.update(peers(peer("near", HERE), peer("other", HERE), peer("far", THERE)))
        self.numbers = Numbers()
        self.learn("near", "far")
        self.seen = Neighbourhood(self.roster, self.numbers, clock=lambda: self.now_s)

    def learn(self, *names: str, first: int = 0) -> None:
        self.numbers.learn(b"".join(slot_value(node(name), self.now_s) for name in names), first)

    @property
    def silent(self) -> list[str]:
        return [peer.name for peer in self.seen.silent]


def test_members_that_have_no_number_are_in_no_mask_and_those_of_the_own_zone_are_told() -> None:
    here = Seen()
    assert here.seen.masks.names == {0: "near", 1: "far"}
    assert here.silent == ["other"]


def test_a_number_that_becomes_known_counts_at_once() -> None:
    here = Seen()
    assert here.silent == ["other"]
    here.learn("other", first=2)
    assert here.seen.masks.names[2] == "other"
    assert here.silent == []


def test_a_member_that_comes_or_goes_counts_at_once() -> None:
    here = Seen()
    assert here.seen.masks.known == 0b11
    here.roster.update(peers(peer("near", HERE), peer("new", HERE)))
    assert here.seen.masks.known == 0b01
    assert here.silent == ["new"]


def test_a_near_member_that_is_not_alive_is_silent_until_it_is_again_or_it_is_long_ago() -> None:
    here = Seen()
    here.seen.heard(0b10)
    assert here.silent == ["near", "other"]
    here.seen.heard(0b11)
    assert here.silent == ["other"]
    here.seen.heard(0b10)
    here.now_s += 61.0
    assert here.silent == ["other"]


def test_the_masks_are_not_made_anew_when_nothing_changed() -> None:
    here = Seen()
    before = here.seen.masks
    here.now_s += 100.0
    assert here.seen.masks is before
    here.numbers.learn(b"\0" * SLOT_BYTES)
    assert here.seen.masks is before


def test_new_measurements_make_the_masks_anew_now_and_then_only() -> None:
    here = Seen()
    before = here.seen.masks
    for _ in range(5):
        here.roster.sample(node("near"), 500.0)
        here.now_s += 1.0
        here.roster.refresh()
        assert here.seen.masks is before
    here.now_s += 10.0
    assert here.seen.masks is not before
