"""What the server said lately, and for how long that is used."""

from agent.holders.valkey.cache import Answer, Answers
from tests.unit.twins import node, sha256

A, B = sha256("a"), sha256("b")
EVERYBODY = 0xFFFF


def answers() -> Answers:
    return Answers(positive_ttl_s=10.0, negative_ttl_s=1.0)


def put(
    some: Answers, bits: int = 0, flights: int = 0, now_s: float = 0.0, *, watched: bool = False
) -> Answer:
    return some.put(A, bits=bits, flights=flights, known=EVERYBODY, watched=watched, now_s=now_s)


def test_who_has_it_is_kept_for_longer_than_that_nobody_has() -> None:
    some = answers()
    put(some, 0b1)
    assert some.fresh(A, 9.9) is not None
    assert some.fresh(A, 10.1) is None
    put(some, 0)
    assert some.fresh(A, 0.9) is not None
    assert some.fresh(A, 1.1) is None
    assert some.fresh(B, 0.0) is None


def test_bits_of_nodes_that_are_no_members_make_no_holder() -> None:
    some = answers()
    some.put(A, bits=1 << 77, flights=0, known=EVERYBODY, watched=False, now_s=0.0)
    assert some.fresh(A, 1.1) is None


def test_a_watched_answer_is_kept_until_the_server_says_that_it_changed() -> None:
    some = answers()
    put(some, 0b1, watched=True)
    assert some.fresh(A, 200.0) is not None
    some.changed(A)
    assert some.fresh(A, 200.0) is None


def test_a_watched_answer_that_names_holders_is_used_as_long_as_any_although_it_changed() -> None:
    some = answers()
    put(some, 0b1, watched=True)
    some.changed(A)
    assert some.fresh(A, 9.0) is not None
    assert some.fresh(A, 10.1) is None


def test_a_watched_answer_that_names_nobody_is_dropped_when_it_changes() -> None:
    some = answers()
    put(some, 0, watched=True)
    assert some.fresh(A, 5.0) is not None
    some.all_changed()
    assert some.fresh(A, 0.0) is None


def test_a_watched_answer_ends_although_no_change_is_told() -> None:
    some = answers()
    put(some, 0, watched=True)
    assert some.fresh(A, 11.0) is None
    put(some, 1, watched=True)
    assert some.fresh(A, 301.0) is None


def test_what_was_looked_up_before_is_hot() -> None:
    some = answers()
    assert not some.is_hot(A, 0.0)
    put(some, 1)
    assert some.is_hot(A, 20.0)
    assert not some.is_hot(A, 1000.0)


def test_who_is_forgotten_is_left_out_of_the_next_answer_and_not_for_ever() -> None:
    some = answers()
    put(some, 0b11)
    some.forget(A, node("one"), 1, 0.0)
    fresh = some.fresh(A, 1.0)
    assert fresh is not None
    assert fresh.bits == 0b01
    assert put(some, 0b11, now_s=1.0).bits == 0b01
    assert put(some, 0b11, now_s=10.0).bits == 0b11


def test_who_has_all_of_it_is_not_in_flight() -> None:
    assert put(answers(), bits=0b01, flights=0b11).flights == 0b10


def test_the_cache_is_bounded() -> None:
    some = answers()
    for number in range(10_000):
        some.put(sha256(number), bits=1, flights=0, known=1, watched=False, now_s=0.0)
        some.forget(sha256(number), node("one"), 0, 0.0)
    assert some.fresh(sha256(0), 0.0) is None
    assert some.fresh(sha256(9999), 0.0) is not None
    assert len(some._answers) <= 4096
    assert len(some._forgotten) <= 1024
