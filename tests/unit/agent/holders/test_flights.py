"""Who is fetching what at the moment: short-lived and bounded."""

from agent.holders.flights import KEPT_S, Flights
from agent.holders.index import InFlight
from agent.holders.wire import Flying
from tests.unit.twins import node, sha256

LAYER = sha256("layer")
ONE, TWO = node("one"), node("two")


def flying(available_bytes: int) -> Flying:
    return Flying(available_bytes=available_bytes, size_bytes=200)


def test_the_newest_word_of_each_peer_counts_for_a_moment() -> None:
    flights = Flights()
    flights.heard(LAYER, ONE, flying(10), 5.0)
    flights.heard(LAYER, TWO, flying(20), 5.1)
    flights.heard(LAYER, ONE, flying(122), 5.2)
    one, two = (
        InFlight(node=name, available_bytes=size, size_bytes=200) for name, size in ((ONE, 122), (TWO, 20))
    )
    assert set(flights.of(LAYER, 5.2)) == {one, two}
    assert one.percent == 61
    assert flights.of(LAYER, 5.1 + KEPT_S) == (one,)
    assert flights.of(LAYER, 5.2 + KEPT_S) == ()
    assert set(flights.of(LAYER, 5.2 + KEPT_S, kept_s=1.0)) == {one, two}


def test_peer_that_has_all_of_it_is_not_in_flight() -> None:
    flights = Flights()
    flights.heard(LAYER, ONE, flying(10), 5.0)
    assert flights.of(LAYER, 5.0, complete={ONE}) == ()


def test_peer_that_gave_nothing_is_forgotten() -> None:
    flights = Flights()
    flights.heard(LAYER, ONE, flying(10), 5.0)
    flights.forget(LAYER, TWO)
    flights.forget(LAYER, ONE)
    flights.forget(LAYER, ONE)
    assert flights.of(LAYER, 5.0) == ()


def test_only_the_newest_contents_are_kept() -> None:
    flights = Flights()
    for number in range(4097):
        flights.heard(sha256(number), ONE, flying(1), 5.0)
    assert flights.of(sha256(0), 5.0) == ()
    assert flights.of(sha256(1), 5.0)


def test_content_of_no_bytes_has_no_per_cent_to_speak_of() -> None:
    assert InFlight(node=ONE, available_bytes=0, size_bytes=0).percent == 0
