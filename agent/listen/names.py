"""Resolves the tag of a request to a digest, and records when this node saw the tag."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.content.tags import TagAges
from agent.holders.tags import TagResolver
from agent.listen.caller import Caller
from agent.listen.prefetch import Prefetcher
from agent.oci.errors import OciError
from agent.oci.filters import Filter
from agent.oci.reference import Addressed, Kind, Named, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestNames:
    """Resolves tags for callers. ``clock``: Unix seconds."""

    resolver: TagResolver
    ages: TagAges
    registries: Filter
    prefetcher: Prefetcher
    clock: Callable[[], float] = time.time

    def require_mirrored(self, target: Named | Addressed) -> None:
        """Raises `OciError` (404) if the configuration does not mirror the target's registry."""
        if not self.registries.admits(target):
            raise unknown(target, "not mirrored here", hint="registries.include and .exclude decide")

    async def resolve(self, name: Named, caller: Caller) -> Addressed:
        """The manifest that the tag names. Raises `OciError` (404) with the reason if there is no answer."""
        try:
            resolved = await self.resolver.resolve(name, ask_peers=caller.may_ask_peers)
        except OciError:
            if caller.is_local:
                self.ages.declined(name, self.clock())
            raise
        # A client may name no registry. Only now it is known which one decides.
        self.require_mirrored(resolved.name)
        self.resolver.require_resolved_here(resolved.name)
        digest = resolved.descriptor.digest
        if caller.is_local:
            self.ages.resolved(resolved.name, digest, resolved.seen_s)
        self.prefetcher.answered_tag(digest, caller)
        return Addressed(
            registry=resolved.name.registry, repository=name.repository, kind=Kind.MANIFEST, digest=digest
        )
