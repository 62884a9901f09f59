"""Who decides which pod may have an image: the first pattern that matches the repository."""

import pytest

from agent.oci.authority import Authorities, Authority, AuthorityRule
from agent.oci.patterntext import parse_pattern
from agent.oci.reference import Repository, TagList
from agent.oci.registry import Registry
from tests.unit.agent.oci.test_patterns import by_digest
from tests.unit.twins import named


def authorities(**rules: str) -> Authorities:
    """One rule for each argument, ``by=pattern``; the order counts."""
    return Authorities(rules_of(*rules.items()))


def rules_of(*rules: tuple[str, str]) -> list[AuthorityRule]:
    return [AuthorityRule(match=parse_pattern(pattern), by=Authority(by)) for by, pattern in rules]


def test_without_rules_the_mirror_decides_on_everything() -> None:
    assert not Authorities().leaves_to_registry(named())
    assert Authorities().of(Registry("ghcr.io"), Repository("acme/app")) is Authority.MIRROR


def test_first_pattern_that_matches_decides() -> None:
    both = authorities(mirror="ghcr.io/acme/public", registry="ghcr.io/acme/*")
    assert both.of(Registry("ghcr.io"), Repository("acme/public")) is Authority.MIRROR
    assert both.of(Registry("ghcr.io"), Repository("acme/app")) is Authority.REGISTRY
    assert both.of(Registry("quay.io"), Repository("acme/app")) is Authority.MIRROR


@pytest.mark.parametrize(
    "target",
    [
        named("acme/app", "v1", "ghcr.io"),
        by_digest("acme/app", "ghcr.io"),
        TagList(registry=Registry("ghcr.io"), repository=Repository("acme/app")),
    ],
)
def test_registry_decides_on_tags_digests_and_lists_alike(target: TagList) -> None:
    assert authorities(registry="ghcr.io").leaves_to_registry(target)


def test_name_without_a_registry_has_none_that_could_decide() -> None:
    assert authorities(registry="*").of(None, Repository("acme/app")) is Authority.MIRROR


def test_every_name_of_docker_hub_is_meant() -> None:
    assert authorities(registry="docker.io/nginx").leaves_to_registry(named("library/nginx", "v1"))


def test_replaced_rules_count_at_once_and_listeners_are_told() -> None:
    rules, told = authorities(registry="ghcr.io"), []
    assert rules.leaves_to_registry(by_digest("acme/app", "ghcr.io"))
    rules.on_change(lambda: told.append(1))
    rules.replace(rules_of(("mirror", "ghcr.io")))
    assert not rules.leaves_to_registry(by_digest("acme/app", "ghcr.io"))
    assert told == [1]
