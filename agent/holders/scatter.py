"""The holder index without a server: ask the peers, nearest ring first.

A ring is asked all at once; the next ring is asked for what the nearer ones do not have, and also when
a ring leaves us waiting longer than `patience_s`. Once everything is found, peers that have not answered
yet get as long again as the first answer took, because equal holders should share the work. Peers that
failed a moment ago are asked last, and only for `patience_s`.

Caches: "has it" for `positive_ttl_s`, "nobody has it" for `negative_ttl_s`; at most `_CACHE_MAX` digests.
Cost of one look-up: one request to each peer of the rings asked; meant for up to about 200 nodes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.config import LookupSettings
from agent.holders.index import Holders, TagAnswer
from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.members.neighbourhood import Neighbourhood
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.reference import Named
from topology.placement import NodeName

_CACHE_MAX = 10_000
_GRACE_LEAST_S = 0.002


class PeerSilent(Exception):
    """A peer did not give a usable answer: unreachable, too slow, or not understood."""


Ask = Callable[[Peer, Question, float], Awaitable[Reply]]
"""Ask one peer, with a deadline in seconds. Raises `PeerSilent`."""


@dataclass(slots=True)
class _Cached:
    nodes: dict[NodeName, None]  # an ordered set
    complete: bool
    expires_s: float


class Scatter:
    """Looks digests and tags up by asking peers; remembers the answers shortly."""

    def __init__(
        self,
        *,
        neighbourhood: Neighbourhood,
        ask: Ask,
        settings: LookupSettings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._neighbourhood = neighbourhood
        self._ask = ask
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._cache: dict[Digest, _Cached] = {}
        self._running: dict[Digest, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[object]] = set()

    async def lookup(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup`."""
        started_s = self._clock()
        cached = self._fresh(digest)
        if cached is None:
            task = self._running.get(digest) or self._start((digest,))
            # The look-up may serve others as well: a caller that goes away must not end it.
            await asyncio.shield(task)
            cached = self._cache.get(digest)
        self._metrics.lookup(self._clock() - started_s)
        if cached is None:
            return Holders(nodes=(), complete=True)
        return Holders(nodes=tuple(cached.nodes), complete=cached.complete and not cached.nodes)

    async def lookup_all(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup_all`."""
        rings = self._neighbourhood.rings(self._clock())
        self._cache.pop(digest, None)  # what was true then may be why the caller asks again
        await self._search((digest,), rings=(tuple(peer for ring in rings for peer in ring),))
        cached = self._cache.get(digest)
        return Holders(nodes=tuple(cached.nodes) if cached else (), complete=True)

    def prefetch(self, digests: Sequence[Digest]) -> None:
        """See `HolderIndex.prefetch`."""
        wanted = [d for d in digests if d not in self._running and self._fresh(d) is None]
        if wanted:
            self._start(tuple(dict.fromkeys(wanted)))

    def forget(self, digest: Digest, node: NodeName) -> None:
        """See `HolderIndex.forget`."""
        cached = self._cache.get(digest)
        if cached is not None:
            cached.nodes.pop(node, None)
            if not cached.nodes:
                del self._cache[digest]

    async def lookup_tag(self, name: Named, *, max_age_s: float) -> tuple[TagAnswer, ...]:
        """See `HolderIndex.lookup_tag`."""
        rings = self._neighbourhood.rings(self._clock())
        if name.registry is None:
            rings = (tuple(peer for ring in rings for peer in ring),)
        answers: list[TagAnswer] = []

        def take(peer: Peer, reply: Reply) -> None:
            answers.extend(
                TagAnswer(node=peer.name, name=tag.name, descriptor=tag.descriptor, age_s=tag.age_s)
                for tag in reply.tags
                if tag.age_s <= max_age_s and _fits(tag.name, name)
            )

        # A unique name has to be known as such: without a registry no first answer is enough.
        await self._ask_rings(
            rings,
            question=lambda: None if answers else Question(tags=(name,)),
            take=take,
            enough=lambda: bool(answers) and name.registry is not None,
        )
        return tuple(sorted(answers, key=lambda answer: answer.age_s))

    async def close(self) -> None:
        """End what runs in the background."""
        running = [*self._background]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, digests: tuple[Digest, ...]) -> asyncio.Task[None]:
        task = asyncio.create_task(
            self._search(digests, rings=self._neighbourhood.rings(self._clock())), name="lookup"
        )
        self._running.update(dict.fromkeys(digests, task))
        self._background.add(task)
        task.add_done_callback(lambda done: self._ended(done, digests))
        return task

    def _ended(self, task: asyncio.Task[None], digests: tuple[Digest, ...]) -> None:
        self._background.discard(task)
        for digest in digests:
            self._running.pop(digest, None)

    async def _search(self, digests: tuple[Digest, ...], *, rings: tuple[tuple[Peer, ...], ...]) -> None:
        found: dict[Digest, dict[NodeName, None]] = {digest: {} for digest in digests}

        def missing() -> tuple[Digest, ...]:
            return tuple(digest for digest, nodes in found.items() if not nodes)

        def question() -> Question | None:
            open_digests = missing()
            return Question(digests=open_digests) if open_digests else None

        def take(peer: Peer, reply: Reply) -> None:
            for digest in reply.held:
                found[digest][peer.name] = None
                self._remember(digest, (peer.name,), complete=False)

        await self._ask_rings(rings, question=question, take=take, enough=lambda: not missing())
        for digest in missing():
            self._remember(digest, (), complete=True)

    async def _ask_rings(
        self,
        rings: tuple[tuple[Peer, ...], ...],
        *,
        question: Callable[[], Question | None],
        take: Callable[[Peer, Reply], None],
        enough: Callable[[], bool],
    ) -> None:
        """Ask ring by ring until there is no question left; see the module's docstring for the waits."""
        pending: set[asyncio.Task[object]] = set()
        last_resort = self._neighbourhood.cooling(self._clock())
        for ring in rings:
            asked = question()
            if asked is None:
                break
            pending |= self._ask_each(ring, asked, take, self._settings.timeout_s)
            pending = await self._wait(pending, self._settings.patience_s, enough)
        else:
            pending = await self._wait(pending, self._settings.timeout_s, enough)
        asked = question()
        if asked is not None and last_resort:
            pending |= self._ask_each(last_resort, asked, take, self._settings.patience_s)
            await self._wait(pending, self._settings.patience_s, enough)
        # Whoever still has not answered goes on in the background: a late answer is worth keeping,
        # and a failure worth knowing.

    def _ask_each(
        self, peers: Iterable[Peer], asked: Question, take: Callable[[Peer, Reply], None], timeout_s: float
    ) -> set[asyncio.Task[object]]:
        tasks: set[asyncio.Task[object]] = set()
        for peer in peers:
            task: asyncio.Task[object] = asyncio.create_task(self._ask_one(peer, asked, take, timeout_s))
            tasks.add(task)
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        return tasks

    async def _ask_one(
        self, peer: Peer, asked: Question, take: Callable[[Peer, Reply], None], timeout_s: float
    ) -> None:
        try:
            reply = await self._ask(peer, asked, timeout_s)
        except PeerSilent:
            self._metrics.question("silent")
            self._neighbourhood.failed(peer.name, self._clock())
            return
        self._metrics.question("answered")
        self._neighbourhood.answered(peer.name)
        take(peer, reply)

    async def _wait(
        self, pending: set[asyncio.Task[object]], at_most_s: float, enough: Callable[[], bool]
    ) -> set[asyncio.Task[object]]:
        """Wait for the tasks, but not long after there is enough. Returns those still running."""
        started_s = self._clock()
        until_s = started_s + at_most_s
        graced = False
        while pending and (left_s := until_s - self._clock()) > 0:
            _, pending = await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not graced and enough():
                graced = True
                took_s = self._clock() - started_s
                until_s = min(until_s, self._clock() + max(_GRACE_LEAST_S, took_s))
        return pending

    def _fresh(self, digest: Digest) -> _Cached | None:
        cached = self._cache.get(digest)
        if cached is None or cached.expires_s <= self._clock():
            return None
        return cached

    def _remember(self, digest: Digest, nodes: Iterable[NodeName], *, complete: bool) -> None:
        """Add holders to what is known; with ``complete`` and none, remember that nobody has it."""
        now_s = self._clock()
        cached = self._cache.pop(digest, None)
        known = dict(cached.nodes) if cached is not None and cached.expires_s > now_s else {}
        known.update(dict.fromkeys(nodes))
        ttl_s = self._settings.positive_ttl_s if known else self._settings.negative_ttl_s
        self._cache[digest] = _Cached(nodes=known, complete=complete, expires_s=now_s + ttl_s)
        if len(self._cache) > _CACHE_MAX:
            del self._cache[next(iter(self._cache))]


def _fits(found: Named, wanted: Named) -> bool:
    same_name = (found.repository, found.tag) == (wanted.repository, wanted.tag)
    return same_name and found.registry is not None and wanted.registry in (None, found.registry)
