"""Who may come in by the peer listener, and what those are told who may not."""

from collections.abc import Mapping

import pytest
from multidict import CIMultiDict

from agent.keyring import KeyRing, parse_keys
from agent.members.member import Peer
from agent.observe.refusals import Reason, Refusal
from agent.peering.credentials import Credentials
from agent.peering.gate import Admitted, Gate
from agent.peering.signature import WINDOW_MS
from tests.unit.agent.peering.rosters import member, roster_of_two
from tests.unit.twins import node

KEY, NEXT = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
NOW_S = 1_700_000_000.0
B_ADDRESS, PATH = "192.0.2.2", "/shorthaul/v1/holders"
TOLD_NOTHING = {Reason.NO_PROOF, Reason.MALFORMED, Reason.UNKNOWN_KEY, Reason.WRONG_PROOF}


class Door:
    """The gate of ``a``, whose one peer is ``b``, and b's own credentials."""

    def __init__(self, keys: str | None = KEY, *, is_open: bool = False) -> None:
        self.now_s, self.monotonic_s, self.ahead_s = NOW_S, 0.0, 0.0
        self.roster = roster_of_two("a", "b")
        self.ring: KeyRing | None = None if keys is None else parse_keys(keys)
        self.gate = Gate(
            own=node("a"),
            ring=lambda: self.ring,
            is_open=is_open,
            roster=self.roster,
            wall=lambda: self.now_s,
            clock=lambda: self.monotonic_s,
        )

    def signed(
        self, name: str = "b", to: str = "a", target: str = PATH, keys: str = KEY, **more: str
    ) -> dict[str, str]:
        """The headers that a node of this name sends."""
        ring, peer = parse_keys(keys), member(to, "192.0.2.1")
        sender = Credentials(own=node(name), ring=lambda: ring, wall=lambda: self.now_s + self.ahead_s)
        return sender.headers(peer, "GET", target, more)

    def check(
        self, headers: Mapping[str, str], method: str = "GET", target: str = PATH, address: str = B_ADDRESS
    ) -> Admitted | Refusal:
        return self.gate.check(method, target, CIMultiDict(headers), address)

    def refused(self, headers: Mapping[str, str], **where: str) -> Refusal:
        refusal = self.check(headers, **where)
        assert isinstance(refusal, Refusal), refusal
        assert refusal.knows_key is (refusal.reason not in TOLD_NOTHING)
        assert bool(refusal.hint) is refusal.knows_key
        return refusal


def test_member_that_signs_is_let_in_by_its_name() -> None:
    door = Door()
    assert door.check(door.signed()) == Admitted(node=node("b"), is_agent=True)
    assert door.check(door.signed(Range="bytes=1-"), address="203.0.113.9") == Admitted(
        node=node("b"), is_agent=True
    )


@pytest.mark.parametrize("headers", [{}, {"User-Agent": "shorthaul"}, {"User-Agent": "containerd/2.1"}])
def test_who_proves_nothing_is_refused_and_told_nothing(headers: dict[str, str]) -> None:
    assert Door().refused(headers).reason is Reason.NO_PROOF
    assert Door(None).refused(headers).reason is Reason.NO_PROOF


def test_agent_without_a_key_lets_nobody_in() -> None:
    door = Door(None)
    assert door.refused(door.signed()).reason is Reason.NO_PROOF


@pytest.mark.parametrize("header", ["", "Basic eDp5", "Bearer x", "Shorthaul-HMAC-SHA256", "\xff"])
def test_what_is_no_signature_is_refused(header: str) -> None:
    assert Door().refused({"Authorization": header}).reason is Reason.MALFORMED


def test_two_signatures_or_two_ranges_are_refused() -> None:
    door = Door()
    for name in ("Authorization", "Range"):
        headers = CIMultiDict(door.signed(Range="bytes=1-"))
        headers.add(name, headers[name])
        assert door.refused(headers).reason is Reason.MALFORMED


def test_wrong_key_is_refused_and_told_nothing() -> None:
    door = Door()
    assert door.refused(door.signed(keys=NEXT)).reason is Reason.UNKNOWN_KEY


def test_signature_under_another_key_s_name_is_refused() -> None:
    door = Door()
    forged = door.signed(keys=NEXT)
    forged["Authorization"] = forged["Authorization"].replace(
        parse_keys(NEXT).signs.id, parse_keys(KEY).signs.id
    )
    assert door.refused(forged).reason is Reason.WRONG_PROOF


@pytest.mark.parametrize(
    ("method", "target", "byte_range"),
    [
        ("HEAD", PATH, "bytes=1-"),
        ("GET", PATH + "?x", "bytes=1-"),
        ("GET", PATH, "bytes=0-"),
        ("GET", PATH, ""),
    ],
)
def test_signature_of_another_request_is_refused(method: str, target: str, byte_range: str) -> None:
    door = Door()
    headers = door.signed(Range="bytes=1-")
    if byte_range:
        headers["Range"] = byte_range
    else:
        del headers["Range"]
    assert door.refused(headers, method=method, target=target).reason is Reason.WRONG_PROOF


def test_all_keys_of_the_file_are_accepted_and_a_removed_one_is_not() -> None:
    door = Door(f"{NEXT}\n{KEY}")
    assert isinstance(door.check(door.signed(keys=KEY)), Admitted)
    assert isinstance(door.check(door.signed(keys=NEXT)), Admitted)
    door.ring = parse_keys(NEXT)
    assert door.refused(door.signed(keys=KEY)).reason is Reason.UNKNOWN_KEY


@pytest.mark.parametrize(("ahead_s", "words"), [(600.0, "600 s ahead of"), (-600.0, "600 s behind")])
def test_wrong_clock_is_told_to_who_knows_the_key(ahead_s: float, words: str) -> None:
    door = Door()
    door.ahead_s = ahead_s
    refusal = door.refused(door.signed())
    assert refusal.reason is Reason.CLOCK
    assert refusal.message == f"the clock of b is {words} that of a"
    assert refusal.node == "b"


@pytest.mark.parametrize("ahead_s", [WINDOW_MS / 1000, -WINDOW_MS / 1000])
def test_clocks_may_differ_by_the_window(ahead_s: float) -> None:
    door = Door()
    door.ahead_s = ahead_s
    assert isinstance(door.check(door.signed()), Admitted)


def test_request_for_another_node_is_refused() -> None:
    door = Door()
    refusal = door.refused(door.signed(to="c"))
    assert refusal.reason is Reason.OTHER_NODE
    assert "this is a, and the request of b is for c" in refusal.message


@pytest.mark.parametrize("name", ["stranger", "a"])
def test_name_that_is_no_member_s_is_refused(name: str) -> None:
    door = Door()
    assert door.refused(door.signed(name)).reason is Reason.NOT_A_MEMBER


def test_member_that_left_a_moment_ago_may_still_ask() -> None:
    door = Door()
    door.roster.update({})
    assert isinstance(door.check(door.signed()), Admitted)
    door.monotonic_s = 121.0
    assert door.refused(door.signed()).reason is Reason.NOT_A_MEMBER
    door.roster.update({node("b"): member("b", B_ADDRESS)})
    assert isinstance(door.check(door.signed()), Admitted)


def _two_members(second: str) -> dict[str, Peer]:
    return {"b": member("b", B_ADDRESS), "c": member("c", second, port=30023)}


def test_name_of_one_member_from_the_address_of_another_one_is_refused() -> None:
    door = Door()
    door.roster.update({node(name): peer for name, peer in _two_members("192.0.2.3").items()})
    refusal = door.refused(door.signed("b"), address="192.0.2.3")
    assert refusal.reason is Reason.OTHER_ADDRESS
    assert "192.0.2.3, which is c's address" in refusal.message
    assert isinstance(door.check(door.signed("c"), address="192.0.2.3"), Admitted)


def test_members_may_share_an_address() -> None:
    door = Door()
    door.roster.update({node(name): peer for name, peer in _two_members(B_ADDRESS).items()})
    for name in ("b", "c"):
        assert isinstance(door.check(door.signed(name)), Admitted)


def test_repeated_request_is_refused_also_after_the_clock_was_set() -> None:
    door = Door()
    headers = door.signed()
    assert isinstance(door.check(headers), Admitted)
    assert door.refused(headers).reason is Reason.REPLAYED
    door.now_s -= 20
    assert door.refused(headers).reason is Reason.REPLAYED


def test_refused_request_may_be_made_good_by_the_clock() -> None:
    door = Door()
    door.ahead_s = 600
    headers = door.signed()
    assert door.refused(headers).reason is Reason.CLOCK
    door.now_s += 600
    assert isinstance(door.check(headers), Admitted)


def test_redirected_client_is_let_in_with_its_address_for_a_while() -> None:
    door, b = Door(), Credentials(own=node("b"), ring=lambda: parse_keys(KEY), wall=lambda: NOW_S)
    address = b.redirect(member("a", "192.0.2.1"), "/v2/app/blobs/sha256:1?ns=docker.io")
    target = address.removeprefix("http://192.0.2.1:30020")
    client = {"User-Agent": "containerd/2.1"}
    for method in ("GET", "HEAD", "GET"):
        assert door.check(client, method=method, target=target) == Admitted(is_redirected=True)
    assert door.refused(client, method="POST", target=target).reason is Reason.MALFORMED
    assert door.refused(client, target=target.replace("app", "x")).reason is Reason.WRONG_PROOF
    door.ring = parse_keys(NEXT)
    assert door.refused(client, target=target).reason is Reason.UNKNOWN_KEY
    door.ring, door.now_s = parse_keys(KEY), NOW_S + 31
    assert door.refused(client, target=target).reason is Reason.CLOCK


def test_open_gate_lets_everybody_in_and_still_knows_who_proves_a_name() -> None:
    for keys in (KEY, None):
        door = Door(keys, is_open=True)
        assert door.check({}) == Admitted()
        assert door.check({"User-Agent": "shorthaul"}) == Admitted(is_agent=True)
        known = node("b") if keys else None
        assert door.check(door.signed()) == Admitted(node=known, is_agent=True)
        assert door.check(door.signed(keys=NEXT)) == Admitted(is_agent=True)
