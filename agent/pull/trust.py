"""Which peers no pull asks for which digest, and why.

There are two reasons (`Distrust`). Each holds for one peer and one digest, and for a limited time.

A peer's body broke off, stalled or was invalid. A client that resumes is then served by another peer, or
told at once that there is none.

A peer is suspect. containerd verifies a blob when it commits it to its store. So a blob is doubtful if it was
delivered whole and containerd does not commit it, or requests it again from its start. Every peer that gave a
part of it then becomes suspect. If the client perhaps did not read all of it, the peers become suspect only
when this happens a second time. No peer becomes suspect before this node's store has committed at least one
delivered blob: the client may keep its content elsewhere.

Pure. Times are seconds of one monotonic clock. The tables are bounded, and the oldest digests are dropped.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from agent.oci.digest import Digest
from topology.placement import NodeName

_DIGESTS_MAX = 4096
_SPANS_MAX = 256  # of one delivery; a client that wants the whole blob does not leave so many gaps

_Table = OrderedDict[Digest, dict[NodeName, float]]
"""For each digest, the peers not to ask for it, and until when."""


class Distrust(Enum):
    """Why a peer is not asked for a digest. The value is what ``/api/explain`` says."""

    BROKE_OFF = "its body of this digest broke off, stalled or was invalid"
    SUSPECT = "suspect: what it gave of this digest was not committed"


@dataclass(slots=True)
class _Delivery:
    """What a client was sent of a blob that is not in the store yet."""

    size_bytes: int
    sources: set[NodeName] = field(default_factory=set)
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
    suspect for this time.
    """

    def __init__(self, *, commit_s: float = 30.0, suspect_s: float = 600.0) -> None:
        self._commit_s = commit_s
        self._suspect_s = suspect_s
        self._broke: _Table = OrderedDict()
        self._suspects: _Table = OrderedDict()
        self._deliveries: OrderedDict[Digest, _Delivery] = OrderedDict()
        self._warned: OrderedDict[Digest, None] = OrderedDict()
        self._sees_commits = False

    def distrust(self, digest: Digest, node: NodeName, until_s: float) -> None:
        """The peer's body of this digest was bad. Do not ask the peer for it until ``until_s``."""
        _set(self._broke, digest, node, until_s)

    def served(self, node: NodeName) -> None:
        """The peer delivered a large body whole, so forget which of its bodies were bad. It stays suspect."""
        for nodes in self._broke.values():
            nodes.pop(node, None)

    def reasons(self, digest: Digest, now_s: float) -> dict[NodeName, Distrust]:
        """The peers not to ask for this digest, and why. If both reasons hold, it is SUSPECT."""
        return {
            node: reason
            for reason, table in ((Distrust.BROKE_OFF, self._broke), (Distrust.SUSPECT, self._suspects))
            for node, until_s in table.get(digest, {}).items()
            if now_s < until_s
        }

    def entries(self, now_s: float) -> Iterator[tuple[Digest, NodeName, float]]:
        """Each digest, a peer that is not asked for it, and for how many more seconds."""
        for table in (self._broke, self._suspects):
            for digest, nodes in table.items():
                yield from ((digest, node, end_s - now_s) for node, end_s in nodes.items() if now_s < end_s)

    def delivered(
        self,
        digest: Digest,
        sources: Iterable[NodeName],
        *,
        start: int,
        stop: int,
        size_bytes: int,
        taken: bool,
        now_s: float,
    ) -> None:
        """This node's containerd was sent bytes ``start`` to ``stop`` of a blob. They came from ``sources``.

        ``sources`` is empty if this agent verified the blob. ``taken``: the client stayed to the end of what
        it asked for. A client that closes earlier may not have read all of it.
        """
        if start >= stop:
            return
        delivery = self._deliveries.get(digest)
        if delivery is None or delivery.size_bytes != size_bytes:
            delivery = self._deliveries[digest] = _Delivery(size_bytes=size_bytes)
        delivery.sources.update(sources)
        delivery.taken &= taken
        delivery.add(start, stop, now_s)
        if len(delivery.spans) > _SPANS_MAX:
            del self._deliveries[digest]
            return
        _touch(self._deliveries, digest)

    def redirected(self, digest: Digest, node: NodeName, *, size_bytes: int) -> None:
        """This node's containerd was redirected to this peer for the blob.

        This agent does not see that transfer. It learns of a failure only if containerd requests it again.
        """
        delivery = self._deliveries.setdefault(digest, _Delivery(size_bytes=size_bytes))
        delivery.sources.add(node)
        delivery.whole_s, delivery.taken = math.inf, False
        _touch(self._deliveries, digest)

    def committed(self, digest: Digest) -> None:
        """The blob is in the store, so its sources gave the right bytes."""
        if self._deliveries.pop(digest, None) is not None:
            self._sees_commits = True
        self._warned.pop(digest, None)

    def requested_again(self, digest: Digest, now_s: float) -> int:
        """containerd requests the whole blob. Returns how many sources became suspect.

        They do if containerd was sent the whole blob before: it should have committed it.
        """
        delivery = self._deliveries.pop(digest, None)
        return 0 if delivery is None or delivery.whole_s is None else self._suspect(digest, delivery, now_s)

    def suspect_overdue(self, now_s: float, holds: Callable[[Digest], bool] = lambda _: False) -> int:
        """Suspect the sources of blobs that should be in the store by now. Returns how many became suspect.

        ``holds``: whether the store has a digest. A blob may be committed before its delivery ends here.
        """
        late = [
            (digest, delivery)
            for digest, delivery in self._deliveries.items()
            if delivery.whole_s is not None and now_s - delivery.whole_s >= self._commit_s
        ]
        suspects = 0
        for digest, delivery in late:
            if holds(digest):
                self.committed(digest)
            else:
                del self._deliveries[digest]
                suspects += self._suspect(digest, delivery, now_s)
        return suspects

    def _suspect(self, digest: Digest, delivery: _Delivery, now_s: float) -> int:
        if not self._sees_commits:
            return 0
        if not delivery.taken and digest not in self._warned:
            # A client that fetches a blob in parts leaves each part before its end. So this is no evidence
            # the first time: the client may have cancelled the pull.
            self._warned[digest] = None
            _touch(self._warned, digest)
            return 0
        for node in delivery.sources:
            _set(self._suspects, digest, node, now_s + self._suspect_s)
        return len(delivery.sources)


def _set(table: _Table, digest: Digest, node: NodeName, until_s: float) -> None:
    nodes = table.setdefault(digest, {})
    nodes[node] = max(until_s, nodes.get(node, until_s))
    _touch(table, digest)


def _touch(table: OrderedDict[Digest, Any], digest: Digest) -> None:
    """Make this digest the newest entry. Drop the oldest one if there are too many."""
    table.move_to_end(digest)
    if len(table) > _DIGESTS_MAX:
        table.popitem(last=False)
