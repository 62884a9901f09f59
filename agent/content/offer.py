"""What this node offers of its store: the one place that decides which names and digests it speaks of.

Requests, answers to peers, announcements and lists all ask here, so that what is not served is not announced
either. A tag is offered only if somebody vouches for it: the store says that its content came from the
registry and repository of its name, and this node's containerd asked for it if it asks for tags here at all.
An imported tag is offered only if `tags.share_imported` says so. docs/decisions/0023 has the reasons.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from agent.content.sharing import Sharing
from agent.content.store import ContentStore, Growing, TaggedImage
from agent.content.tags import TagAges
from agent.oci.authority import Authorities
from agent.oci.digest import Digest
from agent.oci.errors import LeftToRegistry, OciError
from agent.oci.filters import Filter
from agent.oci.manifest import Descriptor
from agent.oci.mirrors import MirrorNames
from agent.oci.origin import Origin
from agent.oci.reference import Addressed, Named, ReferrerList, Repository, TagList, unknown
from topology.placement import NodeName

ARRIVES_S = 10.0
"""Content of which nothing came for so long does not arrive: its owner died, or its registry is silent."""

_Target = TypeVar("_Target", bound=Named | Addressed | TagList | ReferrerList)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTag:
    """What a node says of a tag. Its name always has a registry.

    ``age_s``: how long ago the tag was seen at the registry. ``voucher``: the node that saw it there. For an
    ``imported`` tag, no registry was asked: ``age_s`` counts from the import, and bounds nothing.
    """

    name: Named
    descriptor: Descriptor
    age_s: float
    voucher: NodeName
    imported: bool = False


class Doubt(Enum):
    """Why nobody vouches for a tag of this node's store."""

    RENAMED = "its content was pulled under another name and given this one here"
    UNASKED = "it was given this name here: containerd did not ask for it"
    IMPORTED = "it was imported or built here, and tags.share_imported is not set"
    POSTDATED = "its record is dated in the future, so its age is not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one node offers. ``resolve``: whether tags are resolved at all.

    ``share_arriving``: whether content is offered while this node's containerd is still fetching it.
    """

    own: NodeName
    store: ContentStore
    ages: TagAges
    sharing: Sharing
    tags: Filter
    resolve: bool
    share_imported: bool
    share_arriving: bool = False

    @property
    def mirrors(self) -> MirrorNames:
        """The names of the mirror itself."""
        return self.sharing.mirrors

    @property
    def registries(self) -> Filter:
        """Which names are mirrored here."""
        return self.sharing.registries

    @property
    def authorities(self) -> Authorities:
        """Who decides on which names."""
        return self.sharing.authorities

    def understood(self, target: _Target) -> _Target:
        """The target without a registry, if the registry that it names is this mirror itself."""
        if target.registry is None or not self.mirrors.has(target.registry):
            return target
        return replace(target, registry=None)

    def admits(self, target: Named | Addressed) -> bool:
        """Whether the configuration mirrors the target."""
        return self.registries.admits(target)

    def require(self, target: Named | Addressed) -> None:
        """Raises `OciError` (404) if the configuration does not mirror the target."""
        if not self.admits(target):
            raise _not_mirrored(target)

    def require_head(self, target: Addressed) -> None:
        """Raises `OciError` (404) for a HEAD that has to go to the registry, which decides who may have it.

        containerd asks the registry next, with the pod's credentials. It GETs only what a HEAD answered for.
        """
        if self.authorities.leaves_to_registry(target):
            raise _decided_by_registry(target)

    def problem(self, name: Named) -> OciError | None:
        """The 404 for a tag that the configuration leaves to the registry. None if it does not.

        A client may name no registry. Only with the answer it is known which one decides.
        """
        if not self.resolve:
            off = unknown(name, "tags are not resolved here", hint="tags.resolve is false")
            return off.as_left_to_registry()
        if not self.admits(name):
            return _not_mirrored(name)
        if self.authorities.leaves_to_registry(name):
            return _decided_by_registry(name)
        if not self.tags.admits(name):
            hint = "tags.exclude or tags.resolve_latest says so"
            return unknown(name, "this tag is never resolved here", hint=hint).as_left_to_registry()
        return None

    def speaks_of(self, name: Named) -> bool:
        """Whether the configuration lets a node answer for a tag. Never for the mirror's own names."""
        return not self._is_mirror(name) and self.problem(name) is None

    def found(self, name: Named) -> tuple[TaggedImage, ...]:
        """The tags of this name in the store, whoever vouches for them."""
        return self.store.find(name.repository, name.tag, name.registry)

    def known(self, name: Named) -> tuple[KnownTag, ...]:
        """What this node says of a tag, in each registry if the name has none. Whatever its age."""
        said = (self.judge(image) for image in self.found(name))
        return tuple(each for each in said if isinstance(each, KnownTag))

    def doubts(self, name: Named) -> tuple[Doubt, ...]:
        """Why this node says nothing of a tag that its store has."""
        said = (self.judge(image) for image in self.found(name))
        return tuple(each for each in said if isinstance(each, Doubt))

    def judge(self, image: TaggedImage) -> KnownTag | Doubt | None:
        """What this node says of a tag of its store.

        None: the configuration leaves it out, or its content is given under other names only.
        """
        if not self.speaks_of(image.name) or self._is_private(image):
            return None
        age_s = self.ages.age_s(image)
        if image.origin is Origin.IMPORTED:
            if not self.share_imported:
                return Doubt.IMPORTED
            age_s = 0.0 if math.isinf(age_s) else age_s
        elif image.origin is Origin.ELSEWHERE:
            return Doubt.RENAMED
        elif not self.ages.was_asked_for(image):
            return Doubt.UNASKED
        elif math.isinf(age_s):
            return Doubt.POSTDATED
        return KnownTag(
            name=image.name,
            descriptor=image.descriptor,
            age_s=age_s,
            voucher=self.ages.voucher(image) or self.own,
            imported=image.origin is Origin.IMPORTED,
        )

    def images(self, repository: Repository) -> tuple[TaggedImage, ...]:
        """The images of a repository whose digests are served."""
        return tuple(each for each in self.store.images(repository) if self._is_listed(each))

    def _is_listed(self, image: TaggedImage) -> bool:
        name = image.name
        if not self.admits(name) or self.authorities.leaves_to_registry(name) or self._is_mirror(name):
            return False
        return not self._is_private(image)

    def shares(self, digest: Digest) -> bool:
        """Whether peers are told that this node has the digest: it is given under some name."""
        return self.sharing.shares(digest)

    def arriving(self, digest: Digest) -> Growing | None:
        """How far this node's containerd is with a content that it is fetching, if peers are told of that.

        None also as long as no byte of it is here. Cost: for content that it does not fetch, a look-up.
        """
        if not (self.share_arriving and self.shares(digest)):
            return None
        growing = self.store.growing(digest)
        if growing is None or not growing.available_bytes or growing.quiet_s > ARRIVES_S:
            return None
        return growing

    def gives_arriving(self, target: Addressed, *, registry_decided: bool) -> bool:
        """Whether a content is given under this name while it arrives. See `Sharing.gives`."""
        return self.share_arriving and self.sharing.gives(target, registry_decided=registry_decided)

    def fetching(self, target: Addressed) -> None:
        """This node's containerd asks for a content. If it is not here, it will be soon."""
        if not self.store.holds(target.digest):
            self.sharing.fetching(target)

    def _is_private(self, image: TaggedImage) -> bool:
        """Whether the content of an open name is also a private image's: it is given under that one's alone.

        What a name itself says of its content counts a moment before it is followed.
        """
        return bool(self.sharing.audience(image.descriptor.digest).places)

    def _is_mirror(self, name: Named) -> bool:
        return name.registry is not None and self.mirrors.has(name.registry)


def _decided_by_registry(target: Named | Addressed) -> OciError:
    return LeftToRegistry(
        f"{target}: shorthaul leaves it to the registry who may have this image",
        hint="registries.authorize says so; containerd asks the registry next, with the pod's credentials",
    ).as_left_to_registry()


def _not_mirrored(target: Named | Addressed) -> OciError:
    error = unknown(target, "not mirrored here", hint="registries.include and .exclude decide")
    return error.as_left_to_registry()
