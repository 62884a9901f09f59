"""Which images the mirror answers for: glob patterns on ``REGISTRY/REPOSITORY:TAG``.

A pattern's tag is what follows the last colon behind its last slash; without one it means every tag.
Digests carry no tag, so a pattern that names tags decides about tags only: ``*:latest`` keeps the
mirror from answering which digest *latest* is, and still lets it serve that digest's bytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from agent.oci.reference import Addressed, Named


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A pattern split into its two globs."""

    name: str
    tag: str

    def matches(self, target: Named | Addressed) -> bool:
        """Whether ``target`` is of this pattern's name and, for a tag, of its tag.

        A client that named no registry is matched by the pattern's repository part alone.
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
    """Included by at least one pattern and excluded by none."""

    include: tuple[Pattern, ...]
    exclude: tuple[Pattern, ...]

    def admits(self, target: Named | Addressed) -> bool:
        """Whether the mirror answers for ``target``."""
        return any(pattern.matches(target) for pattern in self.include) and not any(
            pattern.matches(target) and (isinstance(target, Named) or pattern.tag == "*")
            for pattern in self.exclude
        )


def parse_pattern(text: str) -> Pattern:
    """A glob as the configuration writes it. ``docker.io/*``, ``*:latest``, ``ghcr.io/acme/*:v1.*``."""
    head, slash, last = text.rpartition("/")
    name, colon, tag = last.partition(":")
    return Pattern(name=f"{head}{slash}{name}", tag=tag if colon else "*")


def parse_filter(include: Iterable[str], exclude: Iterable[str]) -> Filter:
    """A `Filter` of the configuration's two lists."""
    return Filter(
        include=tuple(parse_pattern(text) for text in include),
        exclude=tuple(parse_pattern(text) for text in exclude),
    )
