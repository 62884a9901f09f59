"""Patterns: which images and which tags the mirror answers for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.patterns import Pattern, parse_filter, parse_pattern
from agent.oci.reference import Addressed, Kind, Registry, Repository
from tests.unit.twins import named, sha256

NGINX = named("library/nginx", "1.27", "docker.io")
APP = named("acme/app", "v1.2", "ghcr.io")
LOCAL = named("acme/app", "v1.2", "localhost:5000")


def by_digest(repository: str, registry: str | None) -> Addressed:
    return Addressed(
        registry=None if registry is None else Registry(registry),
        repository=Repository(repository),
        kind=Kind.BLOB,
        digest=sha256("blob"),
    )


@pytest.mark.parametrize(
    ("text", "name", "tag"),
    [
        ("*", "*", "*"),
        ("*:latest", "*", "latest"),
        ("docker.io/*", "docker.io/*", "*"),
        ("ghcr.io/acme/*:v1.*", "ghcr.io/acme/*", "v1.*"),
        ("localhost:5000/acme/app", "localhost:5000/acme/app", "*"),
        ("localhost:5000/acme/app:v1", "localhost:5000/acme/app", "v1"),
        ("localhost:5000/*", "localhost:5000/*", "*"),
    ],
)
def test_tag_is_what_follows_the_last_colon_behind_the_last_slash(text: str, name: str, tag: str) -> None:
    assert parse_pattern(text) == Pattern(name=name, tag=tag)


@pytest.mark.parametrize("text", ["*", "docker.io/*", "docker.io/library/*", "*/nginx:1.*", "*:1.27"])
def test_pattern_matches_what_its_globs_match(text: str) -> None:
    assert parse_pattern(text).matches(NGINX)


@pytest.mark.parametrize(
    "text", ["ghcr.io/*", "docker.io", "docker.io/library", "*:latest", "*/nginx:2.*", "Docker.io/*"]
)
def test_pattern_does_not_match_other_names_and_tags(text: str) -> None:
    assert not parse_pattern(text).matches(NGINX)


def test_port_of_a_registry_is_no_tag() -> None:
    pattern = parse_pattern("localhost:5000/*")
    assert pattern.matches(LOCAL)
    assert not pattern.matches(APP)


def test_client_that_names_no_registry_is_matched_by_the_repository_alone() -> None:
    anonymous = named("acme/app", "v1.2", None)
    assert parse_pattern("ghcr.io/acme/*").matches(anonymous)
    assert parse_pattern("*").matches(anonymous)
    assert not parse_pattern("ghcr.io/other/*").matches(anonymous)


def test_only_what_is_included_is_admitted() -> None:
    only = parse_filter(["ghcr.io/acme/*", "docker.io/*"], [])
    assert only.admits(NGINX)
    assert only.admits(APP)
    assert not only.admits(LOCAL)
    assert only.admits(by_digest("library/nginx", "docker.io"))
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


def test_nothing_is_admitted_when_nothing_is_included() -> None:
    assert not parse_filter([], []).admits(NGINX)


GLOBS = st.sampled_from(("*", "docker.io/*", "ghcr.io/acme/*", "*:latest", "*/app:v1*", "[a-z]*/nginx"))
TARGETS = st.sampled_from(
    (NGINX, APP, LOCAL, named(tag="latest"), named(registry=None), by_digest("acme/app", None))
)


@given(include=st.lists(GLOBS, max_size=3), exclude=st.lists(GLOBS, max_size=3), more=GLOBS, target=TARGETS)
def test_excluding_more_never_admits_more_and_including_more_never_less(
    include: list[str], exclude: list[str], more: str, target: Addressed
) -> None:
    admitted = parse_filter(include, exclude).admits(target)
    assert parse_filter(include, [*exclude, more]).admits(target) <= admitted
    assert parse_filter([*include, more], exclude).admits(target) >= admitted
