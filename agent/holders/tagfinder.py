"""Finds the nodes that know a tag: the contract, and its only implementation, which asks the peers.

In a large cluster it asks those of the own zone only (`agent.pull.nearby.EVERYBODY_MAX`). A registry that is
asked once per zone sees no crowd, and no index in a server is trusted with what a tag means.
"""

from dataclasses import dataclass
from typing import Protocol

from agent.content.offer import KnownTag
from agent.holders.asking import PeerAsker
from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.oci.manifest import Descriptor
from agent.oci.reference import Named
from topology.placement import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class TagAnswer:
    """What a peer says of a tag. See `KnownTag`."""

    node: NodeName
    name: Named
    descriptor: Descriptor
    age_s: float
    voucher: NodeName
    imported: bool = False


class TagFinder(Protocol):
    """Finds the nodes that know a tag, and the digest that it has there."""

    async def find_tag(self, name: Named, *, max_age_s: float) -> tuple[TagAnswer, ...]:
        """Answers of a registry that are not older than ``max_age_s``, freshest first; then imported tags.

        If the name has a registry, the answers come from the nearest ring with a registry's answer. If there
        is none, or the name has no registry, they come from every peer that is asked, so that no import hides
        a registry's answer, and the caller sees whether the name is unique. Never raises because of a peer.
        """
        ...


class ScatterTagFinder:
    """Asks the peers each time, without a cache. See `TagFinder`."""

    def __init__(self, asker: PeerAsker) -> None:
        self._asker = asker

    async def find_tag(self, name: Named, *, max_age_s: float) -> tuple[TagAnswer, ...]:
        """See `TagFinder.find_tag`."""
        question = Question(tags=(name,))
        answers: dict[int, list[TagAnswer]] = {}  # by ring
        imports: list[TagAnswer] = []

        def on_reply(peer: Peer, reply: Reply, ring: int) -> bool:
            has = False
            for tag in reply.tags:
                if not _fits(tag.name, name):
                    continue
                if tag.imported:
                    imports.append(_answer(peer, tag))
                elif tag.age_s <= max_age_s:
                    answers.setdefault(ring, []).append(_answer(peer, tag))
                    has = True
            return has

        if name.registry is None:
            await self._asker.ask_everyone(question, on_reply)
            found = [answer for ring in answers.values() for answer in ring]
        else:
            await self._asker.ask_nearest(
                question=lambda: None if answers else question,
                on_reply=on_reply,
                enough=lambda nearest: bool(answers) and min(answers) < nearest,
                patient=True,  # an equally near peer may have a fresher answer
            )
            found = answers[min(answers)] if answers else []
        return tuple(sorted([*found, *imports], key=lambda answer: (answer.imported, answer.age_s)))


def _answer(peer: Peer, tag: KnownTag) -> TagAnswer:
    return TagAnswer(
        node=peer.name,
        name=tag.name,
        descriptor=tag.descriptor,
        age_s=tag.age_s,
        voucher=tag.voucher,
        imported=tag.imported,
    )


def _fits(found: Named, wanted: Named) -> bool:
    same_name = (found.repository, found.tag) == (wanted.repository, wanted.tag)
    return same_name and found.registry is not None and wanted.registry in (None, found.registry)
