"""The filters of the settings: replaced by a reload, and held against each other."""

from agent.listen.filtering import Filtering
from tests.unit.agent.config.test_changes import settings
from tests.unit.twins import named


def texts(*overrides: str) -> list[str]:
    return [problem.problem for problem in Filtering(settings(*overrides)).contradictions]


def test_default_filters_admit_everything_but_latest_and_are_no_problem() -> None:
    filtering = Filtering(settings())
    assert filtering.registries.admits(named())
    assert filtering.tags.admits(named(tag="1.27"))
    assert not filtering.tags.admits(named(tag="latest"))
    assert (filtering.contradictions, filtering.unmatched) == ((), ())


def test_excluding_more_tags_never_resolves_latest() -> None:
    filtering = Filtering(settings("tags.exclude=[rc]"))
    assert not filtering.tags.admits(named(tag="rc"))
    assert not filtering.tags.admits(named(tag="latest"))


def test_latest_is_resolved_if_the_settings_say_so_and_do_not_exclude_it() -> None:
    assert Filtering(settings("tags.resolve_latest=true")).tags.admits(named(tag="latest"))
    both = Filtering(settings("tags.resolve_latest=true", "tags.exclude=[latest]"))
    assert not both.tags.admits(named(tag="latest"))


def test_reload_changes_the_filters_that_others_hold() -> None:
    filtering = Filtering(settings())
    registries, tags = filtering.registries, filtering.tags
    filtering.use(settings("registries.exclude=[docker.io]", "tags.exclude=['1.*']"))
    assert not registries.admits(named())
    assert not tags.admits(named(tag="1.27"))


def test_pattern_that_matched_nothing_yet_is_a_problem_until_it_matches() -> None:
    filtering = Filtering(settings("registries.exclude=[ghcr.io/acme/*]", "tags.exclude=[rc]"))
    assert [problem.problem for problem in filtering.unmatched] == [
        "registries.exclude: 'ghcr.io/acme/*' has matched nothing yet",
        "tags.exclude: '*:rc' has matched nothing yet",
    ]
    filtering.registries.admits(named("acme/app", "v1", "ghcr.io"))
    filtering.tags.admits(named(tag="rc"))
    assert filtering.unmatched == ()


def test_filters_that_can_not_be_meant_are_contradictions() -> None:
    assert texts("registries.include=[]") == ["registries.include is empty: nothing is mirrored"]
    (undone,) = texts("registries.include=[ghcr.io/acme/*, docker.io]", "registries.exclude=[ghcr.io]")
    assert "'ghcr.io/acme/*' is undone by registries.exclude: 'ghcr.io/*'" in undone
    assert len(texts("registries.exclude=['*']")) == 1


def test_official_image_that_matched_nothing_may_be_meant_as_a_namespace_and_the_hint_has_that() -> None:
    (problem,) = Filtering(settings("registries.exclude=[docker.io/bitnami]")).unmatched
    assert problem.hint.endswith("for a namespace write docker.io/bitnami/*")
    for pattern in ("docker.io/bitnami/*", "docker.io/bit?ami", "ghcr.io/bitnami"):
        (problem,) = Filtering(settings(f"registries.exclude=[{pattern}]")).unmatched
        assert "namespace" not in problem.hint


def test_reload_changes_who_decides_for_those_that_hold_the_rules() -> None:
    filtering = Filtering(settings())
    authorities = filtering.authorities
    filtering.use(settings("registries.authorize=[{match: ghcr.io, by: registry}]"))
    assert authorities.leaves_to_registry(named("acme/app", "v1", "ghcr.io"))
    assert not authorities.leaves_to_registry(named())
