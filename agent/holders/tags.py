"""Resolves a tag to a digest, from this node's store or from a peer's.

A registry's word comes first, wherever it was heard: this node's own store answers if its tag was seen at
the registry within the last `tags.max_age_s`, and else the peer that saw it there last, within the same time.
An imported tag is the answer only if no registry's word is known. If there is no answer, the 404 makes
containerd ask the registry, with one HEAD. What a store's names are worth: `agent.content.offer`.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.content.offer import KnownTag, Offer
from agent.holders.tagfinder import TagAnswer, TagFinder
from agent.holders.wire import Flying, Question, Reply
from agent.observe.requests import TagSource
from agent.oci.errors import OciError
from agent.oci.manifest import Descriptor
from agent.oci.reference import Named, unknown
from topology.placement import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A tag's digest. ``node``: who said so; None: this node's own store.

    ``voucher``: the node that saw the tag at the registry, ``age_s`` ago, at Unix time ``seen_s``. For an
    ``imported`` tag: the node that has it, since when.
    """

    name: Named
    descriptor: Descriptor
    age_s: float
    seen_s: float
    voucher: NodeName
    imported: bool
    node: NodeName | None

    def source(self, own: NodeName) -> TagSource:
        """Whose word it is. ``own``: this node."""
        return TagSource(
            told_by=self.node or own, vouched_by=self.voucher, age_s=self.age_s, imported=self.imported
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TagResolver:
    """Resolves tags for clients, and replies to peers' questions. ``clock``: Unix seconds.

    ``not_asked``: the end of a sentence that says which peers were not asked; see `agent.pull.absence`.
    """

    offer: Offer
    finder: TagFinder
    max_age_s: float
    clock: Callable[[], float] = time.time
    not_asked: Callable[[], str] = str

    async def resolve(self, name: Named, *, ask_peers: bool) -> Resolved:
        """The digest of ``name``. Raises `OciError` (404) with the reason if there is no answer."""
        offer = self.offer
        problem = offer.problem(name)
        if problem is not None:
            raise problem
        known = offer.known(name)
        own = [self._resolved(tag, None) for tag in known if tag.imported or tag.age_s <= self.max_age_s]
        if name.registry is not None and own and not own[0].imported:
            return own[0]
        answers = await self.finder.find_tag(name, max_age_s=self.max_age_s) if ask_peers else ()
        told = [self._resolved(answer, answer.node) for answer in answers if self._counts(answer)]
        _require_one_digest(name, [*known, *told])
        # The sort keeps the order of equals: this node's own word first, then the freshest.
        words = sorted([*own, *told], key=lambda word: word.imported)
        if not words:
            raise self._refusal(name, known, answers)
        return words[0]

    def reply_to(self, question: Question) -> Reply:
        """This node's reply to a peer's question."""
        offer, store = self.offer, self.offer.store
        # In this order: what is committed between the two looks is held.
        arriving = {digest: offer.arriving(digest) for digest in question.digests if not store.holds(digest)}
        held = frozenset(
            digest for digest in question.digests if store.holds(digest) and offer.shares(digest)
        )
        return Reply(
            held=held,
            in_flight={
                digest: Flying(available_bytes=growing.available_bytes, size_bytes=growing.size_bytes)
                for digest, growing in arriving.items()
                if growing is not None and digest not in held
            },
            tags=tuple(
                tag
                for name in dict.fromkeys(question.tags)
                for tag in offer.known(offer.understood(name))
                if store.holds(tag.descriptor.digest)
            ),
        )

    def _counts(self, answer: TagAnswer) -> bool:
        """Whether a peer's answer counts here: it may see another cluster of registries than this node."""
        return self.offer.speaks_of(answer.name) and (self.offer.share_imported or not answer.imported)

    def _resolved(self, tag: KnownTag | TagAnswer, node: NodeName | None) -> Resolved:
        return Resolved(
            name=tag.name,
            descriptor=tag.descriptor,
            age_s=tag.age_s,
            seen_s=self.clock() - tag.age_s,
            voucher=tag.voucher,
            imported=tag.imported,
            node=node,
        )

    def _refusal(self, name: Named, known: Sequence[KnownTag], answers: Sequence[TagAnswer]) -> OciError:
        left_out = [image.name for image in self.offer.found(name)] + [answer.name for answer in answers]
        if name.registry is None and len(left_out) == 1:
            problem = self.offer.problem(left_out[0])
            if problem is not None:
                return problem
        reason = f"nobody saw this tag in the last {self.max_age_s:g} s"
        doubts = self.offer.doubts(name)
        if known:
            reason += f"; this node did {min(tag.age_s for tag in known):.0f} s ago"
        elif doubts:
            reason += f"; this node has it, but {doubts[0].value}"
        return unknown(
            name,
            reason + self.not_asked(),
            hint="containerd asks the registry, with one HEAD; tags.max_age_s is the limit",
        )


def _require_one_digest(name: Named, found: Iterable[KnownTag | Resolved]) -> None:
    """Without a registry, a name must mean one thing. Several registries may agree on it."""
    found = list(found)
    registries = sorted({str(each.name.registry) for each in found})
    if name.registry is None and len(registries) > 1 and len({each.descriptor.digest for each in found}) > 1:
        error: OciError = unknown(
            name, f"several registries have this name: {', '.join(registries)}", hint="add ?ns=REGISTRY"
        )
        raise error
