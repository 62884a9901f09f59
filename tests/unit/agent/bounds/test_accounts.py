"""What one client may take of this agent."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bounds.accounts import ACCEPT_S, Account, Accounts, Excess, Limits

MEMBER, STRANGER = "10.0.0.7", "10.9.9.9"
LIMITS = Limits()


def accounts() -> Accounts:
    """Accounts of a cluster with one other member."""
    return Accounts(LIMITS, member_at={MEMBER: "node-a"}.get, now_s=0.0)


def test_a_stranger_that_owes_something_is_not_accepted_and_later_is() -> None:
    all_of = accounts()
    account = all_of.connected(STRANGER, 0.0)
    assert account.spend(LIMITS.stranger_burst_s + 0.3, 0.0) > 2
    assert all_of.admit(STRANGER, ACCEPT_S, 0.0) is Excess.CPU
    assert all_of.admit(STRANGER, ACCEPT_S, 1.5) is account


def test_a_connection_is_charged_so_that_connecting_alone_uses_up_a_share() -> None:
    all_of, accepted = accounts(), 0
    while isinstance(account := all_of.admit(STRANGER, ACCEPT_S, 0.0), Account):
        all_of.left(account)
        accepted += 1
    assert 100 < accepted < 10_000


def test_a_stranger_has_few_connections_and_a_new_one_when_one_ended() -> None:
    all_of = accounts()
    opened: list[Account] = []
    while isinstance(account := all_of.admit(STRANGER, ACCEPT_S, float(len(opened))), Account):
        opened.append(account)
    assert len(opened) == LIMITS.stranger_connections_max
    all_of.left(opened.pop())
    assert all_of.admit(STRANGER, ACCEPT_S, 1000.0) is opened[0]


def test_many_strangers_together_have_few_connections_and_a_member_gets_its_own() -> None:
    all_of = accounts()
    for number in range(LIMITS.strangers_connections_max):
        address = f"10.8.{number // 250}.{number % 250}"
        assert isinstance(all_of.admit(address, ACCEPT_S, number * 1.0), Account)
    assert all_of.admit("10.7.0.1", ACCEPT_S, 1000.0) is Excess.CONNECTIONS
    assert isinstance(all_of.admit(MEMBER, ACCEPT_S, 1000.0), Account)


def test_at_a_members_address_a_new_connection_ends_the_oldest_that_asked_for_nothing() -> None:
    all_of, ended = accounts(), list[int]()
    for number in range(LIMITS.member_connections_max):
        account = all_of.admit(MEMBER, ACCEPT_S, float(number))
        assert isinstance(account, Account)
        if number != 0:  # the very first one asked
            account.silent[partial(ended.append, number)] = None
    assert isinstance(all_of.admit(MEMBER, ACCEPT_S, 1000.0), Account)
    assert ended == [1]
    all_of.connected(MEMBER, 1000.0).silent.clear()
    assert all_of.admit(MEMBER, ACCEPT_S, 1000.0) is Excess.CONNECTIONS


def test_a_proven_connection_counts_for_the_member_and_no_longer_for_its_address() -> None:
    all_of = accounts()
    account = all_of.connected(MEMBER, 0.0)
    proven = all_of.prove(account, "node-a", MEMBER, 0.0)
    assert proven is not None
    assert proven.proven
    assert (account.connections, proven.connections, proven.name) == (0, 1, "node-a")
    assert all_of.prove(proven, "node-a", MEMBER, 0.0) is proven
    all_of.left(proven)
    assert proven.connections == 0


def test_what_is_not_proven_at_a_members_address_does_not_spend_what_the_member_has() -> None:
    all_of = accounts()
    neighbour = all_of.connected(MEMBER, 0.0)
    proven = all_of.prove(all_of.connected(MEMBER, 0.0), "node-a", MEMBER, 0.0)
    assert proven is not None
    neighbour.spend(2.0, 0.0)
    assert proven.wait_s(0.0) == 0


def test_a_member_that_claims_many_names_from_one_address_has_the_account_of_its_address() -> None:
    all_of, proven = accounts(), 0
    while all_of.prove(all_of.connected(STRANGER, 0.0), f"node-{proven}", STRANGER, 0.0) is not None:
        proven += 1
    assert proven == LIMITS.member_connections_max


def test_strangers_together_have_one_share_and_a_light_one_does_not_wait_for_the_heavy_ones() -> None:
    all_of = accounts()
    light = all_of.connected("10.5.0.1", 0.0)
    heavy = [all_of.connected(f"10.6.0.{number}", 0.0) for number in range(4)]
    waits_s = [account.spend(0.15, 0.0) for account in heavy]
    assert waits_s[-1] > 0
    assert light.spend(0.0001, 0.0) == 0


def spent_each_second(group: list[Account], share: float, seconds: int, step_s: float = 0.1) -> float:
    """Each wants this share of a core, and waits when it has to. Returns what all took of a core."""
    took_s, free_s = 0.0, dict.fromkeys(group, 0.0)
    for step in range(int(seconds / step_s)):
        now_s = step * step_s
        for account in group:
            if free_s[account] <= now_s:
                free_s[account] = now_s + account.spend(share * step_s, now_s)
                took_s += share * step_s
    return took_s / seconds


def test_many_strangers_that_each_take_less_than_a_share_do_not_get_many_shares() -> None:
    all_of = accounts()
    group = [all_of.connected(f"10.6.0.{number}", 0.0) for number in range(20)]
    assert spent_each_second(group, 0.09, 60) < 2 * LIMITS.strangers_rate


def test_a_stranger_that_asks_a_few_times_does_not_wait_however_many_others_do() -> None:
    all_of = accounts()
    spent_each_second([all_of.connected(f"10.6.0.{number}", 0.0) for number in range(20)], 0.09, 60)
    light = all_of.connected("10.5.0.1", 60.0)
    assert [light.spend(0.000_7, 60.0) for _ in range(5)] == [0.0] * 5


def test_after_a_long_rush_of_many_members_a_heavy_one_waits_for_seconds_and_not_for_minutes() -> None:
    members = {f"10.0.1.{number}": f"node-{number}" for number in range(30)}
    all_of = Accounts(LIMITS, member_at=members.get, now_s=0.0)
    group = []
    for address, name in members.items():
        account = all_of.prove(all_of.connected(address, 0.0), name, address, 0.0)
        assert account is not None
        group.append(account)
    assert spent_each_second(group, 0.03, 600, 0.5) == pytest.approx(0.9), "light ones do not wait"
    assert 0 < group[0].spend(LIMITS.member_burst_s * 0.6, 600.0) <= 2
    assert isinstance(all_of.admit("10.0.1.0", ACCEPT_S, 600.0), Account)


def test_nobody_is_refused_for_what_others_owe_and_for_its_own_debt_not_for_long() -> None:
    all_of = accounts()
    for number in range(200):
        all_of.connected(f"10.6.0.{number}", 0.0).spend(5.0, 0.0)
    heavy = all_of.connected("10.5.0.1", 0.0)
    heavy.spend(0.011, 0.0)
    assert heavy.wait_s(0.0) <= 2
    assert isinstance(all_of.admit("10.5.0.1", 0.0, 0.0), Account)
    assert all_of.admit("10.6.0.1", 0.0, 0.0) is Excess.CPU
    assert isinstance(all_of.admit("10.6.0.1", 0.0, 1.5), Account)


def test_who_has_the_key_and_a_whole_ipv6_network_has_one_account() -> None:
    all_of = accounts()
    proven = {
        all_of.prove(all_of.connected(address, 0.0), "node-a", address, 0.0)
        for address in ("2001:db8::1", "2001:db8::2", "2001:db8::3")
    }
    assert len(proven) == 1


def test_members_do_not_wait_for_what_strangers_owe() -> None:
    all_of = accounts()
    proven = all_of.prove(all_of.connected(MEMBER, 0.0), "node-a", MEMBER, 0.0)
    assert proven is not None
    for number in range(100):
        all_of.connected(f"10.6.0.{number}", 0.0).spend(1.0, 0.0)
    assert proven.spend(LIMITS.member_burst_s, 0.0) == 0


def test_a_whole_machine_with_ipv6_is_one_stranger_and_a_member_with_ipv6_is_itself() -> None:
    all_of = Accounts(LIMITS, member_at={"2001:db8::7": "node-a"}.get, now_s=0.0)
    assert all_of.place("2001:db8::1") == all_of.place("2001:db8::ffff:1") == "2001:db8::/64"
    assert all_of.place("fe80::1%eth0") == "fe80::/64"
    assert all_of.place("2001:db8::7") == "2001:db8::7"
    assert all_of.connected("2001:db8::1", 0.0) is all_of.connected("2001:db8::2", 0.0)


def test_an_account_holds_so_many_unfinished_bytes_and_no_more() -> None:
    account = accounts().connected(MEMBER, 0.0)
    assert account.hold(LIMITS.unfinished_max_bytes)
    assert not account.hold(1)
    account.hold(-2)
    assert account.hold(1)


def test_if_all_hold_too_much_only_those_with_more_than_an_equal_share_are_cut() -> None:
    all_of = accounts()
    heavy = [all_of.connected(f"10.6.0.{number}", 0.0) for number in range(9)]
    light = all_of.connected(MEMBER, 0.0)
    kept = [account.hold(LIMITS.unfinished_max_bytes) for account in heavy]
    assert kept == [True] * 8 + [False]
    assert light.hold(35_000)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-200_000, 200_000)), max_size=60))
def test_the_bytes_of_all_are_the_sum_of_those_of_each(changes: list[tuple[int, int]]) -> None:
    all_of = accounts()
    each = [all_of.connected(f"10.6.0.{number}", 0.0) for number in range(6)]
    for place, change_bytes in changes:
        each[place].hold(max(change_bytes, -each[place].unfinished_bytes))
    assert all_of.unfinished_bytes == sum(account.unfinished_bytes for account in each)


def test_accounts_of_clients_that_left_are_forgotten() -> None:
    all_of = accounts()
    for number in range(20_000):
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        all_of.left(all_of.connected(address, number * 1.0))
    assert len(all_of) <= 4096


def test_an_address_that_becomes_a_members_has_the_members_share() -> None:
    members: dict[str, str] = {}
    all_of = Accounts(LIMITS, member_at=members.get, now_s=0.0)
    before = all_of.connected("10.0.0.9", 0.0)
    members["10.0.0.9"] = "node-b"
    after = all_of.connected("10.0.0.9", 0.0)
    assert (before.stranger, after.stranger) == (True, False)
    all_of.left(before)
    assert all_of.strangers == 0


@pytest.mark.parametrize("excess", list(Excess))
def test_each_excess_is_a_reason_that_is_counted(excess: Excess) -> None:
    from agent.observe.refusals import Reason

    assert Reason(excess.value).value == excess.value
