"""The ages of tags: what the mirror itself answered never looks fresher than it was when it was answered."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.content.store import TaggedImage
from agent.content.tags import TagAges
from tests.unit.twins import descriptor, named, sha256

NAME = named()
OLD_S, ANSWERED_S, WRITTEN_S, DECLINED_S, REWRITTEN_S = 100.0, 500.0, 501.0, 600.0, 601.0


def image(seen_s: float, content: str = "v1") -> TaggedImage:
    return TaggedImage(name=NAME, descriptor=descriptor(content), seen_s=seen_s)


def answered(path: Path | None = None) -> TagAges:
    """The mirror answered the tag with a digest seen at OLD_S; containerd writes it at WRITTEN_S."""
    ages = TagAges(path)
    ages.resolved(NAME, sha256("v1"), OLD_S)
    return ages


def test_tag_that_was_never_mirrored_is_as_old_as_the_store_says() -> None:
    assert TagAges().seen_s(image(WRITTEN_S)) == WRITTEN_S


def test_mirrored_tag_inherits_its_age_and_is_not_made_fresh_by_being_written() -> None:
    ages = answered()
    assert ages.seen_s(image(WRITTEN_S)) == OLD_S
    assert ages.seen_s(image(REWRITTEN_S)) == OLD_S


def test_age_is_inherited_along_a_chain_of_nodes() -> None:
    seen_s = OLD_S
    for hop in range(5):
        ages = TagAges()
        ages.resolved(NAME, sha256("v1"), seen_s)
        seen_s = ages.seen_s(image(ANSWERED_S + hop))
    assert seen_s == OLD_S


def test_tag_that_moved_to_another_digest_is_as_old_as_the_store_says() -> None:
    assert answered().seen_s(image(WRITTEN_S, "v2")) == WRITTEN_S


def test_store_that_saw_it_earlier_than_the_answer_claims_is_believed() -> None:
    assert answered().seen_s(image(OLD_S - 50)) == OLD_S - 50


def test_declined_and_then_written_anew_is_fresh() -> None:
    ages = answered()
    ages.declined(NAME, DECLINED_S)
    assert ages.seen_s(image(REWRITTEN_S)) == REWRITTEN_S


@pytest.mark.parametrize("written_s", [WRITTEN_S, DECLINED_S])
def test_declined_but_not_written_since_is_still_old(written_s: float) -> None:
    ages = answered()
    ages.declined(NAME, DECLINED_S)
    assert ages.seen_s(image(written_s)) == OLD_S


def test_answered_again_after_the_registry_was_asked_starts_from_that_age() -> None:
    ages = answered()
    ages.declined(NAME, DECLINED_S)
    ages.resolved(NAME, sha256("v1"), ages.seen_s(image(REWRITTEN_S)))
    assert ages.seen_s(image(REWRITTEN_S + 100)) == REWRITTEN_S


def test_declining_a_tag_that_was_never_answered_changes_nothing(tmp_path: Path) -> None:
    ages = TagAges(tmp_path / "ages.json")
    ages.declined(NAME, DECLINED_S)
    assert ages.seen_s(image(OLD_S)) == OLD_S
    assert not (tmp_path / "ages.json").exists()


def test_first_decline_counts_as_the_registry_may_have_answered_that_one() -> None:
    ages = answered()
    ages.declined(NAME, DECLINED_S)
    ages.declined(NAME, DECLINED_S + 1000)
    assert ages.seen_s(image(REWRITTEN_S)) == REWRITTEN_S


@pytest.mark.parametrize("declined", [False, True])
def test_ages_survive_a_restart(tmp_path: Path, declined: bool) -> None:
    path = tmp_path / "state" / "ages.json"
    before = answered(path)
    if declined:
        before.declined(NAME, DECLINED_S)
    after = TagAges(path)
    for written_s in (OLD_S - 1, WRITTEN_S, REWRITTEN_S):
        assert after.seen_s(image(written_s)) == before.seen_s(image(written_s))
    assert [entry.name for entry in path.parent.iterdir()] == ["ages.json"]


def test_oldest_entries_go_when_there_are_too_many() -> None:
    ages = answered()
    for number in range(10_000):
        ages.resolved(named(tag=str(number)), sha256("v1"), OLD_S)
    assert ages.seen_s(image(WRITTEN_S)) == WRITTEN_S
    newest = TaggedImage(name=named(tag="9999"), descriptor=descriptor("v1"), seen_s=WRITTEN_S)
    assert ages.seen_s(newest) == OLD_S


KEY = str(NAME)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"7",
        json.dumps({KEY: None}).encode(),
        json.dumps({KEY: []}).encode(),
        json.dumps({KEY: [sha256("v1"), "soon", None]}).encode(),
        json.dumps({KEY: [sha256("v1"), OLD_S, "later"]}).encode(),
        json.dumps({KEY: [sha256("v1"), 10**400, None]}).encode(),
        json.dumps({KEY: [sha256("v1"), float("nan"), None]}).encode(),
        b"[" * 100_000,
    ],
)
def test_corrupted_file_is_as_if_there_were_none_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ages.json"
    path.write_bytes(content)
    ages = TagAges(path)
    assert ages.seen_s(image(WRITTEN_S)) == WRITTEN_S
    ages.resolved(NAME, sha256("v1"), OLD_S)
    assert TagAges(path).seen_s(image(WRITTEN_S)) == OLD_S


@given(entry=JUNK | st.tuples(st.just(sha256("v1")), JUNK, JUNK))
def test_no_content_of_the_file_makes_an_age_younger_than_the_store_says(
    tmp_path_factory: pytest.TempPathFactory, entry: object
) -> None:
    path = tmp_path_factory.mktemp("state") / "ages.json"
    path.write_text(json.dumps({KEY: entry}))
    assert TagAges(path).seen_s(image(WRITTEN_S)) <= WRITTEN_S


def test_state_directory_that_can_not_be_written_costs_only_the_memory_of_it(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    assert answered(tmp_path / "state" / "ages.json").seen_s(image(WRITTEN_S)) == OLD_S
