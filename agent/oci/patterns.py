"""Which images the mirror answers for: glob patterns on ``REGISTRY/REPOSITORY:TAG``.

The tag of a pattern follows the last colon after its last slash. A pattern without a tag means every tag.
A digest has no tag, so a pattern with a tag decides about tags only. For example, with ``*:latest`` excluded
the mirror does not say which digest *latest* is, but it still serves that digest's bytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from agent.oci.reference import Addressed, Named


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A pattern, split into its two globs."""

    name: str
    tag: str

    def matches(self, target: Named | Addressed) -> bool:
        """Whether ``target`` matches this pattern's name and, if it is a tag, its tag.

        If the client named no registry, only the pattern's repository part is compared.
        """
        if not self._matches_name(target):
            return False
        return not isinstance(target, Named) or fnmatchcase(target.tag, self.tag)

    def _matches_name(self, target: Named | Addressed) -> bool:
        if target.registry is not None:
            return fnmatchcase(f"{target.registry}/{target.repository}", self.name)
        _, slash, repository = self.name.partition("/")
        return not slash or fnmatchcase(target.repository, repository)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Admits what at least one pattern includes and no pattern excludes."""

    include: tuple[Pattern, ...]
    exclude: tuple[Pattern, ...]

    def admits(self, target: Named | Addressed) -> bool:
        """Whether the mirror answers for ``target``."""
        return any(pattern.matches(target) for pattern in self.include) and not any(
            pattern.matches(target) and (isinstance(target, Named) or pattern.tag == "*")
            for pattern in self.exclude
        )


def parse_pattern(text: str) -> Pattern:
    """A glob from the configuration, for example ``docker.io/*``, ``*:latest``, ``ghcr.io/acme/*:v1.*``."""
    head, slash, last = text.rpartition("/")
    name, colon, tag = last.partition(":")
    return Pattern(name=f"{head}{slash}{name}", tag=tag if colon else "*")


def parse_filter(include: Iterable[str], exclude: Iterable[str]) -> Filter:
    """A `Filter` from the configuration's two lists."""
    return Filter(
        include=tuple(parse_pattern(text) for text in include),
        exclude=tuple(parse_pattern(text) for text in exclude),
    )
