"""Who decides which pod may have the images of this node's store: ``/api/registries``."""

from dataclasses import dataclass
from typing import ClassVar

MIRROR, REGISTRY, BOTH = "mirror", "registry", "both"
"""Who decides on the images of a registry. BOTH: on some the one, on some the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEntry:
    """One registry of whose images this node has some, as far as they are mirrored here.

    ``repositories``: how many it has images of. ``by``: who decides on them, one of mirror, registry, both.
    ``chosen``: whether ``registries.authorize`` says so for all of them.
    """

    registry: str
    repositories: int
    by: str
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistriesDocument:
    """All registries of this node's store, in lexical order. ``time``: when the document was made, UTC."""

    PATH: ClassVar[str] = "/api/registries"

    time: str
    node: str
    registries: tuple[RegistryEntry, ...]
