"""The names in a store: the same name twice is one, and the image that was written last counts."""

from types import SimpleNamespace
from typing import cast

import pytest

from agent.content.store import ContentStore, Names, TagChange, TaggedImage, unreadable_in_words
from agent.oci.origin import Origin
from agent.oci.reference import Addressed, Kind, Repository
from agent.oci.registry import Registry
from tests.unit.twins import descriptor, named


def image(content: str, seen_s: float) -> TaggedImage:
    return TaggedImage(name=named(), descriptor=descriptor(content), seen_s=seen_s, origin=Origin.REGISTRY)


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_records_of_one_name_the_newer_one_counts(order: int) -> None:
    names = Names()
    names.replace([image("old", 1.0), image("new", 2.0)][::order])
    for found in (names.find(named().repository, named().tag, None), names.of(named().repository)):
        assert [each.descriptor for each in found] == [descriptor("new")]


def test_name_that_is_read_again_as_it_was_keeps_the_time_at_which_it_was_noticed() -> None:
    names = Names()
    names.replace([image("same", 1.0)])
    (first,) = names.of(named().repository)
    names.replace([image("same", 1.0)])
    assert names.of(named().repository)[0].noticed_s == first.noticed_s
    names.replace([image("same", 2.0)])
    assert names.of(named().repository)[0].noticed_s > first.noticed_s


def test_names_are_told_as_the_first_ones_again_after_the_store_could_not_be_read() -> None:
    names, told = Names(), list[TagChange]()
    names.on_tag(told.append)
    names.replace([image("old", 1.0)])
    names.replace([image("new", 2.0)])
    names.forget()
    names.replace([image("newer", 3.0)])
    assert [change.first for change in told] == [True, False, True]
    assert [change.before is None for change in told] == [True, False, True]


def test_listener_finds_the_name_that_it_is_told_of() -> None:
    names, found = Names(), list[int]()
    names.on_tag(lambda change: found.append(len(names.of(change.image.name.repository))))
    names.replace([image("new", 1.0)])
    assert found == [1]


def test_digest_has_the_repositories_of_its_tags_and_of_its_names_by_digest() -> None:
    names, tagged = Names(), image("one", 1.0)
    by_digest = Addressed(
        registry=Registry("ghcr.io"),
        repository=Repository("acme/app"),
        kind=Kind.MANIFEST,
        digest=tagged.descriptor.digest,
    )
    names.replace([tagged], [by_digest])
    expected = {(named().registry, named().repository), ("ghcr.io", "acme/app")}
    assert names.named[tagged.descriptor.digest] == expected
    names.replace([])
    assert names.named == {}


def test_reading_the_names_is_told_and_losing_them_is_not() -> None:
    names, told = Names(), list[int]()
    names.on_names(lambda: told.append(len(names.named)))
    names.replace([image("one", 1.0)])
    names.forget()
    names.replace([])
    assert told == [1, 0]


def test_words_about_unreadable_blobs_stay_the_same_whichever_is_tried_next() -> None:
    def words(*digests: str) -> str | None:
        unreadable = dict.fromkeys(digests, "permission denied")
        return unreadable_in_words(cast(ContentStore, SimpleNamespace(unreadable=unreadable)))

    said = "blobs that can't be read: 2, among them sha256:a (permission denied)"
    assert words("sha256:a", "sha256:b") == words("sha256:b", "sha256:a") == said
    assert words() is None
