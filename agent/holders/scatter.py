"""The holder index without a server: ask the peers, nearest ring first.

A ring is asked all at once; the next ring is asked for what the nearer ones do not have, and also when
a ring leaves us waiting longer than `patience_s`. Once a digest is found, peers that have not answered
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
from agent.holders.wire import DIGESTS_MAX, Question, Reply
from agent.members.member import Peer
from agent.members.roster import Rings, Roster
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.reference import Named
from agent.peering.channels import NoReply
from agent.pull.regard import Regard
from topology.placement import NodeName

_CACHE_MAX = 10_000
_GRACE_LEAST_S = 0.002


Query = Callable[[Peer, Question, float], Awaitable[Reply]]
"""Ask one peer, with a deadline in seconds. Raises `NoReply`."""


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
        roster: Roster,
        regard: Regard,
        query: Query,
        settings: LookupSettings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster = roster
        self._regard = regard
        self._query = query
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._cache: dict[Digest, _Cached] = {}
        self._found: dict[Digest, asyncio.Future[None]] = {}  # of the digests that are being looked up
        self._background: set[asyncio.Task[object]] = set()

    async def lookup(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup`."""
        started_s = self._clock()
        cached = self._fresh(digest)
        if cached is None:
            found = self._found.get(digest) or self._start((digest,))[digest]
            # Others may wait for it as well: a caller that goes away must not end it.
            await asyncio.shield(found)
            cached = self._cache.get(digest)
        self._metrics.lookup(self._clock() - started_s)
        if cached is None:
            return Holders(nodes=(), complete=True)
        return Holders(nodes=tuple(cached.nodes), complete=cached.complete and not cached.nodes)

    async def lookup_all(self, digest: Digest) -> Holders:
        """See `HolderIndex.lookup_all`."""
        asked = Question(digests=(digest,))
        nodes: dict[NodeName, None] = {}

        def take(peer: Peer, reply: Reply) -> None:
            if digest in reply.held:
                nodes[peer.name] = None

        await self._ask_rings((self._everyone(),), question=lambda: asked, take=take, enough=lambda: False)
        self._cache.pop(digest, None)  # what was true then may be why the caller asks again
        self._remember(digest, nodes, complete=True)
        return Holders(nodes=tuple(nodes), complete=True)

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

    async def lookup_tag(self, name: Named, *, max_age_s: float) -> tuple[TagAnswer, ...]:
        """See `HolderIndex.lookup_tag`."""
        asked = Question(tags=(name,))
        answers: list[TagAnswer] = []

        def take(peer: Peer, reply: Reply) -> None:
            answers.extend(
                TagAnswer(node=peer.name, name=tag.name, descriptor=tag.descriptor, age_s=tag.age_s)
                for tag in reply.tags
                if tag.age_s <= max_age_s and _fits(tag.name, name)
            )

        def enough() -> bool:
            # Without a registry no first answer is enough: the name has to be known as unique.
            return bool(answers) and name.registry is not None

        named = name.registry is not None
        rings = self._rings() if named else (self._everyone(),)
        await self._ask_rings(rings, question=lambda: None if enough() else asked, take=take, enough=enough)
        return tuple(sorted(answers, key=lambda answer: answer.age_s))

    async def close(self) -> None:
        """End what runs in the background."""
        running = [*self._background]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, digests: tuple[Digest, ...]) -> dict[Digest, asyncio.Future[None]]:
        """Look digests up in the background; each future is done when there is an answer for its digest."""
        loop = asyncio.get_running_loop()
        found: dict[Digest, asyncio.Future[None]] = {digest: loop.create_future() for digest in digests}
        self._found.update(found)
        task = asyncio.create_task(self._search(found), name="lookup")
        self._background.add(task)
        task.add_done_callback(lambda done: self._ended(done, found))
        return found

    def _ended(self, task: asyncio.Task[None], found: dict[Digest, asyncio.Future[None]]) -> None:
        self._background.discard(task)
        for digest, future in found.items():
            self._found.pop(digest, None)
            _resolve(future)

    async def _search(self, found: dict[Digest, asyncio.Future[None]]) -> None:
        started_s = self._clock()
        missing = dict.fromkeys(found)

        def question() -> Question | None:
            return Question(digests=tuple(missing)) if missing else None

        def take(peer: Peer, reply: Reply) -> None:
            for digest in reply.held:
                self._remember(digest, (peer.name,), complete=False)
                if digest in missing:
                    del missing[digest]
                    grace_s = max(_GRACE_LEAST_S, self._clock() - started_s)
                    asyncio.get_running_loop().call_later(grace_s, _resolve, found[digest])

        rings = self._rings()
        await self._ask_rings(rings, question=question, take=take, enough=lambda: not missing)
        for digest in missing:
            self._remember(digest, (), complete=True)

    def _rings(self) -> Rings:
        """The peers that are well, nearest ring first; no ring is empty."""
        cooling = frozenset(self._regard.cooling(self._clock()))
        if not cooling:
            return self._roster.rings
        well = (tuple(peer for peer in ring if peer.name not in cooling) for ring in self._roster.rings)
        return tuple(ring for ring in well if ring)

    def _cooling(self) -> tuple[Peer, ...]:
        """The peers that failed a moment ago."""
        peers = map(self._roster.peer, self._regard.cooling(self._clock()))
        return tuple(peer for peer in peers if peer is not None)

    def _everyone(self) -> tuple[Peer, ...]:
        """All peers that are well, as one ring."""
        return tuple(peer for ring in self._rings() for peer in ring)

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
        last_resort = self._cooling()
        for ring in rings:
            asked = question()
            if asked is None:
                break
            pending |= self._ask_each(ring, asked, take, self._settings.timeout_s)
            pending = await self._wait(pending, self._settings.patience_s, enough)
        else:
            if not enough():
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
            reply = await self._query(peer, asked, timeout_s)
        except NoReply:
            self._metrics.question("silent")
            self._regard.failed(peer.name, self._clock())
            return
        self._metrics.question("answered")
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


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _fits(found: Named, wanted: Named) -> bool:
    same_name = (found.repository, found.tag) == (wanted.repository, wanted.tag)
    return same_name and found.registry is not None and wanted.registry in (None, found.registry)
