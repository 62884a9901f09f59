"""Which peers are not asked for which content, because what they gave of it before was no good.

Decides from two kinds of evidence. A body that broke off, stalled or contradicted itself: the peer is
passed over for that digest while it cools off, so that a client that resumes is told to go elsewhere at
once instead of being fed byte by byte. And what the client made of a whole blob: containerd verifies
layers when it commits them, so a blob that was delivered to its end and does not appear in the store, or
is asked for again from its start, makes every source of it suspect; the second time only, where it is not
known whether the client took all that it was sent. Nothing is concluded before something that was delivered
appeared at all: the client may keep its content elsewhere. Pure; times are seconds of one
monotonic clock. Bounded: the oldest evidence goes.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agent.oci.digest import Digest
from topology.placement import NodeName

_DIGESTS_MAX = 4096
_SPANS_MAX = 256  # of one delivery: nobody that means to have all of it leaves more gaps

_Table = OrderedDict[Digest, dict[NodeName, float]]
"""Until when whom not to ask for what."""


@dataclass(slots=True)
class _Delivery:
    """What a client was sent of a blob that is not in the store yet."""

    size_bytes: int
    sources: set[NodeName] = field(default_factory=set)
    spans: list[tuple[int, int]] = field(default_factory=list)  # disjoint, sorted
    whole_s: float | None = None  # when its last byte went
    taken: bool = True  # all that was sent; else some of it may have been thrown away

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
    """``commit_s``: how long a store may take to have what was delivered; ``suspect_s``: how long a
    source stays suspect.
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
        """A body of it broke off there: pass the peer over for this digest until then."""
        _set(self._broke, digest, node, until_s)

    def served(self, node: NodeName) -> None:
        """The peer gave a large body to its end: what broke off there may be asked for again."""
        for nodes in self._broke.values():
            nodes.pop(node, None)

    def distrusted(self, digest: Digest, now_s: float) -> frozenset[NodeName]:
        """The peers to pass over for this digest."""
        return frozenset(
            node
            for table in (self._broke, self._suspects)
            for node, until_s in table.get(digest, {}).items()
            if now_s < until_s
        )

    def entries(self, now_s: float) -> Iterator[tuple[Digest, NodeName, float]]:
        """All that is passed over: what, whom, and for how long still, in seconds."""
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
        """The store's owner was sent these bytes of a blob of this size, from these peers.

        ``sources``: none, if it was verified on the way. ``taken``: to the end of what was asked; one that
        closes before may not have read all of it.
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
        """The store's owner was sent to this peer for the blob: only its asking again tells how that went."""
        delivery = self._deliveries.setdefault(digest, _Delivery(size_bytes=size_bytes))
        delivery.sources.add(node)
        delivery.whole_s, delivery.taken = math.inf, False
        _touch(self._deliveries, digest)

    def committed(self, digest: Digest) -> None:
        """The blob is in the store: whoever gave it gave the right one."""
        if self._deliveries.pop(digest, None) is not None:
            self._sees_commits = True
        self._warned.pop(digest, None)

    def requested_again(self, digest: Digest, now_s: float) -> int:
        """All of it is asked for. How many sources became suspect: it was sent it before."""
        delivery = self._deliveries.pop(digest, None)
        return 0 if delivery is None or delivery.whole_s is None else self._suspect(digest, delivery, now_s)

    def suspect_overdue(self, now_s: float, holds: Callable[[Digest], bool] = lambda _: False) -> int:
        """Judge what should have appeared by now. How many sources became suspect.

        ``holds``: what the store has; a blob may appear before its delivery has ended here.
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
            # One that fetches in parts leaves each before its end: given up once, it may have been cancelled.
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
    """The digest is the newest; beyond the bound the oldest goes."""
    table.move_to_end(digest)
    if len(table) > _DIGESTS_MAX:
        table.popitem(last=False)
