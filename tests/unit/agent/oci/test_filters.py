"""Filters: what is admitted, and which patterns have had no effect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.filters import parse_filter
from agent.oci.patterntext import PatternInvalid, parse_pattern
from agent.oci.reference import Addressed
from tests.unit.agent.oci.test_patterns import APP, IPV6, LOCAL, NGINX, by_digest
from tests.unit.twins import named


def test_only_what_is_included_is_admitted() -> None:
    only = parse_filter(["ghcr.io/acme/*", "docker.io/*"], [])
    assert only.admits(NGINX)
    assert only.admits(APP)
    assert not only.admits(LOCAL)
    assert only.admits(by_digest("library/nginx", "index.docker.io"))
    assert not only.admits(by_digest("library/nginx", "quay.io"))


def test_excluded_image_is_not_admitted_even_if_it_is_included() -> None:
    rest = parse_filter(["*"], ["docker.io/library/*"])
    assert not rest.admits(NGINX)
    assert not rest.admits(by_digest("library/nginx", "docker.io"))
    assert rest.admits(APP)


def test_excluded_tag_leaves_the_bytes_of_its_digest() -> None:
    no_latest = parse_filter(["*"], ["*:latest"])
    assert not no_latest.admits(named(tag="latest"))
    assert no_latest.admits(named(tag="1.27"))
    assert no_latest.admits(by_digest("library/nginx", "docker.io"))


def test_included_tag_leaves_the_bytes_of_its_image() -> None:
    only_v1 = parse_filter(["ghcr.io/acme/*:v1.*"], [])
    assert only_v1.admits(APP)
    assert not only_v1.admits(named("acme/app", "v2", "ghcr.io"))
    assert only_v1.admits(by_digest("acme/app", "ghcr.io"))


def test_excluded_registry_leaves_the_clients_that_name_none() -> None:
    assert parse_filter(["*"], ["ghcr.io/*"]).admits(named("acme/app", "v1", None))


def test_nothing_is_admitted_when_nothing_is_included() -> None:
    assert not parse_filter([], []).admits(NGINX)


def test_mistake_in_a_pattern_is_raised() -> None:
    with pytest.raises(PatternInvalid):
        parse_filter(["*"], ["https://x"])


def test_pattern_that_matched_nothing_so_far_is_known() -> None:
    filters = parse_filter(["*", "ghcr.io/*"], ["docker.io/acme/*", "*:rc"])
    assert [str(pattern) for pattern in filters.unmatched] == ["*", "ghcr.io/*", "docker.io/acme/*", "*:rc"]
    filters.admits(NGINX)
    assert [str(pattern) for pattern in filters.unmatched] == ["ghcr.io/*", "docker.io/acme/*", "*:rc"]
    filters.admits(named("acme/app", "rc", "ghcr.io"))
    assert [str(pattern) for pattern in filters.unmatched] == ["docker.io/acme/*"]


def test_pattern_counts_as_matched_even_if_another_one_decides() -> None:
    filters = parse_filter(["*", "ghcr.io/*"], ["ghcr.io/acme/*"])
    assert not filters.admits(APP)
    assert [*filters.unmatched] == []


def test_replaced_lists_decide_at_once_and_patterns_that_stay_keep_what_they_matched() -> None:
    filters = parse_filter(["docker.io/*"], [])
    assert filters.admits(NGINX)
    filters.replace([parse_pattern("docker.io/*")], [parse_pattern("*/nginx")])
    assert not filters.admits(NGINX)
    assert [*filters.unmatched] == []
    filters.replace([parse_pattern("docker.io/*")], [parse_pattern("*/other")])
    assert [str(pattern) for pattern in filters.unmatched] == ["*/other"]


def test_included_pattern_that_an_excluded_one_takes_away_altogether_is_known() -> None:
    filters = parse_filter(["ghcr.io/acme/*", "docker.io/*"], ["ghcr.io/*", "docker.io/library/*"])
    assert filters.cancelled == ((parse_pattern("ghcr.io/acme/*"), parse_pattern("ghcr.io/*")),)


GLOBS = st.sampled_from(
    (
        "*",
        "docker.io/*",
        "ghcr.io/acme/*",
        "*:latest",
        "*/app:v1*",
        "[a-z]*/nginx",
        "[fd00::1]:5000",
        "ghcr.io",
    )
)
TARGETS = st.sampled_from(
    (NGINX, APP, LOCAL, IPV6, named(tag="latest"), named(registry=None), by_digest("acme/app", None))
)


@given(include=st.lists(GLOBS, max_size=3), exclude=st.lists(GLOBS, max_size=3), more=GLOBS, target=TARGETS)
def test_excluding_more_never_admits_more_and_including_more_never_less(
    include: list[str], exclude: list[str], more: str, target: Addressed
) -> None:
    admitted = parse_filter(include, exclude).admits(target)
    assert parse_filter(include, [*exclude, more]).admits(target) <= admitted
    assert parse_filter([*include, more], exclude).admits(target) >= admitted


@given(include=st.lists(GLOBS, max_size=3), exclude=st.lists(GLOBS, max_size=3), target=TARGETS)
def test_knowing_what_matched_changes_no_answer(
    include: list[str], exclude: list[str], target: Addressed
) -> None:
    filters = parse_filter(include, exclude)
    assert filters.admits(target) == filters.admits(target)
