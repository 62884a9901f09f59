"""Which peers gave wrong bytes of which digest, as far as this node can know.

There are three findings (`Distrust`). Each holds for one peer and one digest, and for a limited time.

A peer's body broke off, stalled or was invalid. A client that resumes is then served by another peer, or
told at once that there is none.

A peer is suspect. containerd verifies a blob when it commits it to its store. So a blob is doubtful if it was
delivered whole and containerd does not commit it, or requests it again from its start. Every peer that gave a
part of it then becomes suspect. If the client perhaps did not read all of it, the peers become suspect only
when this happens a second time. A suspect is asked last, and never left out: this agent fetches the blob from
it again and hashes it (`agent.transfer.checks`).

A peer is wrong. This agent hashed what the peer gives, and it is not the content. Only this is proof.

What this node could not commit makes nobody suspect. A delivery counts only if its client is the containerd
whose store this is, and if that store was well from the first byte to the verdict (docs/decisions/0014).

Pure. Times are seconds of one monotonic clock. The tables are bounded, and the oldest digests are dropped.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from agent.oci.digest import Digest
from topology.placement import NodeName

_DIGESTS_MAX = 4096
_WITNESS_S = 60.0  # a commit of another blob, so long before a delivery began, still speaks for its client
_SPANS_MAX = 256  # of one delivery; a client that wants the whole blob does not leave so many gaps

_NO_ORIGINS: Mapping[NodeName, NodeName] = {}

_Table = OrderedDict[Digest, dict[NodeName, float]]
"""For each digest, the peers not to ask for it, and until when."""


class Distrust(Enum):
    """What is held against a peer for one digest. The value is what ``/api/explain`` says."""

    BROKE_OFF = "its body of this digest broke off, stalled or was invalid"
    SUSPECT = "suspect: what it gave of this digest was not committed, so it is asked last and checked"
    WRONG = "wrong: this node hashed what it gives of this digest"

    @property
    def is_out(self) -> bool:
        """Whether no pull of the digest may try the peer. Otherwise it is the last one that is tried."""
        return self is not Distrust.SUSPECT


@dataclass(slots=True)
class _Delivery:
    """What a client was sent of a blob that is not in the store yet."""

    size_bytes: int
    began_s: float
    received: bool | None  # whether the store's owner was writing it; None: that can't be seen
    sources: set[NodeName] = field(default_factory=set)
    through: dict[NodeName, set[NodeName]] = field(default_factory=dict)  # who passed on what a source had
    spans: list[tuple[int, int]] = field(default_factory=list)  # disjoint, sorted
    whole_s: float | None = None  # when the client had been sent all of it
    taken: bool = True  # False: the client may have discarded a part of what it was sent

    def add(self, start: int, stop: int, now_s: float) -> None:
        spans: list[tuple[int, int]] = []
        for low, high in sorted([*self.spans, (start, stop)]):
            if spans and low <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], high))
            else:
                spans.append((low, high))
        self.spans = spans
        if self.whole_s is None and spans == [(0, self.size_bytes)]:
            self.whole_s = now_s


class Trust:
    """Who is not trusted with which digest.

    ``commit_s``: a delivered blob has to be in the store after this time. ``suspect_s``: a source stays
    suspect or wrong for this time. If its bytes were hashed and are right, it is not suspected for this time.
    """

    def __init__(self, *, commit_s: float = 30.0, suspect_s: float = 600.0) -> None:
        self._commit_s = commit_s
        self._suspect_s = suspect_s
        self._tables: dict[Distrust, _Table] = {reason: OrderedDict() for reason in Distrust}
        self._right: _Table = OrderedDict()  # hashed, and right
        self._deliveries: OrderedDict[Digest, _Delivery] = OrderedDict()
        self._warned: OrderedDict[Digest, None] = OrderedDict()
        self._committed_s = -math.inf  # when a delivered blob was committed last
        self._unwell_s = -math.inf  # when the store was not well last

    @property
    def pending_bytes(self) -> int:
        """The size of all blobs that were delivered, in part or whole, and are not in the store yet."""
        return sum(delivery.size_bytes for delivery in self._deliveries.values())

    def store_unwell(self, now_s: float) -> None:
        """The store may have lost what it was sent until now. All of that says nothing about its sources."""
        self._unwell_s = now_s
        self._deliveries.clear()
        self._warned.clear()

    def distrust(self, digest: Digest, node: NodeName, until_s: float) -> None:
        """The peer's body of this digest was bad. Do not ask the peer for it until ``until_s``."""
        _set(self._tables[Distrust.BROKE_OFF], digest, node, until_s)

    def served(self, node: NodeName) -> None:
        """The peer delivered a large body whole, so forget which of its bodies broke off."""
        for nodes in self._tables[Distrust.BROKE_OFF].values():
            nodes.pop(node, None)

    def checked(self, digest: Digest, node: NodeName, *, right: bool, now_s: float) -> None:
        """This agent fetched the whole content from the peer and hashed it."""
        for reason in (Distrust.SUSPECT, Distrust.BROKE_OFF):
            self._tables[reason].get(digest, {}).pop(node, None)
        _set(self._right if right else self._tables[Distrust.WRONG], digest, node, now_s + self._suspect_s)

    def reasons(self, digest: Digest, now_s: float) -> dict[NodeName, Distrust]:
        """The peers that are not trusted with this digest, and why. Of several reasons, the gravest."""
        return {
            node: reason
            for reason in (Distrust.SUSPECT, Distrust.BROKE_OFF, Distrust.WRONG)
            for node, until_s in self._tables[reason].get(digest, {}).items()
            if now_s < until_s
        }

    def entries(self, now_s: float) -> Iterator[tuple[Digest, NodeName, Distrust, float]]:
        """Each digest, a peer that is not trusted with it, why, and for how many more seconds."""
        for digest in dict.fromkeys(digest for table in self._tables.values() for digest in table):
            for node, reason in self.reasons(digest, now_s).items():
                yield digest, node, reason, self._tables[reason][digest][node] - now_s

    def delivered(
        self,
        digest: Digest,
        sources: Iterable[NodeName],
        *,
        start: int,
        stop: int,
        size_bytes: int,
        taken: bool,
        began_s: float,
        now_s: float,
        received: bool | None = None,
        origins: Mapping[NodeName, NodeName] = _NO_ORIGINS,
    ) -> None:
        """This node's containerd was sent bytes ``start`` to ``stop`` of a blob. They came from ``sources``.

        ``origins``: for sources that passed on what they had not verified, the first node that had it. If the
        blob turns out wrong, that one is suspect. If it was suspect before, or what it gives was hashed and
        is right, whoever passed the blob on is suspect as well: it may have named an innocent one.

        ``sources`` is empty if this agent verified the blob. ``taken``: the client stayed to the end of what
        it asked for. A client that closes earlier may not have read all of it. ``began_s``: when the client
        asked. ``received``: whether the store's owner was writing the blob then; None: that can't be seen.
        """
        if start >= stop or self._says_nothing(began_s, received):
            return
        delivery = self._deliveries.get(digest)
        if delivery is None or delivery.size_bytes != size_bytes:
            delivery = self._deliveries[digest] = _Delivery(
                size_bytes=size_bytes, began_s=began_s, received=received
            )
        for source in sources:
            origin = origins.get(source, source)
            delivery.sources.add(origin)
            if origin != source:
                delivery.through.setdefault(origin, set()).add(source)
        delivery.taken &= taken
        delivery.add(start, stop, now_s)
        if len(delivery.spans) > _SPANS_MAX:
            del self._deliveries[digest]
            return
        _touch(self._deliveries, digest)

    def redirected(
        self, digest: Digest, node: NodeName, *, size_bytes: int, now_s: float, received: bool | None = None
    ) -> None:
        """This node's containerd was redirected to this peer for the blob.

        This agent does not see that transfer. It learns of a failure only if containerd requests it again.
        """
        if self._says_nothing(now_s, received):
            return
        new = _Delivery(size_bytes=size_bytes, began_s=now_s, received=received)
        delivery = self._deliveries.setdefault(digest, new)
        delivery.sources.add(node)
        delivery.whole_s, delivery.taken = math.inf, False
        _touch(self._deliveries, digest)

    def committed(self, digest: Digest, now_s: float) -> None:
        """The blob is in the store, so its sources gave the right bytes."""
        if self._deliveries.pop(digest, None) is not None:
            self._committed_s = now_s
        self._warned.pop(digest, None)

    def requested_again(self, digest: Digest, now_s: float) -> Set[NodeName]:
        """containerd requests the whole blob. Returns the sources that became suspect.

        They do if containerd was sent the whole blob before: it should have committed it.
        """
        delivery = self._deliveries.pop(digest, None)
        if delivery is None or delivery.whole_s is None:
            return frozenset()
        return self._suspect(digest, delivery, now_s)

    def suspect_overdue(
        self,
        now_s: float,
        *,
        holds: Callable[[Digest], bool] = lambda _: False,
        receiving: Callable[[Digest], bool | None] = lambda _: None,
    ) -> Mapping[Digest, Set[NodeName]]:
        """Suspect the sources of blobs that should be in the store by now. Returns those that became suspect.

        ``holds``: whether the store has a digest. A blob may be committed before its delivery ends here.
        ``receiving``: whether the store's owner is still writing it; None: that can't be seen.
        """
        late = [
            (digest, delivery)
            for digest, delivery in self._deliveries.items()
            if delivery.whole_s is not None and now_s - delivery.whole_s >= self._commit_s
        ]
        suspects: dict[Digest, Set[NodeName]] = {}
        for digest, delivery in late:
            if holds(digest):
                self.committed(digest, now_s)
            elif not receiving(digest):  # a slow disk takes its time
                del self._deliveries[digest]
                if found := self._suspect(digest, delivery, now_s):
                    suspects[digest] = found
        return suspects

    def _says_nothing(self, began_s: float, received: bool | None) -> bool:
        """Whether what becomes of a delivery says nothing about its sources.

        Either its client is not the one whose store this is, or that store was not well meanwhile.
        """
        return received is False or began_s <= self._unwell_s

    def _suspect(self, digest: Digest, delivery: _Delivery, now_s: float) -> Set[NodeName]:
        seen = delivery.received or self._committed_s >= delivery.began_s - _WITNESS_S
        if not seen:  # perhaps the client keeps its content elsewhere
            return frozenset()
        if not delivery.taken and digest not in self._warned:
            # A client that fetches a blob in parts leaves each part before its end. So this is no evidence
            # the first time: the client may have cancelled the pull.
            self._warned[digest] = None
            _touch(self._warned, digest)
            return frozenset()
        reasons = self.reasons(digest, now_s)
        right = {node for node, until_s in self._right.get(digest, {}).items() if now_s < until_s}
        cleared = {
            node for node in delivery.sources if node in right or reasons.get(node) is Distrust.SUSPECT
        }
        passed_on = {node for origin in cleared for node in delivery.through.get(origin, ())}
        blamed = (delivery.sources | passed_on) - right
        doubted = {node for node in blamed if reasons.get(node) is not Distrust.WRONG}
        for node in doubted:
            _set(self._tables[Distrust.SUSPECT], digest, node, now_s + self._suspect_s)
        return doubted


def _set(table: _Table, digest: Digest, node: NodeName, until_s: float) -> None:
    nodes = table.setdefault(digest, {})
    nodes[node] = max(until_s, nodes.get(node, until_s))
    _touch(table, digest)


def _touch(table: OrderedDict[Digest, Any], digest: Digest) -> None:
    """Make this digest the newest entry. Drop the oldest one if there are too many."""
    table.move_to_end(digest)
    if len(table) > _DIGESTS_MAX:
        table.popitem(last=False)
