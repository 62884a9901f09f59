"""Patterns: which images one means."""

import pytest

from agent.oci.digest import Digest
from agent.oci.patterns import Pattern
from agent.oci.patterntext import parse_pattern
from agent.oci.reference import Addressed, Kind, Repository
from agent.oci.registry import DOCKER_HUB_NAMES, parse_registry
from tests.unit.twins import named, sha256

NGINX = named("library/nginx", "1.27", "docker.io")
APP = named("acme/app", "v1.2", "ghcr.io")
LOCAL = named("acme/app", "v1.2", "localhost:5000")
IPV6 = named("acme/app", "v1.2", "[fd00::1]:5000")


def by_digest(repository: str, registry: str | None, digest: Digest | None = None) -> Addressed:
    return Addressed(
        registry=None if registry is None else parse_registry(registry),
        repository=Repository(repository),
        kind=Kind.BLOB,
        digest=digest or sha256("blob"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "docker.io/*",
        "docker.io/library/*",
        "*/nginx:1.*",
        "*:1.27",
        "Docker.IO/*",
        "*nginx",
        "*ngin?",
        "docker.io",
        "docker.io/nginx",
        "*.io/*/ng[a-n]nx",
        "docker.io/**/nginx",
        "docker.i[!p]/*",
        "*lib*",
    ],
)
def test_pattern_matches_what_its_globs_match(text: str) -> None:
    assert parse_pattern(text).matches(NGINX)


@pytest.mark.parametrize(
    "text",
    [
        "ghcr.io/*",
        "docker.io/acme",
        "*:latest",
        "*/nginx:2.*",
        "*/ngin",
        "*:1?27?",
        "docker.i[!o]/*",
        "docker.io/[a-k]*",
        "docker-io.example/*",
        "docker.io:5000/*",
    ],
)
def test_pattern_does_not_match_other_names_and_tags(text: str) -> None:
    assert not parse_pattern(text).matches(NGINX)


@pytest.mark.parametrize("name", DOCKER_HUB_NAMES)
def test_every_name_of_docker_hub_means_docker_hub(name: str) -> None:
    assert parse_pattern(f"{name}/library/*").matches(NGINX)
    assert parse_pattern(f"{name}/*").matches(NGINX)


def test_glob_on_names_of_docker_hub_that_are_not_its_name_here_means_it_too() -> None:
    assert parse_pattern("*.docker.io/*").matches(NGINX)
    assert parse_pattern("registry-?.docker.io/library/*").matches(NGINX)
    assert not parse_pattern("*.docker.io/*").matches(APP)


@pytest.mark.parametrize(
    "text",
    [
        "docker.io/n?inx",
        "docker.io/ngin[x-z]",
        "docker.io/nginx*",
        "docker.io/n*x",
        "docker.io/????x",
        "*.docker.io/nginx",
        "index.*/nginx",
        "registry-1.docker.?o/ng*",
        "*.io/nginx",
        "docker.*/nginx:1.*",
        "DOCKER.IO/N?INX",
        "index.docker.io/n?inx",
        "index.docker.io/library/n?inx",
        "registry.hub.docker.com/ngin*",
    ],
)
def test_official_image_of_docker_hub_is_meant_by_its_short_name_too(text: str) -> None:
    assert parse_pattern(text).matches(NGINX)
    assert parse_pattern(text).excludes(by_digest("library/nginx", "docker.io")) is (":" not in text)
    assert parse_pattern(text).matches(named("library/nginx", "1.27", None))
    assert not parse_pattern(text).matches(named("library/redis", "1.27", "docker.io"))
    assert not parse_pattern(text).matches(named("library/nginx", "1.27", "ghcr.io"))


def test_short_name_is_one_of_docker_hub_only() -> None:
    assert not parse_pattern("ghcr.io/n?inx").matches(named("library/nginx", "1", "ghcr.io"))
    assert not parse_pattern("ghcr.io/n?inx").matches(named("library/nginx", "1", None))
    assert not parse_pattern("docker.io/a?p").matches(named("acme/app", "1", "docker.io"))


def test_glob_on_a_short_name_still_means_namespaces() -> None:
    assert parse_pattern("docker.io/nginx*").matches(named("nginxinc/nginx-unprivileged", "1", "docker.io"))
    assert parse_pattern("docker.io/bitnami/").matches(named("bitnami/redis", "1", "docker.io"))


def test_one_character_is_never_a_slash() -> None:
    for text in ("ghcr.io/acme?app", "ghcr.io/acme[!x]app", "ghcr.io?acme/app"):
        assert not parse_pattern(text).matches(APP)


def test_port_of_a_registry_is_no_tag() -> None:
    for text in ("localhost:5000/*", "localhost:5000", "localhost:*/*"):
        assert parse_pattern(text).matches(LOCAL)
        assert not parse_pattern(text).matches(APP)


@pytest.mark.parametrize("text", ["[fd00::1]:5000/*", "[FD00:0::1]:5000", "[fd00::1]:5000/acme/a*:v1.*"])
def test_brackets_around_an_ipv6_address_are_no_class_of_characters(text: str) -> None:
    assert parse_pattern(text).matches(IPV6)
    assert not parse_pattern(text).matches(named("acme/app", "v1.2", "[fd00::2]:5000"))
    assert not parse_pattern(text).matches(named("acme/app", "v1.2", "f:5000"))


def test_tag_is_compared_with_its_case_and_the_name_without() -> None:
    assert parse_pattern("GHCR.io/ACME/*:V1").matches(named("acme/app", "V1", "ghcr.io"))
    assert not parse_pattern("GHCR.io/ACME/*:V1").matches(named("acme/app", "v1", "ghcr.io"))


def test_characters_of_regular_expressions_mean_themselves() -> None:
    assert not Pattern("a.b/*").matches(named("x", "1", "aXb"))
    assert Pattern("a.b/*", "[.^]*").matches(named("x", ".1", "a.b"))


def test_double_star_between_slashes_stands_for_no_component_too() -> None:
    assert parse_pattern("ghcr.io/**/app").matches(named("app", "1", "ghcr.io"))
    assert parse_pattern("ghcr.io/**/app").matches(named("a/b/app", "1", "ghcr.io"))
    assert not parse_pattern("ghcr.io/**/app").matches(named("a/bapp", "1", "ghcr.io"))


@pytest.mark.parametrize(
    "text", ["ghcr.io/acme/*", "*", "*/app", "*app*", "*/acme/*", "ghcr.io/*", "*.io/*/app"]
)
def test_client_that_names_no_registry_is_matched_by_the_repository_alone(text: str) -> None:
    assert parse_pattern(text).matches(named("acme/app", "v1.2", None))


@pytest.mark.parametrize("text", ["ghcr.io/other/*", "*/other", "*other*", "*.io/other/app"])
def test_client_that_names_no_registry_is_not_matched_by_another_repository(text: str) -> None:
    assert not parse_pattern(text).matches(named("acme/app", "v1.2", None))


@pytest.mark.parametrize("text", ["ghcr.io", "ghcr.io/*", "*.io", "ghcr.io/*:v1.2", "[fd00::1]:5000/*"])
def test_excluded_registry_does_not_shut_out_who_names_none(text: str) -> None:
    assert not parse_pattern(text).excludes(named("acme/app", "v1.2", None))
    assert not parse_pattern(text).excludes(by_digest("acme/app", None))


@pytest.mark.parametrize("text", ["ghcr.io/acme/*", "*/app", "*app*", "*"])
def test_excluded_repository_is_excluded_for_who_names_no_registry(text: str) -> None:
    assert parse_pattern(text).excludes(named("acme/app", "v1.2", None))
    assert parse_pattern(text).excludes(by_digest("acme/app", None))


def test_excluded_tag_leaves_the_bytes_of_its_digest() -> None:
    assert parse_pattern("*:v1.*").excludes(APP)
    assert not parse_pattern("*:v1.*").excludes(by_digest("acme/app", "ghcr.io"))


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [("*", "ghcr.io/*"), ("ghcr.io/*", "ghcr.io/*"), ("ghcr.io/*", "ghcr.io/acme/*:v1"), ("*:v*", "*:v1")],
)
def test_pattern_covers_what_it_takes_in_altogether(wide: str, narrow: str) -> None:
    assert parse_pattern(wide).covers(parse_pattern(narrow))


@pytest.mark.parametrize(
    ("one", "other"),
    [("ghcr.io/*", "*"), ("ghcr.io/*:v1", "ghcr.io/*"), ("ghcr.io/?", "ghcr.io/*"), ("*:latest", "*")],
)
def test_pattern_does_not_cover_more_than_it_matches(one: str, other: str) -> None:
    assert not parse_pattern(one).covers(parse_pattern(other))
