"""The holder index without a server: it asks the peers, the nearest first (see `agent.holders.asking`).

It caches which peers have a digest for `positive_ttl_s`, and that no peer has it for `negative_ttl_s`, for at
most `_CACHE_MAX` digests. A look-up costs one question to each peer that is asked, whatever its number of
digests. So look-ups that come while others are running are gathered for a moment. Meant for up to about 200
nodes.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from agent.config import LookupSettings
from agent.holders.asking import PeerAsker
from agent.holders.index import Holders
from agent.holders.wire import DIGESTS_MAX, Question, Reply
from agent.members.member import Peer
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.tasks import end_all
from topology.placement import NodeName

_CACHE_MAX = 10_000
_RUNNING_MAX = 4  # look-ups; further ones are gathered
_GATHER_S = 0.005  # a thousand look-ups at once become a few questions to each peer


@dataclass(slots=True)
class _Cached:
    """``rings``: how near each holder is. It is empty if every peer was asked and none has the digest."""

    rings: dict[NodeName, int]
    expires_s: float

    @property
    def holders(self) -> Holders:
        """The nearest holders. A farther one is no substitute as long as there is a near one."""
        nearest = min(self.rings.values(), default=0)
        nodes = tuple(node for node, ring in self.rings.items() if ring == nearest)
        return Holders(nodes=nodes, exhaustive=not nodes)


class ScatterIndex:
    """Looks digests up by asking peers, and remembers the answers for a short time. See `HolderIndex`.

    ``asker``: its maker closes it, after the index.
    """

    def __init__(
        self,
        asker: PeerAsker,
        *,
        settings: LookupSettings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asker = asker
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._cache: dict[Digest, _Cached] = {}
        self._found: dict[Digest, asyncio.Future[None]] = {}  # for the digests that are being looked up
        self._lookups: set[asyncio.Task[None]] = set()
        self._gathered: dict[Digest, asyncio.Future[None]] = {}
        self._gathering: asyncio.TimerHandle | None = None

    def announce(self, digests: Iterable[Digest]) -> None:
        """Nothing to do: peers ask this node, and its store answers."""

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """Nothing to do: peers ask this node, and its store answers."""

    async def run(self) -> None:
        """Returns at once: there is nothing to do."""

    def remembered(self, digest: Digest) -> Holders | None:
        """See `HolderIndex.remembered`."""
        cached = self._fresh(digest)
        if cached is None:
            return None
        self._metrics.lookup(0.0)
        return cached.holders

    async def lookup(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup`."""
        started_s = self._clock()
        if (known := self.remembered(digest)) is not None:
            return known
        found = self._found.get(digest) or self._want((digest,))[digest]
        # Other callers may wait for it as well, so a caller that leaves must not end it.
        await asyncio.shield(found)
        self._metrics.lookup(self._clock() - started_s)
        cached = self._cache.get(digest)
        if cached is None:  # the result was dropped from the cache already
            return Holders(nodes=(), exhaustive=False)
        return cached.holders

    async def lookup_everyone(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup_everyone`."""
        rings: dict[NodeName, int] = {}

        def on_reply(peer: Peer, reply: Reply, ring: int) -> bool:
            if digest in reply.held:
                rings[peer.name] = ring
            return digest in reply.held

        await self._asker.ask_everyone(Question(digests=(digest,)), on_reply)
        self._cache.pop(digest, None)  # it may be wrong: perhaps that is why the caller asks all peers
        self._remember(digest, rings)
        return Holders(nodes=tuple(rings), exhaustive=True)

    def prefetch(self, digests: Sequence[Digest]) -> None:
        """See `HolderIndex.prefetch`."""
        self._want([d for d in dict.fromkeys(digests) if d not in self._found and self._fresh(d) is None])

    def forget(self, digest: Digest, node: NodeName) -> None:
        """See `HolderIndex.forget`."""
        cached = self._cache.get(digest)
        if cached is not None:
            cached.rings.pop(node, None)
            if not cached.rings:
                del self._cache[digest]

    async def close(self) -> None:
        """See `HolderIndex.close`."""
        if self._gathering is not None:
            self._gathering.cancel()
        await end_all(self._lookups)
        self._drop(self._gathered)

    def _want(self, digests: Iterable[Digest]) -> dict[Digest, asyncio.Future[None]]:
        """Look digests up in the background. Each digest's future is done when there is an answer for it."""
        loop = asyncio.get_running_loop()
        found: dict[Digest, asyncio.Future[None]] = {digest: loop.create_future() for digest in digests}
        self._found.update(found)
        self._gathered.update(found)
        if len(self._lookups) < _RUNNING_MAX:
            self._start()
        elif self._gathering is None:
            self._gathering = loop.call_later(_GATHER_S, self._start)
        return found

    def _start(self) -> None:
        """Ask for all digests that were gathered."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        gathered, self._gathered = [*self._gathered.items()], {}
        for first in range(0, len(gathered), DIGESTS_MAX):
            found = dict(gathered[first : first + DIGESTS_MAX])
            task = asyncio.create_task(self._search(found), name="lookup")
            self._lookups.add(task)
            task.add_done_callback(partial(self._ended, found))

    def _ended(self, found: dict[Digest, asyncio.Future[None]], task: asyncio.Task[None]) -> None:
        self._lookups.discard(task)
        self._drop(found)

    def _drop(self, found: dict[Digest, asyncio.Future[None]]) -> None:
        for digest, future in found.items():
            self._found.pop(digest, None)
            _resolve(future)

    async def _search(self, found: dict[Digest, asyncio.Future[None]]) -> None:
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
            return bool(reply.held)

        def enough(nearest: int) -> bool:
            for digest, ring in [*rings.items()]:
                if ring < nearest:  # no peer that is as near is waited for
                    del rings[digest]
                    _resolve(found[digest])
            return not missing and not rings

        await self._asker.ask_nearest(question=question, on_reply=on_reply, enough=enough)
        for digest in missing:
            self._remember(digest, {})

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


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
