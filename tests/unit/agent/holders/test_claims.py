"""The book of an arbiter: who fetches from the registry, who waits, and who is told what when."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.holders.claims import (
    DONE_S,
    KEYS_MAX,
    LEASE_S,
    OF_NODE_MAX,
    STALL_FACTOR,
    TENTATIVE_S,
    Ask,
    ClaimBook,
    ClaimKey,
    Completed,
    Free,
    GivenUp,
    Granted,
    Held,
    Renewed,
    Told,
    Verdict,
    arbiters,
    realm_of,
)
from agent.oci.digest import Digest
from topology.placement import NodeName

A, B, C, D = (NodeName(name) for name in "abcd")
KEY = ClaimKey(Digest("sha256:" + "1" * 64))
OTHER = ClaimKey(Digest("sha256:" + "2" * 64))
START_S = 5.0
MIB = 1 << 20


class Arbiter:
    """A book, with numbers for the questions, and a clock. ``told``: every verdict by its number."""

    def __init__(self) -> None:
        self.book = ClaimBook(start_s=START_S)
        self.now_s = 0.0
        self.told: dict[int, Verdict] = {}
        self.asked: dict[int, tuple[NodeName, ClaimKey]] = {}
        self.left: set[int] = set()
        self._tickets = itertools.count(1)

    def ask(
        self,
        node: NodeName,
        key: ClaimKey = KEY,
        *,
        beyond_bytes: int = 0,
        takes: bool = True,
        despite: NodeName | None = None,
        hearsay: NodeName | None = None,
    ) -> int:
        ticket = next(self._tickets)
        self.asked[ticket] = node, key
        ask = Ask(
            key=key, node=node, beyond_bytes=beyond_bytes, takes=takes, despite=despite, hearsay=hearsay
        )
        self.tell(self.book.ask(ask, ticket, self.now_s))
        return ticket

    def verdict(self, ticket: int) -> Verdict | None:
        return self.told.get(ticket)

    def renew(self, node: NodeName, available_bytes: int = 0, key: ClaimKey = KEY) -> bool:
        kept, told = self.book.renewed(key, node, available_bytes, self.now_s)
        self.tell(told)
        return kept

    def complete(self, node: NodeName, key: ClaimKey = KEY) -> None:
        self.tell(self.book.completed(key, node, self.now_s))

    def gone(self, node: NodeName) -> None:
        self.book.gone(node, self.now_s)

    def leave(self, ticket: int) -> None:
        self.book.left(ticket)
        self.left.add(ticket)

    def give_up(self, node: NodeName, *, failed: bool = True) -> None:
        self.tell(self.book.given_up(KEY, node, self.now_s, failed=failed))

    def pass_time(self, seconds: float) -> None:
        """Time passes, and the book is asked as often as it wants to be."""
        until_s = self.now_s + seconds
        while (next_s := self.book.next_s) is not None and next_s <= until_s:
            self.now_s = max(self.now_s, next_s)
            self.tell(self.book.expire(self.now_s))
        self.now_s = until_s

    def tell(self, told: tuple[Told, ...]) -> None:
        for each in told:
            assert each.ticket not in self.told, "a question is answered once"
            self.told[each.ticket] = each.verdict


def held(by: NodeName, available_bytes: int = MIB, *, complete: bool = False) -> Held:
    return Held((by,), available_bytes, complete)


def test_first_to_ask_gets_the_claim_and_the_others_wait() -> None:
    arbiter = Arbiter()
    first, second = arbiter.ask(A), arbiter.ask(B)
    assert arbiter.verdict(first) == Granted()
    assert arbiter.verdict(second) is None
    assert arbiter.book.holder(KEY) == A
    assert arbiter.book.asked(KEY) == (A, B)
    assert arbiter.book.waiting == 1


def test_who_waits_is_told_as_soon_as_the_first_bytes_are_there() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second = arbiter.ask(B)
    assert arbiter.renew(A, 0)
    assert arbiter.verdict(second) is None
    assert arbiter.renew(A, MIB)
    assert arbiter.verdict(second) == held(A)
    assert arbiter.verdict(arbiter.ask(C)) == held(A), "who asks later does not wait at all"


def test_who_has_a_part_waits_until_the_claimer_has_more() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    arbiter.renew(A, MIB)
    second = arbiter.ask(B, beyond_bytes=2 * MIB)
    arbiter.renew(A, 2 * MIB)
    assert arbiter.verdict(second) is None
    arbiter.renew(A, 3 * MIB)
    assert arbiter.verdict(second) == held(A, 3 * MIB)


def test_different_contents_are_claimed_by_different_nodes() -> None:
    arbiter = Arbiter()
    assert arbiter.verdict(arbiter.ask(A)) == Granted()
    assert arbiter.verdict(arbiter.ask(B, OTHER)) == Granted()


def test_who_asks_under_a_name_of_its_own_neither_waits_for_others_nor_learns_of_them() -> None:
    arbiter = Arbiter()
    private = ClaimKey(KEY.digest, realm_of("ghcr.io", "acme/app"))
    arbiter.ask(A)
    arbiter.renew(A, MIB)
    assert arbiter.verdict(arbiter.ask(B, private)) == Granted()
    assert "acme" not in private.realm


def test_claimer_that_asks_again_has_the_claim_still() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    assert arbiter.verdict(arbiter.ask(A)) == Granted()


def test_claim_that_is_not_renewed_goes_to_the_next_in_the_order_of_arrival() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second, third = arbiter.ask(B), arbiter.ask(C)
    arbiter.pass_time(LEASE_S)
    assert (arbiter.verdict(second), arbiter.verdict(third)) == (Granted(), None)
    assert not arbiter.renew(A), "it had its turn"
    arbiter.renew(B, MIB)
    assert arbiter.verdict(third) == held(B)


def test_claimer_that_does_not_start_loses_the_claim_though_it_renews_it() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second = arbiter.ask(B)
    for _ in range(4):
        arbiter.pass_time(1.0)
        assert arbiter.renew(A, 0)
    arbiter.pass_time(0.9)
    assert arbiter.verdict(second) is None
    arbiter.pass_time(0.1)
    assert arbiter.verdict(second) == Granted()


def test_claimer_whose_containerd_is_busy_with_others_may_start_later_but_not_much_later() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second = arbiter.ask(B)
    lost_s = 0
    while arbiter.verdict(second) is None:
        assert lost_s < 100
        arbiter.tell(arbiter.book.renewed(KEY, A, 0, arbiter.now_s, queued=True)[1])
        assert arbiter.book.is_queued(KEY, arbiter.now_s) or lost_s >= 40
        arbiter.pass_time(1.0)
        lost_s += 1
    assert 40 <= lost_s <= 46, "others wait for 60 s: one of them begins before all do"
    assert not arbiter.book.is_queued(KEY, arbiter.now_s)
    assert not arbiter.book.is_queued(OTHER, arbiter.now_s)


def test_claimer_that_started_may_pause_longer_but_not_for_ever() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second = arbiter.ask(B, beyond_bytes=MIB)
    arbiter.renew(A, 1)
    for _ in range(int(STALL_FACTOR * START_S) - 1):
        arbiter.pass_time(1.0)
        assert arbiter.renew(A, 1)
    assert arbiter.verdict(second) is None
    arbiter.pass_time(1.0)
    assert arbiter.verdict(second) == Granted()


def test_claimer_that_the_registry_refuses_loses_the_claim_at_once() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second = arbiter.ask(B)
    arbiter.give_up(A)
    assert arbiter.verdict(second) == Granted()


def test_who_lost_a_claim_comes_last_while_others_wait() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second = arbiter.ask(B)
    arbiter.give_up(A)
    assert arbiter.verdict(second) == Granted()
    again, third = arbiter.ask(A), arbiter.ask(C)
    arbiter.give_up(B)
    assert (arbiter.verdict(third), arbiter.verdict(again)) == (Granted(), None)
    arbiter.give_up(C)
    assert arbiter.verdict(again) == Granted(), "nobody else waits"


def test_client_that_left_costs_its_node_no_turn() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second = arbiter.ask(B)
    arbiter.give_up(A, failed=False)
    again = arbiter.ask(A)
    third = arbiter.ask(C)
    arbiter.give_up(B)
    assert arbiter.verdict(second) == Granted()
    assert (arbiter.verdict(again), arbiter.verdict(third)) == (Granted(), None)


def test_whoever_has_most_of_it_goes_on_when_a_claimer_dies_in_the_middle() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    arbiter.renew(A, 3 * MIB)
    behind = arbiter.ask(B, beyond_bytes=MIB, despite=A)
    ahead = arbiter.ask(C, beyond_bytes=3 * MIB)
    arbiter.gone(A)
    arbiter.pass_time(TENTATIVE_S)
    assert (arbiter.verdict(ahead), arbiter.verdict(behind)) == (Granted(), None)
    arbiter.renew(C, 3 * MIB)
    assert arbiter.verdict(behind) == held(C, 3 * MIB)


def test_node_that_vanishes_and_comes_back_at_once_keeps_its_claim() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second = arbiter.ask(B)
    arbiter.gone(A)
    arbiter.pass_time(1.0)
    assert arbiter.renew(A)
    arbiter.pass_time(1.0)
    assert arbiter.verdict(second) is None


def test_who_comes_late_is_told_who_has_fetched_it() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second = arbiter.ask(B)
    arbiter.complete(A)
    assert arbiter.verdict(second) == held(A, 0, complete=True)
    arbiter.pass_time(DONE_S - 1)
    assert arbiter.verdict(arbiter.ask(C)) == held(A, 0, complete=True)
    arbiter.pass_time(1.0)
    assert len(arbiter.book) == 0


def test_content_that_its_claimer_has_no_more_is_claimed_anew() -> None:
    """Where layers are discarded once they are unpacked, say."""
    arbiter = Arbiter()
    arbiter.ask(A)
    arbiter.complete(A)
    assert arbiter.verdict(arbiter.ask(B, despite=A)) == Granted()
    arbiter.complete(B)
    assert arbiter.verdict(arbiter.ask(B)) == Granted()


def test_claimer_that_says_it_has_bytes_and_sends_none_loses_the_claim_to_who_complains() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    arbiter.renew(A, MIB)
    second = arbiter.ask(B, despite=A)
    for step in range(2, 6):
        arbiter.pass_time(1.0)
        arbiter.renew(A, step * MIB)
    assert arbiter.verdict(second) is None
    arbiter.pass_time(1.0)
    assert arbiter.verdict(second) == Granted()


def test_complaint_counts_from_the_first_time_though_its_node_asks_again_and_again() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    arbiter.renew(A, MIB)
    for step in range(2, 7):
        ticket = arbiter.ask(B, despite=A)
        arbiter.pass_time(1.0)
        arbiter.renew(A, step * MIB)
        if step < 6:
            arbiter.leave(ticket)
    assert arbiter.verdict(ticket) == Granted()


def test_whoever_can_not_take_a_claim_follows_and_never_gets_one() -> None:
    arbiter = Arbiter()
    assert arbiter.verdict(arbiter.ask(A, takes=False)) == Free()
    arbiter.ask(B)
    waits, complains = arbiter.ask(A, takes=False), arbiter.ask(C, takes=False, despite=B)
    arbiter.pass_time(1.0)
    arbiter.renew(B, MIB)
    assert arbiter.verdict(waits) == held(B)
    arbiter.give_up(B)
    assert arbiter.verdict(complains) == Free()


def test_who_stops_waiting_is_neither_told_nor_chosen() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second, third = arbiter.ask(B), arbiter.ask(C)
    arbiter.leave(second)
    arbiter.leave(second)
    arbiter.give_up(A)
    assert (arbiter.verdict(second), arbiter.verdict(third)) == (None, Granted())


def test_all_questions_of_the_next_node_are_answered_at_once() -> None:
    """A client that fetches a layer in chunks asks for several parts of it at the same time."""
    arbiter = Arbiter()
    arbiter.ask(A)
    chunks = [arbiter.ask(B, beyond_bytes=number * MIB) for number in range(3)]
    arbiter.give_up(A)
    assert [arbiter.verdict(chunk) for chunk in chunks] == [Granted()] * 3
    assert arbiter.book.waiting == 0


def test_new_arbiter_takes_the_claim_of_who_renews_it() -> None:
    arbiter = Arbiter()
    assert arbiter.renew(A, MIB)
    assert arbiter.verdict(arbiter.ask(B)) == held(A)
    arbiter.complete(C, OTHER)
    assert arbiter.verdict(arbiter.ask(B, OTHER)) == held(C, 0, complete=True)


def test_new_arbiter_waits_a_moment_for_a_claimer_that_it_knows_from_hearsay() -> None:
    arbiter = Arbiter()
    second = arbiter.ask(B, hearsay=A)
    assert arbiter.verdict(second) is None
    arbiter.pass_time(1.0)
    assert arbiter.renew(A, MIB)
    assert arbiter.verdict(second) == held(A)


def test_hearsay_of_a_claimer_that_is_dead_costs_a_moment() -> None:
    arbiter = Arbiter()
    second = arbiter.ask(B, hearsay=A)
    arbiter.pass_time(TENTATIVE_S)
    assert arbiter.verdict(second) == Granted()
    assert arbiter.verdict(arbiter.ask(C, OTHER, hearsay=C)) == Granted()


def test_who_never_had_the_claim_can_not_end_it() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    second = arbiter.ask(B)
    arbiter.complete(D)
    arbiter.give_up(D)
    assert not arbiter.renew(D, MIB)
    assert arbiter.verdict(second) is None
    assert arbiter.book.holder(KEY) == A


def test_who_had_the_claim_and_is_done_first_is_a_source_all_the_same() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    arbiter.ask(B)
    third = arbiter.ask(C)
    arbiter.pass_time(LEASE_S)
    assert arbiter.book.holder(KEY) == B
    arbiter.complete(A)
    assert arbiter.verdict(third) == held(A, 0, complete=True)


def test_who_was_late_and_has_bytes_first_gets_its_turn_back() -> None:
    """A registry that takes longer than ``claim_start_s`` is asked by two nodes then, not by all in turn."""
    arbiter = Arbiter()
    arbiter.ask(A)
    second, third = arbiter.ask(B), arbiter.ask(C)
    for _ in range(5):
        arbiter.pass_time(1.0)
        arbiter.renew(A)
    assert arbiter.verdict(second) == Granted()
    assert arbiter.renew(A, MIB)
    assert arbiter.verdict(third) == held(A)
    assert not arbiter.renew(B, MIB), "it goes on by itself"


def test_who_was_complained_of_does_not_get_its_turn_back() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    arbiter.renew(A, MIB)
    second = arbiter.ask(B, despite=A)
    for _ in range(5):
        arbiter.pass_time(1.0)
        arbiter.renew(A, MIB)
    assert arbiter.verdict(second) == Granted()
    assert not arbiter.renew(A, 2 * MIB)
    assert arbiter.book.holder(KEY) == B


def test_news_mean_what_they_say() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    assert arbiter.book.hear(Renewed(KEY, MIB), A, 0.0) == (True, ())
    assert arbiter.book.hear(Renewed(KEY, MIB), B, 0.0) == (False, ())
    waits = arbiter.ask(B, beyond_bytes=MIB)
    assert arbiter.book.hear(GivenUp(KEY, failed=True), A, 0.0) == (False, (Told(waits, Granted()),))
    waits = arbiter.ask(A)
    assert arbiter.book.hear(Completed(KEY), B, 0.0) == (True, (Told(waits, held(B, 0, complete=True)),))


def test_one_node_waits_for_so_many_contents_and_the_oldest_question_gives_way() -> None:
    arbiter = Arbiter()
    keys = [ClaimKey(Digest(f"sha256:{number:064x}")) for number in range(OF_NODE_MAX + 1)]
    for key in keys:
        arbiter.ask(A, key)
    tickets = [arbiter.ask(B, key) for key in keys]
    assert arbiter.verdict(tickets[0]) == Free()
    assert arbiter.book.waiting == OF_NODE_MAX


def test_arbiter_that_knows_of_too_many_contents_forgets_the_oldest() -> None:
    arbiter = Arbiter()
    arbiter.ask(A)
    waits = arbiter.ask(B)
    for number in range(KEYS_MAX):
        arbiter.ask(A, ClaimKey(Digest(f"sha256:{number:064x}")))
    assert arbiter.verdict(waits) == Free()
    assert len(arbiter.book) == KEYS_MAX


def test_all_nodes_agree_on_the_arbiter_and_on_who_follows_if_it_is_gone() -> None:
    nodes = [NodeName(f"n{number}") for number in range(40)]
    first, second, third = arbiters(KEY, nodes)
    assert arbiters(KEY, reversed(nodes)) == (first, second, third)
    assert arbiters(KEY, [node for node in nodes if node != first])[:2] == (second, third)


def test_digests_have_different_arbiters() -> None:
    nodes = [NodeName(f"n{number}") for number in range(8)]
    keys = [ClaimKey(Digest(f"sha256:{number:064x}")) for number in range(800)]
    spread = Counter(arbiters(key, nodes)[0] for key in keys)
    assert min(spread.values()) > 50
    assert arbiters(ClaimKey(KEY.digest, "a"), nodes) != arbiters(ClaimKey(KEY.digest, "b"), nodes)


NODES = (A, B, C, D)
KEYS = (KEY, OTHER)
node, key = st.sampled_from(NODES), st.sampled_from(KEYS)
some_bytes = st.sampled_from((0, 1, MIB, 5 * MIB))


def step(
    name: str, **arguments: st.SearchStrategy[object]
) -> st.SearchStrategy[tuple[str, dict[str, object]]]:
    """A call of a method of `Arbiter`."""
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


STEP = st.one_of(
    step("ask", node=node, key=key),
    step(
        "ask",
        node=node,
        key=key,
        beyond_bytes=some_bytes,
        takes=st.booleans(),
        despite=st.none() | node,
        hearsay=st.none() | node,
    ),
    step("renew", node=node, available_bytes=some_bytes, key=key),
    step("complete", node=node, key=key),
    step("give_up", node=node, failed=st.booleans()),
    step("gone", node=node),
    step("leave", ticket=st.integers(1, 30)),
    step("pass_time", seconds=st.sampled_from((0.01, 0.5, 1.0, 1.6, 3.1, 5.1, 31.0))),
)


@given(steps=st.lists(STEP, max_size=60))
def test_under_any_schedule_one_claim_lives_and_time_alone_answers_everybody(
    steps: list[tuple[str, dict[str, object]]],
) -> None:
    arbiter = Arbiter()
    book = arbiter.book
    for name, arguments in steps:
        told_before, holders_before = {*arbiter.told}, {each: book.holder(each) for each in KEYS}
        getattr(arbiter, name)(**arguments)
        if name == "pass_time":
            continue  # a claim may have changed hands several times
        for each in KEYS:
            granted = {
                arbiter.asked[ticket][0]
                for ticket in arbiter.told.keys() - told_before
                if arbiter.asked[ticket][1] == each and arbiter.told[ticket] == Granted()
            }
            assert granted <= {book.holder(each)}, "who was granted the claim is the one that has it"
            if name in ("ask", "leave") and arguments.get("despite") is None:
                before = holders_before[each]
                assert before is None or before == book.holder(each) or arguments.get("node") == before
    # From now on nobody says anything: each claim ends with its lease, and each waiter has its turn.
    arbiter.pass_time((book.waiting + 1) * LEASE_S + DONE_S)
    assert book.waiting == 0
    assert arbiter.asked.keys() - arbiter.left <= arbiter.told.keys()
    arbiter.pass_time(DONE_S)
    assert len(book) == 0, "nothing is kept of what nobody renews"
    assert book.next_s is None


@pytest.mark.parametrize("waiters", [1, 7, 40])
def test_each_death_costs_one_more_claimer_and_no_more(waiters: int) -> None:
    arbiter = Arbiter()
    tickets = [arbiter.ask(NodeName(f"n{number}")) for number in range(waiters + 1)]
    for deaths in range(waiters):
        assert sum(arbiter.verdict(ticket) == Granted() for ticket in tickets) == deaths + 1
        arbiter.pass_time(LEASE_S)
    last = arbiter.book.holder(KEY)
    assert last is not None
    assert arbiter.renew(last, MIB)
    assert sum(arbiter.verdict(ticket) == Granted() for ticket in tickets) == waiters + 1
