"""Resolves a tag to a digest, from this node's store or from a peer's.

There is an answer only if `tags.resolve` is set and the tag is not excluded. The local store answers whenever
it has the name. A peer's answer counts only if that peer saw the tag from the registry within the last
`tags.max_age_s`.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.content.store import ContentStore, TaggedImage
from agent.content.tags import TagAges
from agent.holders.tagfinder import TagFinder
from agent.holders.wire import KnownTag, Question, Reply
from agent.oci.errors import OciError
from agent.oci.filters import Filter
from agent.oci.manifest import Descriptor
from agent.oci.reference import Named, unknown
from topology.placement import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A tag's digest. ``node``: the peer that knew it; None: this node's own store."""

    name: Named
    descriptor: Descriptor
    seen_s: float
    node: NodeName | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TagResolver:
    """Resolves tags for clients, and replies to peers' questions. Times are Unix seconds."""

    store: ContentStore
    ages: TagAges
    finder: TagFinder
    tags: Filter
    enabled: bool
    max_age_s: float
    clock: Callable[[], float] = time.time

    async def resolve(self, name: Named, *, ask_peers: bool) -> Resolved:
        """The digest of ``name``. Raises `OciError` (404) with the reason if there is no answer."""
        if not self.enabled:
            raise unknown(name, "tags are not resolved here", hint="tags.resolve is false")
        self.require_resolved_here(name)
        local = self.store.find(name.repository, name.tag, name.registry)
        if name.registry is not None and local:
            return self._local(local[0])
        answers = await self.finder.find_tag(name, max_age_s=self.max_age_s) if ask_peers else ()
        if name.registry is None:
            _require_one_registry(name, [*(i.name for i in local), *(a.name for a in answers)])
            if local:
                return self._local(local[0])
        if not answers:
            raise unknown(
                name,
                f"nobody saw this tag in the last {self.max_age_s:g} s",
                hint="the first node to pull it asks the registry; tags.max_age_s is the limit",
            )
        freshest = answers[0]
        return Resolved(
            name=freshest.name,
            descriptor=freshest.descriptor,
            seen_s=self.clock() - freshest.age_s,
            node=freshest.node,
        )

    def require_resolved_here(self, name: Named) -> None:
        """Raises `OciError` (404) if the settings leave this tag to the registry."""
        if not self.tags.admits(name):
            raise unknown(
                name, "this tag is never resolved here", hint="tags.exclude or tags.resolve_latest says so"
            )

    def reply_to(self, question: Question) -> Reply:
        """This node's reply to a peer's question."""
        return Reply(
            held=frozenset(digest for digest in question.digests if self.store.holds(digest)),
            tags=tuple(self._known(dict.fromkeys(question.tags))) if self.enabled else (),
        )

    def _local(self, image: TaggedImage) -> Resolved:
        return Resolved(
            name=image.name, descriptor=image.descriptor, seen_s=self.ages.seen_s(image), node=None
        )

    def _known(self, names: Iterable[Named]) -> Iterable[KnownTag]:
        now_s = self.clock()
        for name in names:
            if not self.tags.admits(name):
                continue
            for image in self.store.find(name.repository, name.tag, name.registry):
                if self.store.holds(image.descriptor.digest):
                    # A clock that was set back must not make an age negative.
                    age_s = max(0.0, now_s - self.ages.seen_s(image))
                    yield KnownTag(name=image.name, descriptor=image.descriptor, age_s=age_s)


def _require_one_registry(name: Named, found: list[Named]) -> None:
    registries = sorted({str(each.registry) for each in found})
    if len(registries) > 1:
        error: OciError = unknown(
            name, f"several registries have this name: {', '.join(registries)}", hint="add ?ns=REGISTRY"
        )
        raise error
