"""Under which names a content may be given: what the names say that reference it. Pure.

An image's name belongs to a registry and a repository. Either this mirror decides who may have the image (the
name is *open*), or the registry does (it is *private*, see `agent.oci.authority`).
"""

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from agent.oci.reference import Repository
from agent.oci.registry import Registry

Place = tuple[Registry, Repository]
"""A repository of a registry."""


class Link(Enum):
    """How a manifest references a content."""

    WHOLE = 0  # a manifest, an index, a config
    LAYER = 1
    FETCHED_LAYER = 2  # it was not there yet when this manifest came: so it was fetched for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """What all names together say of one content.

    ``included``: one of them is mirrored here. ``fetched``: it was fetched as a layer of an open name.
    ``places``: the private repositories of whose images it is a manifest, an index or a config.
    ``registries``: those whose private images have it as a layer.
    """

    included: bool = False
    fetched: bool = False
    places: frozenset[Place] = frozenset()
    registries: frozenset[Registry] = frozenset()

    @property
    def is_open(self) -> bool:
        """Whether it is given under every name.

        A manifest or a config never is if a private image has it, even if an open name references it too:
        anybody may push an index to a repository of his own that lists it. A layer may be shared with an open
        image, but only a registry says so. It did if the layer was fetched for the open image. If it was
        there already, nobody asked the registry.
        """
        return not self.places and (self.fetched or not self.registries)

    def is_for(self, place: Place | None) -> bool:
        """Whether it is given under a name that the registry decides on; None: under any other name.

        A registry links manifests to repositories, so they are given under these alone. Its layers are
        given under all of its private names: only who was given a manifest knows their digests.
        """
        if not self.included:
            return False
        if self.is_open:
            return True
        if place is None:
            return False
        return place in self.places if self.places else place[0] in self.registries

    @property
    def in_words(self) -> str:
        """Under which names it is given, in words."""
        if not self.included:
            return "under no name: no name that is mirrored here references it"
        if self.is_open:
            return "under every name"
        if self.places:
            places = sorted(f"{registry}/{repository}" for registry, repository in self.places)
            return f"under the names of {', '.join(places)} alone, as the registry decides"
        return f"under the private names of {', '.join(sorted(self.registries))}, as the registry decides"

    def below(self, link: Link) -> "Audience":
        """What a name says of the content that its manifest references so."""
        match link:
            case Link.WHOLE:
                return self
            case Link.LAYER | Link.FETCHED_LAYER:
                return Audience(
                    included=self.included,
                    fetched=link is Link.FETCHED_LAYER and not self.places,
                    registries=frozenset(registry for registry, _ in self.places),
                )
            case _:
                assert_never(link)

    def __or__(self, other: "Audience") -> "Audience":
        return Audience(
            included=self.included or other.included,
            fetched=self.fetched or other.fetched,
            places=self.places | other.places,
            registries=self.registries | other.registries,
        )


NOBODY = Audience()
EVERYBODY = Audience(included=True)


def private(place: Place, *, included: bool) -> Audience:
    """What a private name says of its own content."""
    return Audience(included=included, places=frozenset((place,)))
