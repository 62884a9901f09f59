"""What the server is told when: changes soon, inventories at a rate that holds for the whole cluster."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.holders.valkey.announcements import BATCH_MAX, BITS_PER_S, Announcements, Batch
from agent.holders.valkey.layout import EPOCH_S
from agent.oci.digest import Digest


def digests(count: int, first: int = 0) -> list[Digest]:
    return [Digest(f"sha256:{number:064x}") for number in range(first, first + count)]


def announcements(*, seed: int = 0, members: int = 100, epoch: int | None = 7) -> Announcements:
    made = Announcements(chance=random.Random(seed).uniform, now_s=0.0)
    made.members(members)
    if epoch is not None:
        made.enter(epoch, 0.0)
    return made


def batches(node: Announcements, until_s: float, from_s: float = 0.0) -> Iterator[tuple[float, Batch]]:
    """What it tells a server that takes everything."""
    now_s = from_s
    while (due_s := node.due_s(now_s)) is not None and due_s <= until_s:
        now_s = max(now_s, due_s)
        batch = node.take(now_s)
        assert batch is not None
        yield now_s, batch
        node.told(batch)


def settle(node: Announcements, until_s: float = 10_000.0, from_s: float = 0.0) -> None:
    for _ in batches(node, until_s, from_s):
        pass


def test_a_change_is_told_within_a_second() -> None:
    for seed in range(30):
        node = announcements(seed=seed, members=5000)
        node.have(digests(3), 400.0)
        ((at_s, batch),) = batches(node, 500.0, 400.0)
        assert 400.0 < at_s < 401.0
        assert batch.added == tuple(digests(3))


def test_changes_of_one_moment_are_one_batch() -> None:
    node = announcements()
    node.have(digests(5), 0.0)
    node.have(digests(5, 5), 0.01)
    node.lack(digests(2), 0.02)
    ((_, batch),) = batches(node, 2.0)
    assert {*batch.added} == {*digests(10)} - {*digests(2)}
    assert {*batch.removed} == {*digests(2)}


def test_for_each_digest_the_last_call_counts() -> None:
    node = announcements()
    (one,) = digests(1)
    node.have([one], 0.0)
    node.lack([one], 0.0)
    node.have([one], 0.0)
    ((_, batch),) = batches(node, 2.0)
    assert (batch.added, batch.removed) == ((one,), ())


def test_a_withdrawal_that_crosses_its_announcement_is_told_after_it() -> None:
    node = announcements()
    (one,) = digests(1)
    node.have([one], 0.0)
    batch = node.take(1.0)
    assert batch is not None
    assert batch.added == (one,)
    node.lack([one], 1.0)  # while the server is being told
    node.told(batch)
    ((_, later),) = batches(node, 5.0, 1.0)
    assert later.removed == (one,)
    assert node.announced == 0


def test_what_was_withdrawn_while_the_server_was_away_is_told_when_it_is_back() -> None:
    node = announcements()
    (one,) = digests(1)
    node.have([one], 0.0)
    settle(node)
    node.lack([one], 400.0)
    for attempt in range(3):
        batch = node.take(402.0 + attempt)
        assert batch is not None
        assert batch.removed == (one,)
        node.failed(batch, 402.0 + attempt)
    ((_, later),) = batches(node, 500.0, 410.0)
    assert later.removed == (one,)
    assert node.pending == 0


def test_a_change_that_failed_is_tried_again_within_a_second_however_calm_the_inventory_is() -> None:
    node = announcements(members=5000)
    node.have(digests(1000), 0.0)
    settle(node)
    node.have(digests(1, 5000), 400.0)
    batch = node.take(401.0)
    assert batch is not None
    node.failed(batch, 401.0)
    at_s, again = next(batches(node, 500.0, 401.0))
    assert at_s < 402.0
    assert again.added == tuple(digests(1, 5000))


def test_nothing_is_told_until_the_epoch_is_known() -> None:
    node = announcements(epoch=None)
    node.have(digests(10), 0.0)
    assert node.due_s(100.0) is None
    assert node.take(100.0) is None
    node.enter(3, 100.0)
    settle(node, 1000.0, 100.0)
    assert node.announced == 10


def test_the_inventory_is_told_in_batches_that_keep_the_server_from_others_for_a_moment_only() -> None:
    node = announcements()
    node.have(digests(2000), 0.0)
    assert all(len(batch.added) <= BATCH_MAX for _, batch in batches(node, 1000.0))
    assert (node.announced, node.pending) == (2000, 0)


@pytest.mark.parametrize("members", [500, 5000])
def test_thousands_that_start_or_see_a_reset_together_tell_no_more_than_the_bound(members: int) -> None:
    simulated, blobs = 50, 1000
    per_second: Counter[int] = Counter()
    for seed in range(simulated):
        node = announcements(seed=seed, members=members)
        node.have(digests(blobs), 0.0)
        settle(node, 400.0)
        node.reset(500.0)
        for at_s, batch in batches(node, 1000.0, 500.0):
            per_second[int(at_s)] += len(batch.added)
    share_per_s = BITS_PER_S * simulated / members
    span_s = blobs * simulated / share_per_s
    half = sum(count for second, count in per_second.items() if second < 500 + span_s / 2)
    assert half <= 0.75 * blobs * simulated  # it does not begin with a crowd
    assert sum(per_second.values()) == blobs * simulated
    assert max(per_second) <= 500 + 1.2 * span_s + 3


def test_changes_of_thousands_that_just_started_are_bounded_too() -> None:
    node = announcements(members=5000)
    told = 0
    for number in range(2000):  # a store that finds its blobs one by one
        node.have(digests(1, number), number / 1000)
    for at_s, batch in batches(node, 20.0, 2.0):
        told += len(batch.added) if at_s < 20.0 else 0
    assert told <= 32 + 10 * 20 + 32


def test_a_thousand_changes_a_second_on_one_node_stay_bounded_and_are_all_told_in_the_end() -> None:
    node = announcements(members=5000)
    settle(node)
    now_s, told = 400.0, 0
    for second in range(20):
        node.have(digests(1000, 1000 * second), now_s)
        node.lack(digests(900, 1000 * second), now_s)
        told += sum(len(each.added) + len(each.removed) for _, each in batches(node, now_s + 1.0, now_s))
        now_s += 1.0
    assert told <= 22 * BATCH_MAX
    settle(node, now_s + 1e5, now_s)
    assert (node.pending, node.announced) == (0, 2000)


def test_each_epoch_is_told_anew_spread_over_it() -> None:
    node = announcements(members=5000)
    node.have(digests(2000), 0.0)
    settle(node, 1000.0)
    node.enter(8, 2000.0)
    told = [(at_s, batch) for at_s, batch in batches(node, 2000.0 + EPOCH_S, 2000.0)]
    assert sum(len(batch.added) for _, batch in told) == 2000
    assert all(batch.epoch == 8 for _, batch in told)
    assert told[-1][0] - told[0][0] > EPOCH_S / 2
    assert node.pending == 0


def test_fifty_thousand_digests_are_told_within_each_epoch() -> None:
    node = announcements(members=5000)
    node.have(digests(50_000), 0.0)
    settle(node, EPOCH_S)
    assert node.pending == 0
    node.enter(8, 5000.0)
    settle(node, 5000.0 + 0.95 * EPOCH_S, 5000.0)
    assert node.pending == 0


def test_what_came_just_before_an_epoch_began_is_told_as_soon_as_any_other_change() -> None:
    node = announcements(members=5000)
    node.have(digests(2000), 0.0)
    settle(node)
    (new,) = digests(1, 5000)
    node.have([new], 4000.0)
    node.enter(8, 4000.05)
    told = [at_s for at_s, batch in batches(node, 4003.0, 4000.0) if new in batch.added]
    assert len(told) == 1
    assert node.told_in(new) is not None


def test_what_came_in_this_epoch_is_not_told_again_in_it() -> None:
    node = announcements()
    node.have(digests(100), 0.0)
    settle(node)
    node.enter(8, 4000.0)
    node.have(digests(1, 500), 4000.0)
    added = Counter(digest for _, batch in batches(node, 9000.0, 4000.0) for digest in batch.added)
    assert {*added.values()} == {1}
    assert len(added) == 101


def test_after_a_reset_what_was_wanted_and_what_is_new_comes_first() -> None:
    node = announcements()
    node.have(digests(1000), 0.0)
    settle(node)
    node.wanted(digests(1000)[3])
    node.wanted(digests(1000)[5])
    node.reset(400.0)
    _, first = next(batches(node, 1000.0, 400.0))
    assert [*first.added[:3]] == [digests(1000)[5], digests(1000)[3], digests(1000)[999]]


def test_a_batch_that_was_under_way_at_a_reset_counts_as_not_told() -> None:
    node = announcements()
    node.have(digests(3), 0.0)
    batch = node.take(1.0)
    assert batch is not None
    node.reset(1.0)
    node.told(batch)
    assert node.announced == 0
    settle(node)
    assert node.announced == 3


@pytest.mark.parametrize("epoch", [3, 6, 9, 700])
def test_a_server_whose_clock_jumps_is_told_everything_again(epoch: int) -> None:
    node = announcements(epoch=7)
    node.have(digests(100), 0.0)
    settle(node)
    assert node.enter(epoch, 400.0)
    added = [digest for _, batch in batches(node, 1000.0, 400.0) for digest in batch.added]
    assert {*added} == {*digests(100)}


def test_the_sample_is_of_what_was_told_and_still_is_there() -> None:
    node = announcements()
    node.have(digests(100), 0.0)
    settle(node)
    node.lack(digests(98), 400.0)
    for _ in range(20):
        assert {*node.sample(8)} <= {*digests(2, 98)}
    assert announcements().sample(8) == ()


def test_what_the_server_lost_is_told_again() -> None:
    node = announcements(members=5000)
    node.have(digests(300), 0.0)
    settle(node)
    node.missing(digests(5), 400.0)
    assert node.announced == 295
    settle(node, 430.0, 400.0)
    assert node.announced == 300


def test_a_larger_inventory_warms_for_longer_and_never_for_ever() -> None:
    small, large, vast = (announcements(members=5000) for _ in range(3))
    small.have(digests(2000), 0.0)
    large.have(digests(4000), 0.0)
    vast.have(digests(50_000), 0.0)
    assert 15.0 <= small.warm_s < large.warm_s < vast.warm_s <= 900.0
    settle(large, 1000.0)
    large.reset(1000.0)
    last_s = max(at_s for at_s, _ in batches(large, 3000.0, 1000.0))
    assert last_s - 1000.0 <= large.warm_s


def test_a_node_that_has_nothing_yet_waits_for_the_others_inventories() -> None:
    full = announcements(members=5000)
    full.have(digests(2000), 0.0)
    told_s = max(at_s for at_s, _ in batches(full, 1000.0))
    assert announcements(members=5000).warm_s > told_s


@given(
    st.lists(st.tuples(st.sampled_from(["have", "lack", "fail", "take", "reset"]), st.integers(0, 5))),
)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_the_server_knows_in_the_end_what_this_node_has(
    happenings: list[tuple[str, int]],
) -> None:
    node = announcements(members=10)
    server, held, now_s = set[Digest](), set[Digest](), 0.0
    for what, number in happenings:
        now_s += 0.6
        (digest,) = digests(1, number)
        if what == "have":
            node.have([digest], now_s)
            held.add(digest)
        elif what == "lack":
            node.lack([digest], now_s)
            held.discard(digest)
        elif what == "reset":
            server.clear()
            node.reset(now_s)
        elif (batch := node.take(now_s)) is not None:
            if what == "take":
                server = (server | {*batch.added}) - {*batch.removed}
                node.told(batch)
            else:
                node.failed(batch, now_s)
    for _, batch in batches(node, now_s + 5000.0, now_s):
        server = (server | {*batch.added}) - {*batch.removed}
    assert server == held
    assert (node.announced, node.pending) == (len(held), 0)


@pytest.mark.parametrize("late", [0.2, 0.5, 0.7, 0.85, 0.95])
def test_whoever_enters_an_epoch_late_has_told_it_all_before_it_ends(late: float) -> None:
    """As after an hour without the server: what was told in the epoch before is soon read by nobody."""
    node = announcements(members=5000)
    node.have(digests(1000), 0.0)
    settle(node, 2000.0)
    at_s, left_s = 5000.0, (1.0 - late) * EPOCH_S
    node.enter(8, at_s, left_s=left_s)
    settle(node, at_s + max(left_s, 200.0), at_s)
    assert node.pending == 0


def test_thousands_that_enter_an_epoch_at_its_end_tell_no_more_than_the_bound() -> None:
    members, told = 1000, 0
    for seed in range(members):
        node = announcements(seed=seed, members=members)
        node.have(digests(500), 0.0)
        settle(node, 2000.0)
        node.enter(8, 7000.0, left_s=1.0)
        told += sum(len(batch.added) for _, batch in batches(node, 7002.0, 7000.0))
    assert told < 3 * BITS_PER_S


def test_where_some_is_gone_all_is_told_again_and_what_is_gone_first() -> None:
    node = announcements(members=5000)
    node.have(digests(600), 0.0)
    settle(node)
    node.missing(digests(1, 300), 400.0)
    told = [digest for _, batch in batches(node, 600.0, 400.0) for digest in batch.added]
    assert told[0] == digests(1, 300)[0]
    assert sorted(told) == digests(600)
    assert [*batches(node, 1000.0, 600.0)] == []


def test_a_server_that_loses_something_again_and_again_is_not_told_more_often_for_it() -> None:
    node = announcements(members=5000)
    node.have(digests(600), 0.0)
    settle(node)
    count = 0
    for at_s in range(400, 1400, 10):
        node.missing(digests(2, at_s % 500), at_s)
        count += sum(len(batch.added) for _, batch in batches(node, at_s + 10.0, at_s))
    assert count <= 1.25 * (1000 / 25 + 2) * BATCH_MAX


def test_a_thousand_changes_a_second_in_a_small_cluster_are_told_at_the_full_rate() -> None:
    node, now_s = announcements(members=3), 20.0
    node.have(digests(2000), 0.0)
    settle(node, now_s)
    for digest in digests(2000):
        node.lack([digest], now_s)
        now_s += 0.001
    settle(node, now_s + 2000 / 200, now_s)
    assert node.pending == 0
