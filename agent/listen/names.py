"""Resolves the tag of a request to a digest, and records when this node saw the tag."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.content.offer import Offer
from agent.holders.tags import Resolved, TagResolver
from agent.listen.caller import Caller
from agent.listen.prefetch import Prefetcher
from agent.oci.errors import OciError
from agent.oci.reference import Named


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestNames:
    """Resolves tags for callers. ``clock``: Unix seconds."""

    resolver: TagResolver
    prefetcher: Prefetcher
    clock: Callable[[], float] = time.time

    @property
    def offer(self) -> Offer:
        """What this node answers for at all."""
        return self.resolver.offer

    async def resolve(self, name: Named, caller: Caller) -> Resolved:
        """The digest that the tag names. Raises `OciError` (404) with the reason if there is no answer."""
        ages = self.offer.ages
        if caller.committed:
            ages.asked(name)
        try:
            resolved = await self.resolver.resolve(name, ask_peers=caller.may_ask_peers)
        except OciError:
            if caller.is_local:
                ages.declined(name, self.clock())
            raise
        digest = resolved.descriptor.digest
        if caller.is_local and not resolved.imported:
            ages.resolved(resolved.name, digest, resolved.seen_s, resolved.voucher)
        self.prefetcher.answered_tag(digest, caller)
        return resolved
