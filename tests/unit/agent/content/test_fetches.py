"""What containerd is fetching: known by its questions, until a name reaches it, or for an hour."""

from agent.content.fetches import FETCH_S, Fetches
from agent.oci.reference import Repository
from agent.oci.registry import Registry

APP = (Registry("ghcr.io"), Repository("acme/app"))
OTHER = (Registry("ghcr.io"), Repository("acme/other"))


def test_content_is_known_under_all_names_that_it_was_asked_for() -> None:
    fetches = Fetches()
    fetches.add(4, APP, 0.0)
    fetches.add(4, OTHER, 1.0)
    fetches.add(8, None, 1.0)
    assert (fetches.places(4), fetches.places(8), fetches.places(12)) == ((APP, OTHER), (None,), ())


def test_nothing_is_assumed_any_longer_where_a_name_reaches_the_content() -> None:
    fetches = Fetches()
    fetches.add(4, APP, 0.0)
    fetches.add(4, OTHER, 0.0)
    fetches.named(4, APP)
    assert fetches.places(4) == (OTHER,)
    fetches.named(4, OTHER)
    assert 4 not in fetches
    fetches.named(4, APP)


def test_fetch_is_forgotten_after_an_hour_without_another_question() -> None:
    fetches = Fetches()
    fetches.add(4, APP, 0.0)
    fetches.add(8, APP, 1.0)
    fetches.add(4, APP, 100.0)
    assert not fetches.expire(FETCH_S)
    assert fetches.expire(FETCH_S + 1.0) == {8}
    assert (4 in fetches, 8 in fetches) == (True, False)


def test_number_of_fetches_is_bounded_and_the_oldest_go_first() -> None:
    fetches = Fetches()
    for key in range(10_000):
        fetches.add(key, APP, 0.0)
    assert len(fetches) < 10_000
    assert 0 not in fetches
    assert 9_999 in fetches
