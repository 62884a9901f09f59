"""The holder index without a server: it asks the peers, ring by ring (see `agent.holders.asking`).

It caches which peers have a digest for `positive_ttl_s`, and that no peer has it for `negative_ttl_s`, for at
most `_CACHE_MAX` digests. A look-up costs one question to each peer of each ring that is asked. Meant for up
to about 200 nodes.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.config import LookupSettings
from agent.holders.asking import RingAsker
from agent.holders.index import Holders
from agent.holders.wire import DIGESTS_MAX, Question, Reply
from agent.members.member import Peer
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.pull.asking import grace_s
from agent.tasks import end_all
from topology.placement import NodeName

_CACHE_MAX = 10_000


@dataclass(slots=True)
class _Cached:
    """``nodes``: an ordered set. It is empty if every peer was asked and none has the digest."""

    nodes: dict[NodeName, None]
    expires_s: float

    @property
    def holders(self) -> Holders:
        return Holders(nodes=tuple(self.nodes), exhaustive=not self.nodes)


class ScatterIndex:
    """Looks digests up by asking peers, and remembers the answers for a short time. See `HolderIndex`.

    ``asker``: its maker closes it, after the index.
    """

    def __init__(
        self,
        asker: RingAsker,
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
        found = self._found.get(digest) or self._start((digest,))[digest]
        # Other callers may wait for it as well, so a caller that leaves must not end it.
        await asyncio.shield(found)
        self._metrics.lookup(self._clock() - started_s)
        cached = self._cache.get(digest)
        if cached is None:  # the result was dropped from the cache already
            return Holders(nodes=(), exhaustive=False)
        return cached.holders

    async def lookup_everyone(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup_everyone`."""
        nodes: dict[NodeName, None] = {}

        def on_reply(peer: Peer, reply: Reply) -> None:
            if digest in reply.held:
                nodes[peer.name] = None

        await self._asker.ask_everyone(Question(digests=(digest,)), on_reply)
        self._cache.pop(digest, None)  # it may be wrong: perhaps that is why the caller asks all peers
        self._remember(digest, nodes)
        return Holders(nodes=tuple(nodes), exhaustive=True)

    def prefetch(self, digests: Sequence[Digest]) -> None:
        """See `HolderIndex.prefetch`."""
        wanted = [d for d in dict.fromkeys(digests) if d not in self._found and self._fresh(d) is None]
        for first in range(0, len(wanted), DIGESTS_MAX):
            self._start(tuple(wanted[first : first + DIGESTS_MAX]))

    def forget(self, digest: Digest, node: NodeName) -> None:
        """See `HolderIndex.forget`."""
        cached = self._cache.get(digest)
        if cached is not None:
            cached.nodes.pop(node, None)
            if not cached.nodes:
                del self._cache[digest]

    async def close(self) -> None:
        """See `HolderIndex.close`."""
        await end_all(self._lookups)

    def _start(self, digests: tuple[Digest, ...]) -> dict[Digest, asyncio.Future[None]]:
        """Look digests up in the background. Each digest's future is done when there is an answer for it."""
        loop = asyncio.get_running_loop()
        found: dict[Digest, asyncio.Future[None]] = {digest: loop.create_future() for digest in digests}
        self._found.update(found)
        task = asyncio.create_task(self._search(found), name="lookup")
        self._lookups.add(task)
        task.add_done_callback(lambda done: self._ended(done, found))
        return found

    def _ended(self, task: asyncio.Task[None], found: dict[Digest, asyncio.Future[None]]) -> None:
        self._lookups.discard(task)
        for digest, future in found.items():
            self._found.pop(digest, None)
            _resolve(future)

    async def _search(self, found: dict[Digest, asyncio.Future[None]]) -> None:
        started_s = self._clock()
        missing = dict.fromkeys(found)

        def question() -> Question | None:
            return Question(digests=tuple(missing)) if missing else None

        def on_reply(peer: Peer, reply: Reply) -> None:
            for digest in reply.held:
                self._remember(digest, (peer.name,))
                if digest in missing:
                    del missing[digest]
                    more_s = grace_s(self._clock() - started_s)
                    asyncio.get_running_loop().call_later(more_s, _resolve, found[digest])

        await self._asker.ask_by_ring(question=question, on_reply=on_reply, enough=lambda: not missing)
        for digest in missing:
            self._remember(digest, ())

    def _fresh(self, digest: Digest) -> _Cached | None:
        cached = self._cache.get(digest)
        if cached is None or cached.expires_s <= self._clock():
            return None
        return cached

    def _remember(self, digest: Digest, nodes: Iterable[NodeName]) -> None:
        """Add holders to the cache. If none is given and none is known, no peer has the digest."""
        now_s = self._clock()
        cached = self._cache.pop(digest, None)
        known = dict(cached.nodes) if cached is not None and cached.expires_s > now_s else {}
        known.update(dict.fromkeys(nodes))
        ttl_s = self._settings.positive_ttl_s if known else self._settings.negative_ttl_s
        self._cache[digest] = _Cached(nodes=known, expires_s=now_s + ttl_s)
        if len(self._cache) > _CACHE_MAX:
            del self._cache[next(iter(self._cache))]


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
