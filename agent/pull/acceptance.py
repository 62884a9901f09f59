"""Whether it is this node or a peer whose proof is wrong, if the peer refuses this node's. Pure.

A refusal alone says only that two nodes differ: in their keys, in their clocks, in their lists. If one peer
refuses and others accept, it is that peer which differs, and pulls avoid it like any peer that fails. If all
refuse that were asked since the last one accepted, it is this node. Then no peer has a part in it. The same
question about ways to peers is answered in `agent.pull.ways`. Times are seconds of one monotonic clock.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

from topology.placement import NodeName

_ENOUGH = 2  # peers that refuse: with one, it may be the peer's trouble as well
_LISTED_SOON_S = 60.0  # after this time a node that joined is in everybody's list
_AGAIN_S = 1.0  # a look-up asks dozens of peers, and many look-ups may come at once
_MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A peer's refusal. ``words``: the rest of a sentence about it. ``hint``: what to do.

    ``unlisted``: all that it has against this node is that it is not in its list of members. ``at_s``: when
    it said so last. ``since_s``: when it did first.
    """

    words: str
    hint: str
    at_s: float
    since_s: float
    unlisted: bool = False


class Acceptance:
    """What the peers thought of this node's proof when they saw it last."""

    def __init__(self) -> None:
        self._refused: dict[NodeName, Refused] = {}  # since any other peer accepted
        self._alone: dict[NodeName, Refused] = {}  # others accepted since
        self._members: Set[NodeName] = frozenset()

    def members_changed(self, members: Iterable[NodeName]) -> None:
        """These are the members now. Forget all others. A mapping is kept, and may not change."""
        self._members = members.keys() if isinstance(members, Mapping) else frozenset(members)
        for known in (self._refused, self._alone):
            for node in known.keys() - self._members:
                del known[node]

    def accepted(self, node: NodeName) -> None:
        """The peer accepted this node's proof."""
        if not (self._refused or self._alone):
            return
        self._refused.pop(node, None)
        self._alone.pop(node, None)
        self._alone |= self._refused
        self._refused.clear()

    def refused(self, node: NodeName, refusal: Refused) -> bool:
        """The peer refused this node's proof. Returns whether that is not the peer's fault."""
        if node in self._alone and not self._refused:
            self._alone[node] = refusal
            return refusal.unlisted
        known = self._refused.get(node)
        if known is not None and known.unlisted and refusal.unlisted:
            refusal = replace(refusal, since_s=known.since_s)  # it may be listed soon
        self._alone.pop(node, None)
        if len(self._refused) < _MOST:
            self._refused[node] = refusal
        return True

    def refused_lately(self, node: NodeName, now_s: float) -> Refused | None:
        """The peer's refusal, if it is so fresh that asking again is of no use, and it is not its fault."""
        refusal = self._refused.get(node)
        return refusal if refusal is not None and now_s - refusal.at_s < _AGAIN_S else None

    def problem(self, now_s: float) -> Refused | None:
        """What is wrong with this node's own proof. None: nothing that is known."""
        against = [
            (node, refusal)
            for node, refusal in self._refused.items()
            if not refusal.unlisted or now_s - refusal.since_s >= _LISTED_SOON_S
        ]
        if not against or len(against) < min(_ENOUGH, len(self._members)):
            return None
        node, refusal = against[-1]
        others = f", and {len(against) - 1} more refuse it" if len(against) > 1 else ""
        return Refused(
            words=f"{node} {refusal.words}{others}; no peer accepts it",
            hint=refusal.hint,
            at_s=refusal.at_s,
            since_s=refusal.since_s,
        )

    def alone(self, now_s: float) -> Iterable[tuple[NodeName, Refused]]:
        """The peers that refuse this node's proof, although others accept it."""
        for node, refusal in self._alone.items():
            if not refusal.unlisted or now_s - refusal.since_s >= _LISTED_SOON_S:
                yield node, refusal
