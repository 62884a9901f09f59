"""The filters that the settings describe, and what is wrong with them. A reload replaces their lists."""

from collections.abc import Iterator
from typing import ClassVar

from agent.config import Settings
from agent.members.problems import Problem
from agent.oci.authority import Authorities, Authority, AuthorityRule
from agent.oci.filters import Filter, parse_filter, parse_patterns
from agent.oci.patterns import ANY, Pattern
from agent.oci.patterntext import parse_pattern
from agent.oci.registry import DOCKER_HUB, OFFICIAL
from topology.placement import NodeName

_LATEST = "*:latest"
_LISTED_MAX = 20


class Filtering:
    """``registries``: which images are mirrored. ``tags``: which tags are resolved here.

    ``authorities``: who decides which pod may have an image.
    """

    KEYS: ClassVar = (
        "registries.include",
        "registries.exclude",
        "registries.authorize",
        "tags.exclude",
        "tags.resolve_latest",
    )

    def __init__(self, settings: Settings) -> None:
        self._own = NodeName(settings.node.name)
        self._configured: dict[str, tuple[Pattern, ...]] = {}
        self.registries = parse_filter((), ())
        self.tags = parse_filter((), ())
        self.authorities = Authorities()
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Use the filters of these settings from now on."""
        include = parse_patterns(settings.registries.include)
        exclude = parse_patterns(settings.registries.exclude)
        tags = parse_patterns(settings.tags.exclude)
        latest = () if settings.tags.resolve_latest else parse_patterns([_LATEST])
        self.registries.replace(include, exclude)
        self.tags.replace(parse_patterns([ANY]), (*tags, *latest))
        self.authorities.replace(
            AuthorityRule(match=parse_pattern(rule.match), by=Authority(rule.by))
            for rule in settings.registries.authorize
        )
        self._configured = {
            "registries.include": include,
            "registries.exclude": exclude,
            "tags.exclude": tags,
        }

    @property
    def contradictions(self) -> tuple[Problem, ...]:
        """What can't be meant: a filter that admits nothing, or a pattern that another one takes away."""
        return tuple(self._contradictions())

    @property
    def unmatched(self) -> tuple[Problem, ...]:
        """Each configured pattern that has matched nothing yet: perhaps it is not what was meant."""
        found = [
            self._problem(f"{key}: {str(pattern)!r} has matched nothing yet", _compare_hint(pattern))
            for key, patterns in self._configured.items()
            for pattern in patterns
            if str(pattern) not in (ANY, _LATEST) and pattern in self._filter(key).unmatched
        ]
        return tuple(found[:_LISTED_MAX])

    def _filter(self, key: str) -> Filter:
        return self.tags if key.startswith("tags.") else self.registries

    def _contradictions(self) -> Iterator[Problem]:
        if not self._configured["registries.include"]:
            yield self._problem(
                "registries.include is empty: nothing is mirrored", 'write ["*"] for all images'
            )
        for pattern, other in self.registries.cancelled:
            yield self._problem(
                f"registries.include: {str(pattern)!r} is undone by registries.exclude: {str(other)!r}",
                "leave one of them out; what is excluded is not mirrored, whatever includes it",
            )

    def _problem(self, problem: str, hint: str) -> Problem:
        return Problem(node=self._own, problem=problem, hint=hint)


def _compare_hint(pattern: Pattern) -> str:
    hint = "compare it with the names in /api/requests: REGISTRY/REPOSITORY:TAG"
    name = pattern.name.removeprefix(f"{DOCKER_HUB}/{OFFICIAL}")
    is_official_image = name != pattern.name and not any(glob in name for glob in "*?[")
    return f"{hint}; for a namespace write {DOCKER_HUB}/{name}/*" if is_official_image else hint
