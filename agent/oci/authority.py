"""Who says which pod may have an image: this mirror, or the registry. By a list of patterns on repositories.

If the registry decides, this mirror leaves everything to it that makes containerd show the pod's credentials:
tags, and each HEAD. It gives only the bytes that follow, and only under names that the registry decided on.
Pure.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from agent.oci.patterns import Pattern
from agent.oci.reference import Addressed, Named, ReferrerList, Repository, Tag, TagList
from agent.oci.registry import Registry

AUTHORITY_HEADER = "Shorthaul-Authorize"
"""An agent sends it with a request under a name that the registry decides on, by its own rules.

A holder gives private content to an agent only with this header: an agent with older rules may ask because
somebody asked it for a HEAD, which no registry decided on.
"""


_ANY_TAG = Tag("_")


class Authority(Enum):
    """Who decides."""

    MIRROR = "mirror"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class AuthorityRule:
    """Who decides on the repositories that match. The pattern has no tag: a digest has none either."""

    match: Pattern
    by: Authority


class Authorities:
    """The list of rules. The first one that matches decides; without any, the mirror does."""

    def __init__(self, rules: Iterable[AuthorityRule] = ()) -> None:
        self._listeners: list[Callable[[], None]] = []
        self.replace(rules)

    def replace(self, rules: Iterable[AuthorityRule]) -> None:
        """Use these rules from now on."""
        self.rules = tuple(rules)
        self._rule = lru_cache(maxsize=4096)(self._find_rule)
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call this each time that the rules were replaced."""
        self._listeners.append(listener)

    @property
    def decide(self) -> bool:
        """Whether any rule leaves anything to a registry."""
        return any(rule.by is Authority.REGISTRY for rule in self.rules)

    def of(self, registry: Registry | None, repository: Repository) -> Authority:
        """Who decides on a repository.

        Without a registry there is none that could decide: such a name gets open content only.
        """
        rule = None if registry is None else self._rule(registry, repository)
        return Authority.MIRROR if rule is None else rule.by

    def has_rule(self, registry: Registry, repository: Repository) -> bool:
        """Whether a rule says who decides on a repository, so that somebody meant it."""
        return self._rule(registry, repository) is not None

    def leaves_to_registry(self, target: Named | Addressed | TagList | ReferrerList) -> bool:
        """Whether the registry decides on the name of this target."""
        return self.of(target.registry, target.repository) is Authority.REGISTRY

    def _find_rule(self, registry: Registry, repository: Repository) -> AuthorityRule | None:
        # A pattern without a tag looks at the name alone, so any target of the repository does.
        target = Named(registry=registry, repository=repository, tag=_ANY_TAG)
        return next((rule for rule in self.rules if rule.match.matches(target)), None)
