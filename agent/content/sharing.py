"""What of this node's store may be given, and under which names. One look-up for each request.

A content is given if a name that is mirrored here references it (`agent.content.references`), or if this
node's containerd is fetching it under such a name (`agent.content.fetches`). If the registry decides on a
name, its content is given under no other. A store may have content of other users, whose names this agent
does not know. If it has none, and the settings hold nothing back, content without a name is given too.
"""

import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field

from agent.content.audience import EVERYBODY, NOBODY, Audience, Place, private
from agent.content.fetches import Fetches
from agent.content.references import Key, References, key_of
from agent.oci.authority import Authorities, Authority
from agent.oci.digest import Digest
from agent.oci.filters import Filter
from agent.oci.mirrors import MirrorNames
from agent.oci.reference import Addressed, Kind

_ANY = Digest("sha256:" + "0" * 64)  # a filter looks at the repository of a digest only


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What may be given of one store.

    ``exclusive``: see `ContentStore.exclusive`. ``clock``: seconds of CLOCK_MONOTONIC.
    """

    exclusive: bool
    registries: Filter
    authorities: Authorities
    mirrors: MirrorNames
    references: References = field(default_factory=References)
    fetches: Fetches = field(default_factory=Fetches)
    clock: Callable[[], float] = time.monotonic
    _said: dict[Place, Audience] = field(default_factory=dict)  # of this store's names, by the present rules
    _listeners: list[Callable[[Set[Key] | None], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.registries.on_change(self._said.clear)
        self.authorities.on_change(self._said.clear)

    def audience(self, digest: Digest) -> Audience:
        """Under which names this content may be given."""
        found = self.references.audience(digest)
        key = key_of(digest)
        if key in self.fetches:
            for place in self.fetches.places(key):
                found |= self.says(place) if place else EVERYBODY
        if found is NOBODY and self.gives_unnamed:
            return EVERYBODY
        return found

    @property
    def gives_unnamed(self) -> bool:
        """Whether content is given that no name references."""
        return self.exclusive and self.registries.admits_all_digests and not self.authorities.decide

    def shares(self, digest: Digest) -> bool:
        """Whether peers are told that this node has the content: it is given under some name."""
        return self.audience(digest).included

    def gives(self, target: Addressed, *, registry_decided: bool = True) -> bool:
        """Whether the content is given under this name.

        ``registry_decided``: whether the asker, too, has the rule that the registry decides on the name.
        """
        place = self._place(target) if registry_decided else None
        return self.audience(target.digest).is_for(place)

    def says(self, place: Place) -> Audience:
        """What a name of this repository says of its own content.

        A name of the mirror itself names no registry that could decide on it.
        """
        said = self._said.get(place)
        if said is None:
            said = self._said[place] = self._judge(place)
        return said

    def _judge(self, place: Place) -> Audience:
        registry, repository = place
        named = None if self.mirrors.has(registry) else registry
        included = self.registries.admits(
            Addressed(registry=named, repository=repository, kind=Kind.MANIFEST, digest=_ANY)
        )
        if self.authorities.of(named, repository) is Authority.REGISTRY:
            return private(place, included=included)
        return EVERYBODY if included else NOBODY

    def fetching(self, target: Addressed) -> None:
        """This node's containerd asks for content that is not here, under a name that is mirrored."""
        place = None if target.registry is None else (target.registry, target.repository)
        self.fetches.add(key_of(target.digest), place, self.clock())

    def on_change(self, listener: Callable[[Set[Key] | None], None]) -> None:
        """Call this with the contents that may be given to more or to fewer than before. None: all."""
        self._listeners.append(listener)

    def changed(self, contents: Set[Key] | None) -> None:
        """Tell the listeners."""
        for listener in self._listeners:
            listener(contents)

    def _place(self, target: Addressed) -> Place | None:
        if target.registry is None or not self.authorities.leaves_to_registry(target):
            return None
        return target.registry, target.repository
