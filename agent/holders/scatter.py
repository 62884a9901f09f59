"""The holder index without a server: it asks the peers, the nearest first (see `agent.holders.asking`).

It caches which peers have a digest for `positive_ttl_s`, and that no peer has it for `negative_ttl_s`, for at
most `_CACHE_MAX` digests. Who is fetching it at the moment is kept apart (`agent.holders.flights`): a near
peer that fetches the content ends the search for farther holders, like one that has it, but only for a
fraction of a second. A look-up costs one question to each peer that is asked, whatever its number of
digests. So look-ups that come while others are running are gathered for a moment. Meant for up to
`EVERYBODY_MAX` peers, and to stand in, with an asker that asks only those nearby, for an index in a server.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.config import LookupSettings
from agent.documents.index import IndexSource, IndexWarningEntry
from agent.holders.asking import PeerAsker
from agent.holders.flights import KEPT_S, Flights
from agent.holders.gathering import Found, Gatherer
from agent.holders.index import Holders, IndexStatus, InFlight
from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.pull.nearby import EVERYBODY_MAX, SCATTER_MAX
from topology.placement import NodeName

_CACHE_MAX = 10_000


@dataclass(frozen=True, slots=True)
class _Behind:
    """Lets one question to everybody fewer run than searches: most are of pulls that have a source."""

    asker: PeerAsker

    def pause_s(self, running: int) -> float:
        """See `Pauses`."""
        return self.asker.pause_s(running + 1)

    def pause_again_s(self, running: int) -> float:
        """See `Pauses`."""
        return self.asker.pause_again_s(running + 1)


@dataclass(slots=True)
class _Cached:
    """``rings``: how near each holder is. It is empty if every peer was asked and none has the digest."""

    rings: dict[NodeName, int]
    expires_s: float

    def holders(self, in_flight: tuple[InFlight, ...], source: IndexSource | None) -> Holders:
        """The nearest holders. A farther one is no substitute as long as there is a near one.

        ``in_flight``: who is fetching it now. ``source``: see `Holders`.
        """
        nearest = min(self.rings.values(), default=0)
        nodes = tuple(node for node, ring in self.rings.items() if ring == nearest)
        exhaustive = not nodes and not in_flight
        return Holders(nodes=nodes, exhaustive=exhaustive, in_flight=in_flight, source=source)


class ScatterIndex:
    """Looks digests up by asking peers, and remembers the answers for a short time. See `HolderIndex`.

    ``asker``: its maker closes it, after the index. ``follows``: whether this node takes content from that
    peer while the peer is still fetching it. ``peers``: how many there are. ``source``: what the holders are
    said to come from, see `Holders`.
    """

    def __init__(
        self,
        asker: PeerAsker,
        *,
        settings: LookupSettings,
        metrics: Metrics,
        follows: Callable[[NodeName], bool] = lambda _: False,
        peers: Callable[[], int] = lambda: 0,
        source: IndexSource | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asker = asker
        self._peers = peers
        self._source = source
        self._follows = follows
        self._flights = Flights()
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._cache: dict[Digest, _Cached] = {}
        self._searches = Gatherer(self._search, asker)
        self._censuses = Gatherer(self._ask_everyone, _Behind(asker))

    def announce(self, digests: Iterable[Digest]) -> None:
        """Nothing to do: peers ask this node, and its store answers."""

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """Nothing to do: peers ask this node, and its store answers."""

    async def run(self) -> None:
        """Returns at once: there is nothing to do."""

    def status(self) -> IndexStatus:
        """See `HolderIndex.status`: the peers are the index."""
        return IndexStatus(warnings=_too_many(self._peers()))

    def remembered(self, digest: Digest) -> Holders | None:
        """See `HolderIndex.remembered`."""
        cached = self._fresh(digest)
        in_flight = self._in_flight(digest, cached)
        if cached is None and not in_flight:
            return None
        self._metrics.lookup(0.0)
        return self._holders(cached, in_flight)

    async def lookup(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup`."""
        started_s = self._clock()
        if (known := self.remembered(digest)) is not None:
            return known
        found = self._searches.join(digest)
        # Other callers may wait for it as well, so a caller that leaves must not end it.
        await asyncio.shield(found)
        took_s = self._clock() - started_s
        self._metrics.lookup(took_s)
        cached = self._cache.get(digest)
        return self._holders(cached, self._in_flight(digest, cached, took_s))

    async def lookup_everyone(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup_everyone`."""
        found = await asyncio.shield(self._censuses.want((digest,))[digest])
        return found or Holders(nodes=(), exhaustive=False, source=self._source)

    def prefetch(self, digests: Sequence[Digest]) -> None:
        """See `HolderIndex.prefetch`."""
        unknown = [
            d for d in dict.fromkeys(digests) if not self._searches.is_wanted(d) and self._fresh(d) is None
        ]
        self._searches.want(unknown)

    def forget(self, digest: Digest, node: NodeName) -> None:
        """See `HolderIndex.forget`."""
        self._flights.forget(digest, node)
        cached = self._cache.get(digest)
        if cached is not None:
            cached.rings.pop(node, None)
            if not cached.rings:
                del self._cache[digest]

    async def close(self) -> None:
        """See `HolderIndex.close`."""
        await self._searches.close()
        await self._censuses.close()

    async def _search(self, found: Found) -> None:
        missing = dict.fromkeys(found)
        rings: dict[Digest, int] = {}  # the nearest ring with a holder, until the digest is resolved

        def question() -> Question | None:
            return Question(digests=tuple(missing)) if missing else None

        def on_reply(peer: Peer, reply: Reply, ring: int) -> bool:
            for digest in reply.held:
                self._remember(digest, {peer.name: ring})
                missing.pop(digest, None)
                if not found[digest].done():
                    rings[digest] = min(ring, rings.get(digest, ring))
            flying = self._note_flights(peer, reply)
            for digest in flying:
                missing.pop(digest, None)
                if not found[digest].done():
                    rings[digest] = min(ring, rings.get(digest, ring))
            return bool(reply.held or flying)

        def enough(nearest: int) -> bool:
            for digest, ring in [*rings.items()]:
                if ring < nearest:  # no peer that is as near is waited for
                    del rings[digest]
                    _resolve(found[digest])
            return not missing and not rings

        await self._asker.ask_nearest(question=question, on_reply=on_reply, enough=enough)
        for digest in missing:
            self._remember(digest, {})

    async def _ask_everyone(self, found: Found) -> None:
        rings: dict[Digest, dict[NodeName, int]] = {digest: {} for digest in found}

        def on_reply(peer: Peer, reply: Reply, ring: int) -> bool:
            self._note_flights(peer, reply)
            for digest in reply.held:
                rings[digest][peer.name] = ring
            return bool(reply.held)

        began_s = self._clock()
        await self._asker.ask_everyone(Question(digests=tuple(found)), on_reply)
        now_s = self._clock()
        for digest, future in found.items():
            self._cache.pop(digest, None)  # it may be wrong: perhaps that is why the caller asks all peers
            holders = rings[digest]
            in_flight = self._flights.of(digest, now_s, complete=holders, kept_s=max(KEPT_S, now_s - began_s))
            if holders or not in_flight:
                self._remember(digest, holders)
            future.set_result(
                Holders(nodes=tuple(holders), exhaustive=True, in_flight=in_flight, source=self._source)
            )

    def _note_flights(self, peer: Peer, reply: Reply) -> Iterable[Digest]:
        """Note what the peer is fetching. Returns the digests that may be taken from it meanwhile."""
        if not reply.in_flight or not self._follows(peer.name):
            return ()
        now_s = self._clock()
        for digest, flying in reply.in_flight.items():
            self._flights.heard(digest, peer.name, flying, now_s)
        return reply.in_flight.keys()

    def _in_flight(self, digest: Digest, cached: _Cached | None, took_s: float = 0.0) -> tuple[InFlight, ...]:
        """Who is fetching it. ``took_s``: how long the look-up took, of which no answer is too old."""
        complete = () if cached is None else cached.rings
        return self._flights.of(digest, self._clock(), complete=complete, kept_s=max(KEPT_S, took_s))

    def _holders(self, cached: _Cached | None, in_flight: tuple[InFlight, ...]) -> Holders:
        """What is known. Without ``cached`` nobody is known to have all of it, and nobody to lack it."""
        if cached is None:
            return Holders(nodes=(), exhaustive=False, in_flight=in_flight, source=self._source)
        return cached.holders(in_flight, self._source)

    def _fresh(self, digest: Digest) -> _Cached | None:
        cached = self._cache.get(digest)
        if cached is None or cached.expires_s <= self._clock():
            return None
        return cached

    def _remember(self, digest: Digest, rings: Mapping[NodeName, int]) -> None:
        """Add holders to the cache. If none is given and none is known, no peer has the digest."""
        now_s = self._clock()
        cached = self._cache.pop(digest, None)
        known = dict(cached.rings) if cached is not None and cached.expires_s > now_s else {}
        known.update(rings)
        ttl_s = self._settings.positive_ttl_s if known else self._settings.negative_ttl_s
        self._cache[digest] = _Cached(rings=known, expires_s=now_s + ttl_s)
        if len(self._cache) > _CACHE_MAX:
            del self._cache[next(iter(self._cache))]


def _too_many(peers: int) -> tuple[IndexWarningEntry, ...]:
    """What there is to say of asking so many peers."""
    if peers <= EVERYBODY_MAX:
        return ()
    if peers <= SCATTER_MAX:
        problem = f"there are {peers} peers, and each look-up of what no near one has asks all of them"
    else:
        problem = (
            f"there are {peers} peers, too many to ask all of them: what neither the own zone nor a few "
            "others have comes from the registry"
        )
    hint = (
        f"above {EVERYBODY_MAX} nodes, set `index` to a Valkey or Redis server: docs/large-clusters.md says "
        "how; until then, tags are asked of the own zone only"
    )
    return (IndexWarningEntry(problem=problem, hint=hint),)


def _resolve(future: "asyncio.Future[Holders | None]") -> None:
    if not future.done():
        future.set_result(None)
