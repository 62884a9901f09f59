"""Patterns on ``REGISTRY/REPOSITORY:TAG``: which images one means, in one form for each meaning.

A pattern is two globs: one on the name (``REGISTRY/REPOSITORY``) and one on the tag. ``*`` stands for any
text, slashes too; ``/**/`` also for one slash; ``?`` for one character; ``[…]`` for one of several. These two
never stand for a slash. `agent.oci.patterntext` reads what people write.

An image of Docker Hub has several names, and a pattern that matches one of them matches the image:
``docker.io/library/nginx``, ``docker.io/nginx``, ``index.docker.io/nginx`` and so on.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from agent.oci.reference import Addressed, Named, Repository
from agent.oci.registry import DOCKER_HUB, DOCKER_HUB_NAMES, OFFICIAL

ANY = "*"
ADDRESS = re.compile(r"\[[0-9a-f.]*:[0-9a-f:.]*\]", re.ASCII)
"""An IPv6 address at the start of a name. All other brackets are classes of characters."""

_PIECE = re.compile(r"/\*\*/|\[!?[^\]]+\]|.", re.DOTALL)
_PIECES = {"/**/": "/(?:.*/)?", "*": ".*", "?": "[^/]"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """The globs on the name and on the tag. ``name`` has a slash, or begins with ``*``. In lower case."""

    name: str
    tag: str = ANY

    def __str__(self) -> str:
        return self.name if self.tag == ANY else f"{self.name}:{self.tag}"

    def matches(self, target: Named | Addressed) -> bool:
        """Whether ``target`` matches the name and, if it is a tag, the tag.

        If the client named no registry, the pattern matches if it matches the repository in any registry.
        """
        if self.name != ANY and not self._matches_name(target):
            return False
        if self.tag == ANY or not isinstance(target, Named):
            return True
        return _regex(self.tag).fullmatch(target.tag) is not None

    def excludes(self, target: Named | Addressed) -> bool:
        """Whether ``target`` is not admitted if this pattern is excluded.

        A digest has no tag, so a pattern with a tag leaves it. A pattern of a whole registry says nothing
        about a client that names none: the image may be of another registry.
        """
        if isinstance(target, Addressed) and self.tag != ANY:
            return False
        if target.registry is None and self._is_of_one_registry:
            return False
        return self.matches(target)

    def covers(self, other: "Pattern") -> bool:
        """Whether this pattern certainly matches all that ``other`` matches."""
        names = _regex(self.name).fullmatch(other.name), _regex(self.tag).fullmatch(other.tag)
        return all(names) and "?" not in self.name + self.tag and "[" not in self.name + self.tag

    @property
    def _is_of_one_registry(self) -> bool:
        registry, _, repository = self.name.partition("/")
        return repository == ANY and registry != ANY

    @property
    def _registry(self) -> str:
        return self.name.partition("/")[0]

    def _matches_name(self, target: Named | Addressed) -> bool:
        if target.registry is None:
            return self._matches_repository(target.repository)
        regex = _regex(self.name)
        if regex.fullmatch(f"{target.registry}/{target.repository}"):
            return True
        return target.registry == DOCKER_HUB and any(
            regex.fullmatch(f"{registry}/{repository}")
            for registry in self._docker_hub_names
            for repository in _repository_names(target.repository)
        )

    def _matches_repository(self, repository: Repository) -> bool:
        registry, slash, glob = self.name.partition("/")
        if slash and any(_regex(glob).fullmatch(name) for name in self._names_anywhere(repository)):
            return True
        # The first * may stand for the registry and the beginning of the repository: */nginx, *nginx*.
        _, star, tail = self.name.partition(ANY)
        return ANY in registry and _regex(star + tail).fullmatch(repository) is not None

    def _names_anywhere(self, repository: Repository) -> Iterator[str]:
        """The names that a repository has in some registry that this pattern may mean."""
        is_docker_hub = any(_regex(self._registry).fullmatch(name) for name in DOCKER_HUB_NAMES)
        return _repository_names(repository) if is_docker_hub else iter((repository,))

    @property
    def _docker_hub_names(self) -> tuple[str, ...]:
        """The names of Docker Hub that this pattern may match: only a glob on registries means an alias."""
        has_glob = any(character in self._registry for character in "*?[")
        return DOCKER_HUB_NAMES if has_glob else (DOCKER_HUB,)


def _repository_names(repository: Repository) -> Iterator[str]:
    """The names of a repository of Docker Hub: an official image has a short one, too."""
    yield repository
    if repository.startswith(OFFICIAL):
        yield repository.removeprefix(OFFICIAL)


@lru_cache(maxsize=4096)
def _regex(glob: str) -> re.Pattern[str]:
    address = ADDRESS.match(glob)
    literal = address[0] if address else ""
    return re.compile(re.escape(literal) + _PIECE.sub(_translated, glob[len(literal) :]), re.DOTALL)


def _translated(match: re.Match[str]) -> str:
    piece = match[0]
    if len(piece) > 1 and piece[0] == "[":
        inside = piece[1:-1].replace("\\", r"\\").replace("^", r"\^")
        return f"[^/{inside[1:]}]" if inside[0] == "!" else f"[{inside}]"
    return _PIECES.get(piece) or re.escape(piece)
