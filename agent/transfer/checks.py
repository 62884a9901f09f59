"""Fetches again what suspects gave, and hashes it: the only proof that a peer gives wrong bytes.

A suspicion has many reasons that are no fault of the peer. A check ends it: the peer is cleared, or proved
wrong. One content is checked at a time, so that checks cost little beside pulls. Which one is next:
`agent.pull.turns`.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Set

from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.reference import Addressed
from agent.pull.policy import Policy
from agent.pull.turns import Turn, Turns
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.peers import PeerBody
from topology.placement import NodeName

_log = logging.getLogger(__name__)

_TARGETS_MAX = 4096
_PIECE_BYTES = 1 << 20
_FIRST_BYTE_S = 10.0
_CHECK_MOST_S = 300.0  # no suspect keeps the others from being checked for longer than this

FetchFrom = Callable[[NodeName, FetchRequest], Awaitable[PeerBody]]
"""Ask a node. Raises `AttemptFailed`."""


class Checks:
    """The checks of one node. `run` it.

    ``floor_bytes_per_s``: a peer that is slower than this for ``stall_s`` is not checked. It stays suspect,
    and what else it is to be checked for comes after the checks of other peers.
    """

    def __init__(
        self,
        *,
        fetch: FetchFrom,
        policy: Policy,
        metrics: Metrics,
        stall_s: float,
        floor_bytes_per_s: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._policy = policy
        self._metrics = metrics
        self._stall_s = stall_s
        self._turn_bytes = max(1, int(floor_bytes_per_s * stall_s))
        self._clock = clock
        self._targets: OrderedDict[Digest, Addressed] = OrderedDict()
        self._turns = Turns()
        self._waiting: dict[Turn, asyncio.Event] = {}  # set when the check is over, or had to make room
        self._more = asyncio.Event()

    def remember(self, target: Addressed) -> None:
        """Peers can be asked for this digest in this way."""
        self._targets[target.digest] = target
        self._targets.move_to_end(target.digest)
        if len(self._targets) > _TARGETS_MAX:
            self._targets.popitem(last=False)

    def begin(self, digest: Digest, nodes: Set[NodeName]) -> None:
        """Check what these nodes give of the digest, soon. Does not wait."""
        for node in sorted(nodes):
            if digest not in self._targets:
                continue
            waits, dropped = self._turns.add(digest, node)
            if dropped is not None:
                self._waiting.pop(dropped).set()
            if waits:
                self._waiting.setdefault((digest, node), asyncio.Event())
                self._more.set()

    async def settled(self, digest: Digest, at_most_s: float) -> None:
        """Wait until no check of this digest is left, but not longer than ``at_most_s``."""
        ended = [event.wait() for (checked, _), event in self._waiting.items() if checked == digest]
        try:
            async with asyncio.timeout(max(0.0, at_most_s)):
                await asyncio.gather(*ended)
        except TimeoutError:
            return

    async def run(self) -> None:
        """Check one content after the other, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._turns:
                digest, node = self._turns.next()
                gave = False
                try:
                    gave = await self._check(digest, node)
                finally:
                    self._turns.ended(digest, node, failed=not gave)
                    self._waiting.pop((digest, node)).set()

    async def _check(self, digest: Digest, node: NodeName) -> bool:
        """Check one content. Returns whether the node gave it."""
        fields = {"fields": {"node": node, "digest": digest}}
        try:
            right = await self._is_right(node, FetchRequest(target=self._targets[digest]))
        except (AttemptFailed, TimeoutError, KeyError) as error:
            self._metrics.check("failed")
            _log.info("a suspect could not be checked: %s", str(error) or "too slow", extra=fields)
            return False
        self._metrics.check("right" if right else "wrong")
        self._policy.checked(digest, node, right=right, now_s=self._clock())
        if right:
            _log.info("a suspect gives the right bytes: it is trusted again", extra=fields)
        else:
            _log.warning(
                "a peer gives wrong bytes; run `shorthaul scrub` on it, check its disk", extra=fields
            )
        return True

    async def _is_right(self, node: NodeName, wanted: FetchRequest) -> bool:
        """Whether the node gives the content. Raises `AttemptFailed`, and TimeoutError if it is slow."""
        digest = wanted.target.digest
        async with asyncio.timeout(_FIRST_BYTE_S):
            body = await self._fetch(node, wanted)
        try:
            algorithm, _, expected = digest.partition(":")
            hashed = hashlib.new(algorithm, body.first)
            async with asyncio.timeout(_CHECK_MOST_S):
                while body.left_bytes:
                    async with asyncio.timeout(self._stall_s):
                        await self._take(body, hashed.update)
            return hashed.hexdigest() == expected
        finally:
            body.close()

    async def _take(self, body: PeerBody, update: Callable[[bytes], None]) -> None:
        """Read and hash as many bytes as a peer that is fast enough gives within ``stall_s``, or the rest."""
        left_bytes = self._turn_bytes
        while left_bytes > 0 and body.left_bytes:
            piece = await body.read(_PIECE_BYTES)
            left_bytes -= len(piece)
            await asyncio.to_thread(update, piece)  # other tasks go on meanwhile
