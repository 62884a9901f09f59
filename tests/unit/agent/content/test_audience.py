"""Audiences: under which names a content is given, by what all names say that reference it."""

from agent.content.audience import EVERYBODY, NOBODY, Audience, Link, Place, private
from agent.oci.reference import Repository
from agent.oci.registry import Registry

APP: Place = (Registry("ghcr.io"), Repository("acme/app"))
OTHER: Place = (Registry("ghcr.io"), Repository("evil/app"))
ELSEWHERE: Place = (Registry("quay.io"), Repository("acme/app"))
PRIVATE = private(APP, included=True)


def test_open_content_is_given_under_every_name_and_what_nobody_names_under_none() -> None:
    assert EVERYBODY.is_for(None)
    assert EVERYBODY.is_for(APP)
    assert not NOBODY.is_for(None)
    assert not NOBODY.is_for(APP)


def test_private_manifest_is_given_under_the_names_of_its_repository_alone() -> None:
    assert PRIVATE.is_for(APP)
    assert [PRIVATE.is_for(place) for place in (None, OTHER, ELSEWHERE)] == [False] * 3


def test_private_manifest_stays_private_if_an_open_name_references_it_too() -> None:
    assert not (PRIVATE | EVERYBODY).is_for(None)
    assert (PRIVATE | EVERYBODY).is_for(APP)


def test_manifest_of_two_private_repositories_is_given_under_both() -> None:
    both = PRIVATE | private(ELSEWHERE, included=True)
    assert [both.is_for(place) for place in (APP, ELSEWHERE, OTHER)] == [True, True, False]


def test_private_layer_is_given_under_all_private_names_of_its_registry() -> None:
    for link in (Link.LAYER, Link.FETCHED_LAYER):
        layer = PRIVATE.below(link)
        assert [layer.is_for(place) for place in (APP, OTHER, ELSEWHERE, None)] == [True, True, False, False]


def test_layer_that_was_fetched_for_an_open_image_is_shared_with_everybody() -> None:
    layer = PRIVATE.below(Link.LAYER) | EVERYBODY.below(Link.FETCHED_LAYER)
    assert layer.is_for(None)


def test_open_image_that_lists_a_layer_which_was_there_already_opens_nothing() -> None:
    assert not (PRIVATE.below(Link.LAYER) | EVERYBODY.below(Link.LAYER)).is_for(None)
    assert EVERYBODY.below(Link.LAYER).is_for(None)


def test_config_is_as_private_as_its_manifest() -> None:
    assert PRIVATE.below(Link.WHOLE) == PRIVATE


def test_what_only_excluded_names_reference_is_given_under_none() -> None:
    excluded = private(APP, included=False)
    assert not excluded.is_for(APP)
    assert (excluded | private(OTHER, included=True)).is_for(OTHER)
    assert not (excluded | EVERYBODY).is_for(None)


def test_union_says_what_both_say() -> None:
    assert NOBODY | PRIVATE == PRIVATE
    assert Audience(included=True) == EVERYBODY | NOBODY


def test_audience_says_in_words_under_which_names_it_is_given() -> None:
    assert EVERYBODY.in_words == "under every name"
    assert NOBODY.in_words.startswith("under no name")
    assert PRIVATE.in_words == "under the names of ghcr.io/acme/app alone, as the registry decides"
    assert PRIVATE.below(Link.LAYER).in_words.startswith("under the private names of ghcr.io")
