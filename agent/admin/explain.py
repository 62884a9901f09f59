"""Where this node would get an image or a blob from, and why: ``/api/explain``."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.admin.index import learnt_in_words
from agent.content.offer import ARRIVES_S
from agent.content.store import ContentError, ContentStore
from agent.content.verified import read_manifest
from agent.documents.explain import (
    ContentEntry,
    ExplainDocument,
    HolderEntry,
    PeerFailureEntry,
    PeerReasonEntry,
)
from agent.documents.index import IndexSource
from agent.documents.times import utc
from agent.holders.index import HolderIndex, Holders
from agent.holders.tags import TagResolver
from agent.members.roster import Roster
from agent.oci.digest import Digest, parse_digest
from agent.oci.manifest import Descriptor, Manifest, is_manifest_type
from agent.oci.reference import Addressed, Kind, Named, parse_reference
from agent.pull.policy import Policy
from agent.pull.regard import Regard
from agent.pull.trust import Distrust
from agent.transfer.answers import FetchRequest
from agent.transfer.executor import NobodyHasIt, Puller
from topology.placement import NodeName
from topology.ranking import Ranked

_CONTENT_MAX = 256
_FAILURES_MAX = 100
_PLATFORMS_MAX = 4  # manifests of an index whose content is listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """Answers for one node."""

    own: NodeName
    store: ContentStore
    index: HolderIndex
    resolver: TagResolver
    roster: Roster
    policy: Policy
    puller: Puller
    claim: Callable[[Digest], str | None] = lambda _: None  # who fetches what nobody has, in words
    clock: Callable[[], float] = time.monotonic
    calendar: Callable[[], float] = time.time
    # One explanation at a time: it asks every peer, often many times, and pulls come first.
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def digest(self, text: str) -> ExplainDocument:
        """All holders of one digest, in the order in which a pull tries them. Asks all peers.

        Raises `OciError`.
        """
        digest = parse_digest(text)
        async with self.one_at_a_time:
            return await self._explain(digest, None, ())

    async def image(self, text: str) -> ExplainDocument:
        """The same for an image's manifest, and the choice for each blob that it names.

        Raises `OciError`, also if no node knows the tag.
        """
        reference = self.resolver.offer.understood(parse_reference(text))
        async with self.one_at_a_time:
            return await self._image(reference)

    async def _image(self, reference: Named | Addressed) -> ExplainDocument:
        if isinstance(reference, Named):
            resolved = await self.resolver.resolve(reference, ask_peers=True)
            digest, tag = resolved.descriptor.digest, resolved.source(self.own).document()
            target = Addressed(
                registry=resolved.name.registry,
                repository=reference.repository,
                kind=Kind.MANIFEST,
                digest=digest,
            )
        else:
            target, digest, tag = reference, reference.digest, None
        manifest = await self._manifest(target)
        content = () if manifest is None else await self._content(target, manifest)
        return replace(await self._explain(digest, str(reference), content), tag=tag)

    async def _explain(
        self, digest: Digest, image: str | None, content: Iterable[ContentEntry]
    ) -> ExplainDocument:
        policy = self.policy
        found = await self.index.lookup_everyone(digest)
        now_s = self.clock()  # after the peers answered
        ranked = self._ranked(digest, found)
        arriving = frozenset(each.node for each in found.in_flight)
        reasons = policy.passed_over_reasons(digest, now_s, arriving=arriving)
        local = self.store.holds(digest)
        return ExplainDocument(
            time=utc(self.calendar()),
            node=self.own,
            image=image,
            digest=digest,
            local=local,
            choice=self.own if local else (ranked[0].node if ranked else None),
            holders=tuple(_holder(each) for each in ranked),
            not_asked_in_full=tuple(
                PeerReasonEntry(node=node, reason=reason) for node, reason in policy.unasked(now_s).items()
            ),
            passed_over=_passed_over(reasons, (*found.nodes, *arriving)),
            failures=_failures(policy.regard, now_s),
            content=tuple(content),
            flaw=self._flaw(digest),
            claim=None if local or found.nodes else self.claim(digest),
            given=self.resolver.offer.sharing.audience(digest).in_words if local else None,
            arriving=None if local else self._arriving(digest),
            learnt=learnt_in_words(found, self.index.status()),
        )

    def _arriving(self, digest: Digest) -> str | None:
        """How far this node's containerd is with fetching it, and from whom."""
        growing = self.store.growing(digest)
        if growing is None:
            return None
        lineage = self.puller.lineages.of(digest)
        whence = "its next host" if lineage.origin == self.own else lineage.origin
        steps = f" by {lineage.depth} steps" if lineage.depth > 1 else ""
        told = growing.quiet_s <= ARRIVES_S
        quiet = "" if told else f"; nothing came for {growing.quiet_s:.0f} s, so peers are not told"
        percent = 100 * growing.available_bytes // growing.size_bytes
        part = f"{percent} % ({growing.available_bytes / 1e6:.1f} of {growing.size_bytes / 1e6:.1f} MB)"
        return f"{part}, from {whence}{steps}{quiet}"

    def _ranked(self, digest: Digest, found: Holders) -> tuple[Ranked, ...]:
        """All that a pull may try, also those that are still fetching it."""
        in_flight = {each.node: each.percent for each in found.in_flight}
        return self.policy.ranked(
            digest, found.nodes, self.roster.snapshot, self.clock(), in_flight=in_flight
        )

    def _flaw(self, digest: Digest) -> str | None:
        flaw = self.store.flaw(digest)
        return None if flaw is None else f"held, but {flaw}"

    async def _manifest(self, target: Addressed) -> Manifest | None:
        """The manifest, from this node's store or else from a peer. None if no node gives it."""
        try:
            blob = await self.store.open(target.digest)
        except ContentError:
            pass
        else:
            try:
                return await read_manifest(blob, target.digest)
            except ContentError:
                pass  # a pull would ask the peers as well
        try:
            async with self.puller.pull(FetchRequest(target=target)) as pull:
                _, body = await pull.first_bytes()
                return body.manifest
        except NobodyHasIt:
            return None

    async def _content(self, target: Addressed, manifest: Manifest) -> list[ContentEntry]:
        children = manifest.children[:_CONTENT_MAX]
        rows = list(await asyncio.gather(*(self._row(child, manifest) for child in children)))
        platforms = [child for child in children if is_manifest_type(child.media_type)]
        known = [
            child
            for child, row in zip(children, rows, strict=True)
            if child in platforms and row.choice is not None
        ]
        for child in known[:_PLATFORMS_MAX]:
            nested = await self._manifest(
                Addressed(
                    registry=target.registry,
                    repository=target.repository,
                    kind=Kind.MANIFEST,
                    digest=child.digest,
                )
            )
            if nested is not None:
                below = nested.children[: _CONTENT_MAX - len(rows)]
                rows += await asyncio.gather(*(self._row(each, nested) for each in below))
        return rows

    async def _row(self, child: Descriptor, parent: Manifest) -> ContentEntry:
        local = self.store.holds(child.digest)
        here = self.own, "in this node's store", None
        choice, reason, source = here if local else await self._choose(child.digest)
        flaw = self._flaw(child.digest)
        return ContentEntry(
            digest=child.digest,
            kind=_kind(child, parent),
            size_bytes=child.size_bytes,
            local=local,
            choice=choice,
            reason=reason if flaw is None else f"{reason}; here it is {flaw}",
            learnt=None if source is None else source.value,
        )

    async def _choose(self, digest: Digest) -> tuple[NodeName | None, str, IndexSource | None]:
        """The peer that a pull would try first, why, and who named it."""
        found = await self.index.lookup(digest)
        if ranked := self._ranked(digest, found):
            return ranked[0].node, ranked[0].reason, found.source
        if found.nodes or found.in_flight:
            return None, "no pull tries its holders now", found.source
        unasked = any(True for _ in self.policy.regard.cooling(self.clock()))
        reason = "nobody that was asked in full holds it" if unasked else "nobody holds it"
        return None, reason, found.source


def _failures(regard: Regard, now_s: float) -> tuple[PeerFailureEntry, ...]:
    newest = sorted(regard.failures(), key=lambda each: (-each[1].at_s, each[0]))[:_FAILURES_MAX]
    return tuple(
        PeerFailureEntry(
            node=node,
            failure=failure.words,
            age_s=round(max(0.0, now_s - failure.at_s), 3),
            answered_since=regard.answered_since(node),
        )
        for node, failure in newest
    )


def _passed_over(
    reasons: Mapping[NodeName, Distrust], holders: Iterable[NodeName]
) -> tuple[PeerReasonEntry, ...]:
    """Those of the holders that no pull tries now, each with its reason."""
    nodes = sorted(reasons.keys() & frozenset(holders))
    return tuple(PeerReasonEntry(node=node, reason=reasons[node].value) for node in nodes)


def _holder(ranked: Ranked) -> HolderEntry:
    standing = ranked.standing
    return HolderEntry(
        node=ranked.node,
        tier=ranked.tier.label,
        rank=ranked.rank,
        rtt_us=None if standing is None else round(standing.cost_us, 3),
        source=None if standing is None else standing.source.value,
        load=ranked.condition.load,
        reason=ranked.reason,
    )


def _kind(child: Descriptor, parent: Manifest) -> str:
    if is_manifest_type(child.media_type):
        return "manifest"
    return "config" if child == parent.config else "layer"
