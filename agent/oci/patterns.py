"""Patterns on ``REGISTRY/REPOSITORY:TAG``: which images one means, in one form for each meaning.

A pattern is two globs: one on the name (``REGISTRY/REPOSITORY``) and one on the tag. ``*`` stands for any
text, slashes too; ``/**/`` also for one slash; ``?`` for one character; ``[…]`` for one of several.
`agent.oci.patterntext` reads what people write.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from agent.oci.reference import Addressed, Named, Repository
from agent.oci.registry import DOCKER_HUB, DOCKER_HUB_NAMES

ANY = "*"
ADDRESS = re.compile(r"\[[0-9a-f.]*:[0-9a-f:.]*\]", re.ASCII)
"""An IPv6 address at the start of a name. All other brackets are classes of characters."""

_PIECE = re.compile(r"/\*\*/|\[!?[^\]]+\]|.", re.DOTALL)
_PIECES = {"/**/": "/(?:.*/)?", "*": ".*", "?": "."}


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

    def _matches_name(self, target: Named | Addressed) -> bool:
        if target.registry is None:
            return self._matches_repository(target.repository)
        regex = _regex(self.name)
        if regex.fullmatch(f"{target.registry}/{target.repository}"):
            return True
        # A glob such as *.docker.io/* means a name of Docker Hub that is not its name here.
        return (
            target.registry == DOCKER_HUB
            and not self.name.startswith(f"{DOCKER_HUB}/")
            and any(regex.fullmatch(f"{name}/{target.repository}") for name in DOCKER_HUB_NAMES)
        )

    def _matches_repository(self, repository: Repository) -> bool:
        registry, slash, glob = self.name.partition("/")
        if slash and _regex(glob).fullmatch(repository):
            return True
        # The first * may stand for the registry and the beginning of the repository: */nginx, *nginx*.
        _, star, tail = self.name.partition(ANY)
        return ANY in registry and _regex(star + tail).fullmatch(repository) is not None


@lru_cache(maxsize=4096)
def _regex(glob: str) -> re.Pattern[str]:
    address = ADDRESS.match(glob)
    literal = address[0] if address else ""
    return re.compile(re.escape(literal) + _PIECE.sub(_translated, glob[len(literal) :]), re.DOTALL)


def _translated(match: re.Match[str]) -> str:
    piece = match[0]
    if len(piece) > 1 and piece[0] == "[":
        inside = piece[1:-1].replace("\\", r"\\").replace("^", r"\^")
        return f"[^{inside[1:]}]" if inside[0] == "!" else f"[{inside}]"
    return _PIECES.get(piece) or re.escape(piece)
