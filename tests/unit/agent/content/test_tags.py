"""The ages of tags: what the mirror itself answered never looks fresher than it was when it was answered."""

import json
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.content.store import TagChange, TaggedImage
from agent.content.tags import TagAges
from agent.oci.origin import Origin
from tests.unit.twins import descriptor, named, node, sha256

NAME, SEER, TICKS_S, YEAR_S = named(), node("seer"), 50.0, 365 * 86400.0
OLD_S, ANSWERED_S, WRITTEN_S, DECLINED_S, REWRITTEN_S = 100.0, 500.0, 501.0, 600.0, 601.0


def image(seen_s: float, content: str = "v1") -> TaggedImage:
    return TaggedImage(
        name=NAME,
        descriptor=descriptor(content),
        seen_s=seen_s,
        origin=Origin.REGISTRY,
        noticed_s=TICKS_S,
    )


def answered(path: Path | None = None) -> TagAges:
    """The mirror answered the tag with a digest seen at OLD_S; containerd writes it at WRITTEN_S."""
    ages = TagAges(path)
    ages.resolved(NAME, sha256("v1"), OLD_S, SEER)
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
        ages.resolved(NAME, sha256("v1"), seen_s, SEER)
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
    ages.resolved(NAME, sha256("v1"), ages.seen_s(image(REWRITTEN_S)), SEER)
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
        assert after.voucher(image(written_s)) == before.voucher(image(written_s))
    assert [entry.name for entry in path.parent.iterdir()] == ["ages.json"]


def test_oldest_entries_go_when_there_are_too_many() -> None:
    ages = answered()
    for number in range(10_000):
        ages.resolved(named(tag=str(number)), sha256("v1"), OLD_S, SEER)
    assert ages.seen_s(image(WRITTEN_S)) == WRITTEN_S
    newest = replace(image(WRITTEN_S), name=named(tag="9999"))
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
        json.dumps({KEY: [sha256("v1"), OLD_S, None]}).encode(),
        json.dumps({KEY: [sha256("v1"), "soon", None, "seer"]}).encode(),
        json.dumps({KEY: [sha256("v1"), OLD_S, "later", "seer"]}).encode(),
        json.dumps({KEY: [sha256("v1"), 10**400, None, "seer"]}).encode(),
        json.dumps({KEY: [sha256("v1"), float("nan"), None, "seer"]}).encode(),
        b"[" * 100_000,
    ],
)
def test_corrupted_file_is_as_if_there_were_none_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ages.json"
    path.write_bytes(content)
    ages = TagAges(path)
    assert ages.seen_s(image(WRITTEN_S)) == WRITTEN_S
    ages.resolved(NAME, sha256("v1"), OLD_S, SEER)
    assert TagAges(path).seen_s(image(WRITTEN_S)) == OLD_S


@given(entry=JUNK | st.tuples(st.just(sha256("v1")), JUNK, JUNK, JUNK))
def test_no_content_of_the_file_makes_an_age_younger_than_the_store_says(
    tmp_path_factory: pytest.TempPathFactory, entry: object
) -> None:
    path = tmp_path_factory.mktemp("state") / "ages.json"
    path.write_text(json.dumps({KEY: entry}))
    assert TagAges(path).seen_s(image(WRITTEN_S)) <= WRITTEN_S


def test_state_directory_that_can_not_be_written_costs_only_the_memory_of_it(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    assert answered(tmp_path / "state" / "ages.json").seen_s(image(WRITTEN_S)) == OLD_S


class Clocks:
    """A ledger whose clocks the test sets. The record was noticed when it was written."""

    def __init__(self) -> None:
        self.now_s, self.ticks_s = WRITTEN_S, TICKS_S
        self.ages = TagAges(clock=lambda: self.now_s, ticks=lambda: self.ticks_s)

    def pass_s(self, seconds: float) -> None:
        """Let time go by, on a clock that runs well."""
        self.now_s += seconds
        self.ticks_s += seconds


def test_age_is_the_time_since_the_tag_was_seen() -> None:
    clocks = Clocks()
    clocks.pass_s(600)
    assert clocks.ages.age_s(image(WRITTEN_S)) == 600


def test_record_dated_a_year_ahead_is_not_fresh() -> None:
    clocks = Clocks()
    for _ in range(3):
        assert clocks.ages.age_s(image(WRITTEN_S + YEAR_S)) == math.inf
        clocks.pass_s(100 * 86400)


def test_record_a_few_seconds_ahead_is_as_old_as_this_agent_knows_it() -> None:
    clocks = Clocks()
    assert clocks.ages.age_s(image(WRITTEN_S + 30)) == 0.0
    clocks.pass_s(50)
    assert clocks.ages.age_s(image(WRITTEN_S + 30)) == 50


def test_record_is_never_younger_than_this_agent_knows_it_whatever_its_clock_says() -> None:
    clocks = Clocks()
    clocks.pass_s(5000)
    clocks.now_s = WRITTEN_S + 1  # set back by more than an hour
    assert clocks.ages.age_s(image(WRITTEN_S)) == 5000


@given(
    written_s=st.floats(-1e12, 1e12),
    known_s=st.floats(0, 1e9),
    steps=st.lists(st.floats(-1e10, 1e10), max_size=5),
)
def test_no_record_and_no_clock_make_a_tag_younger_than_this_agent_knows_it(
    written_s: float, known_s: float, steps: list[float]
) -> None:
    clocks = Clocks()
    clocks.ticks_s += known_s
    for step_s in steps:
        clocks.now_s += step_s
        assert clocks.ages.age_s(image(written_s)) >= clocks.ticks_s - TICKS_S


def test_age_that_was_inherited_counts_too() -> None:
    clocks = Clocks()
    clocks.ages.resolved(NAME, sha256("v1"), OLD_S, SEER)
    assert clocks.ages.age_s(image(WRITTEN_S)) == WRITTEN_S - OLD_S


def test_voucher_is_inherited_with_the_age_until_the_registry_answers_here() -> None:
    ages = answered()
    assert ages.voucher(image(WRITTEN_S)) == SEER
    assert ages.voucher(image(WRITTEN_S, "v2")) is None
    ages.declined(NAME, DECLINED_S)
    assert ages.voucher(image(WRITTEN_S)) == SEER
    assert ages.voucher(image(REWRITTEN_S)) is None


def write(ages: TagAges, content: str, before: str | None = None, *, first: bool = False) -> bool:
    """Write the tag; whether its owner asked for it before."""
    was = None if before is None else image(WRITTEN_S, before)
    ages.written(TagChange(image=image(REWRITTEN_S, content), before=was, first=first))
    return ages.was_asked_for(image(REWRITTEN_S, content))


def asking() -> TagAges:
    """A ledger whose owner asks it for tags of the registry, and has pulled v1."""
    ages = TagAges()
    ages.asked(NAME)
    assert write(ages, "v1")
    return ages


def test_tag_that_changed_without_a_question_was_not_pulled() -> None:
    assert not write(asking(), "v2", before="v1")


def test_new_tag_without_a_question_was_not_pulled() -> None:
    assert not write(asking(), "v2")


def test_tag_that_is_pulled_after_all_was_asked_for() -> None:
    ages = asking()
    assert not write(ages, "v2", before="v1")
    ages.asked(NAME)
    assert write(ages, "v2", before="v2")


def test_question_counts_for_one_change_only() -> None:
    ages = asking()
    ages.asked(NAME)
    assert write(ages, "v2", before="v1")
    assert not write(ages, "v3", before="v2")


def test_tag_that_is_written_twice_by_one_pull_was_asked_for() -> None:
    ages = asking()
    ages.asked(NAME)
    assert write(ages, "v2", before="v1")
    assert write(ages, "v2", before="v2")


def test_tag_that_was_there_at_the_start_is_taken_for_a_pulled_one() -> None:
    assert write(asking(), "v2", first=True)


def test_owner_that_never_asks_for_tags_of_a_registry_is_not_expected_to() -> None:
    ages = TagAges()
    assert write(ages, "v2", before="v1")
    ages.asked(named(registry="ghcr.io"))
    assert write(ages, "v3", before="v2")
    ages.asked(named(registry=None))
    assert write(ages, "v4", before="v3")


def flood(ages: TagAges, *, registry: str | None = None) -> None:
    """Ask for many made-up tags: of one registry, or each of another one."""
    for number in range(20_000):
        ages.asked(named(registry=registry or f"r{number}.example", tag=str(number)))


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("registry", [None, "docker.io", "ghcr.io"])
def test_flood_of_questions_makes_no_honest_pull_an_unasked_one(registry: str | None, recorded: bool) -> None:
    ages = asking() if recorded else TagAges()
    ages.asked(NAME)
    flood(ages, registry=registry)
    ages.asked(named(tag="other"))
    assert write(ages, "v2", before="v1")


@pytest.mark.parametrize("registry", [None, "ghcr.io"])
def test_flood_about_other_registries_hides_no_unasked_tag_of_a_recorded_one(registry: str | None) -> None:
    ages = asking()
    flood(ages, registry=registry)
    assert not write(ages, "v2", before="v1")


def test_flood_about_a_registry_is_over_after_an_hour() -> None:
    clocks = Clocks()
    clocks.ages.asked(NAME)
    assert write(clocks.ages, "v1")
    flood(clocks.ages, registry=NAME.registry)
    assert write(clocks.ages, "v2", before="v1")
    clocks.pass_s(3601)
    assert not write(clocks.ages, "v3", before="v2")


@pytest.mark.parametrize("registry", [None, "docker.io"])
def test_flood_of_questions_takes_bounded_memory(registry: str | None) -> None:
    ages = TagAges()
    tracemalloc.start()
    try:
        flood(ages, registry=registry)
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_newer_agent_of_the_node_knows_what_the_older_one_knew() -> None:
    newer = TagAges()
    newer.take(json.loads(json.dumps(answered().give())))
    assert newer.seen_s(image(WRITTEN_S)) == OLD_S
    assert newer.voucher(image(WRITTEN_S)) == SEER


def test_a_pull_that_began_with_the_older_agent_was_asked_for() -> None:
    older, newer = TagAges(), TagAges()
    older.written(TagChange(image=image(OLD_S), before=None, first=True))  # a record names the registry
    older.asked(NAME)
    newer.take(json.loads(json.dumps(older.give())))
    newer.asked(named(tag="another"))
    newer.written(TagChange(image=image(WRITTEN_S, "v2"), before=None, first=False))
    assert newer.was_asked_for(image(WRITTEN_S, "v2"))


def test_an_older_agent_that_stands_by_does_not_overwrite_what_the_newer_one_saves(tmp_path: Path) -> None:
    path = tmp_path / "ages.json"
    older = answered(path)
    newer = TagAges(path)
    newer.take(older.give())
    newer.resolved(NAME, sha256("v2"), ANSWERED_S, SEER)
    older.resolved(NAME, sha256("v3"), ANSWERED_S, SEER)  # a last request on an old connection
    assert TagAges(path).seen_s(image(WRITTEN_S, "v2")) == ANSWERED_S
    older.take({})  # the newer one is gone
    assert older.seen_s(image(WRITTEN_S, "v2")) == ANSWERED_S
    assert TagAges(path).seen_s(image(WRITTEN_S, "v2")) == ANSWERED_S


@pytest.mark.parametrize("given", [None, {}, {"mirrored": 1}, {"mirrored": {"a": 1}}, {"asked": []}])
def test_what_an_older_agent_says_may_make_no_sense(given: dict[str, object] | None) -> None:
    ages = answered()
    ages.take(given)
    assert ages.seen_s(image(WRITTEN_S)) == OLD_S
