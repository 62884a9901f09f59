"""Fetches one body from several holders at once, and delivers it in order.

Each holder is a lane. A lane fetches the segments that `Stripes` assigns to it into memory. The reader is
sent the first segment while the others come in. The number of segments of all bodies is bounded, and each
body is sure of two (`StripeBuffers`). If a lane fails, or keeps the others waiting, another lane gets its
segment. Nothing is decided here: see `agent.pull.striping`.
"""

import asyncio
import contextlib
import mmap
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from agent.oci.ranges import RangeSpec
from agent.pull.events import Failure, Limits
from agent.pull.meter import TICK_S, Meter
from agent.pull.stripes import SEGMENT_BYTES, Segment, Stripes
from agent.pull.striping import JUDGED_S, SEGMENTS_LEAST, Gain, Striping, is_lagging
from agent.tasks import end_all
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.patience import not_silent_for
from agent.transfer.peers import PeerBody
from agent.transfer.reader import BodyReader, receive_into
from agent.transfer.sink import ClientSink
from topology.placement import NodeName
from topology.ranking import Ranked

_PIECE_BYTES = 256 * 1024


class StripeBuffers:
    """Memory for all striped bodies: ``size_bytes`` in all, in segments of ``segment_bytes``."""

    def __init__(self, size_bytes: int, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.segment_bytes = segment_bytes
        self._segments = size_bytes // segment_bytes
        self._shares: set[StripeShare] = set()

    @contextlib.contextmanager
    def share(self) -> Iterator["StripeShare"]:
        """The share of one body. Two segments are certain; more if there are any. Leaving returns them."""
        share = StripeShare(self)
        self._shares.add(share)
        try:
            yield share
        finally:
            self._shares.discard(share)
            share.close()

    @property
    def free(self) -> int:
        """How many segments are neither in use nor reserved."""
        return self._segments - sum(max(share.held, SEGMENTS_LEAST) for share in self._shares)


class StripeShare:
    """The memory of one body."""

    def __init__(self, buffers: StripeBuffers) -> None:
        self._buffers = buffers
        self._spare: list[mmap.mmap] = []  # reused, because new memory costs more than receiving into it
        self._used = 0

    @property
    def segment_bytes(self) -> int:
        """The size of one segment."""
        return self._buffers.segment_bytes

    @property
    def held(self) -> int:
        """How many segments this share has memory for."""
        return self._used + len(self._spare)

    @property
    def room(self) -> bool:
        """Whether one more segment may be received."""
        return bool(self._spare) or self._used < SEGMENTS_LEAST or self._buffers.free > 0

    def acquire(self) -> mmap.mmap:
        """Memory for one more segment."""
        memory = self._spare.pop() if self._spare else mmap.mmap(-1, self.segment_bytes)
        self._used += 1
        return memory

    def release(self, memory: mmap.mmap) -> None:
        """Return the memory of a segment that was delivered."""
        self._used -= 1
        self._spare.append(memory)

    def close(self) -> None:
        """Return spare memory to the system. Memory in use is freed with its last user."""
        while self._spare:
            with contextlib.suppress(BufferError):  # the traceback of a failed lane still refers to it
                self._spare.pop().close()


Fetch = Callable[[Ranked, FetchRequest], Coroutine[Any, Any, PeerBody]]
"""Requests content from a holder. Raises `AttemptFailed`."""


@dataclass(eq=False, slots=True)
class _Lane:
    holder: Ranked
    body: PeerBody | None = None
    reader: BodyReader | None = None  # of ``body``
    task: asyncio.Task[None] | None = None
    received_bytes: int = 0
    segment_bytes: int = 0  # received for the present segment
    since_s: float | None = None  # when the present segment began; None between two segments
    last_bytes_per_s: float = 0.0  # in the segment before

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        if self.body is not None:
            self.body.close()
        self.reader = self.body = None

    def bytes_per_s(self, now_s: float) -> float:
        if self.since_s is None:
            return self.last_bytes_per_s
        return self.segment_bytes / max(now_s - self.since_s, 0.001)


@dataclass(eq=False, slots=True)
class _Filled:
    """A segment's memory, and which holder filled which part of it."""

    memory: mmap.mmap
    parts: deque[tuple[Ranked, int]] = field(default_factory=deque)
    sent_bytes: int = 0


class Striper:
    """Fetches and delivers bytes ``start`` to ``stop`` of a content. Call `run` once.

    ``striping``: learns if striping was useless. ``alone_bytes_per_s``, ``judged_s``: see `Gain`.
    ``failed``: is called for each lane that failed, with the number of bytes that it gave. ``credit``: is
    called with a holder and how many of its bytes the client was sent.
    """

    def __init__(
        self,
        wanted: FetchRequest,
        start: int,
        stop: int,
        *,
        limits: Limits,
        striping: Striping,
        alone_bytes_per_s: float,
        share: StripeShare,
        fetch: Fetch,
        failed: Callable[[Ranked, AttemptFailed, int], None],
        credit: Callable[[Ranked, int], None],
        judged_s: float = JUDGED_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wanted = wanted
        self._limits = limits
        self._striping = striping
        self._alone_bytes_per_s = alone_bytes_per_s
        self._share = share
        self._fetch = fetch
        self._failed = failed
        self._credit = credit
        self._judged_s = judged_s
        self._clock = clock
        self._stripes = Stripes(start, stop, segment_bytes=share.segment_bytes)
        self._filled: dict[Segment, _Filled] = {}
        self._lanes: dict[NodeName, _Lane] = {}
        self._change = asyncio.Event()
        self._last_failure: AttemptFailed | None = None

    async def run(self, sink: ClientSink, first: Ranked, body: PeerBody, others: Iterable[Ranked]) -> bool:
        """Fetch from ``first``, whose open ``body`` is at ``start``, and from ``others``. Deliver in order.

        Delivers everything. If one holder is left, or if several are no faster than one, it delivers the
        segments that began. Returns true if several were no faster than one.

        Raises `AttemptFailed` if no holder is left, `ClientGone`, and any unexpected error of a lane.
        """
        for lane in (_Lane(first, body), *(_Lane(other) for other in others)):
            self._lanes[lane.holder.node] = lane
            lane.task = asyncio.create_task(self._run(lane), name="lane")
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        try:
            return await self._deliver(sink, tasks)
        finally:
            await end_all(tasks)

    async def _deliver(self, sink: ClientSink, tasks: list[asyncio.Task[None]]) -> bool:
        useless = False
        gain = Gain(
            self._clock(),
            sent_bytes=sink.sent_bytes,
            held_s=sink.held_s,
            alone_bytes_per_s=self._alone_bytes_per_s,
            judged_s=self._judged_s,
        )
        while not self._stripes.done:
            if len(self._lanes) < 2:
                self._stripes.finish()
            elif not useless and self._is_useless(gain, sink):
                useless = True
                self._striping.was_useless(self._clock())
                self._stripes.finish()
            head = self._stripes.head
            filled = None if head is None else self._filled.get(head)
            if head is not None and filled is not None and filled.sent_bytes < head.received_bytes:
                await self._send(sink, filled, min(head.received_bytes, filled.sent_bytes + _PIECE_BYTES))
                if filled.sent_bytes == head.length:
                    del self._filled[self._stripes.delivered()]
                    self._share.release(filled.memory)
                    self._notify()
                continue
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()  # a bug ends the pull
            if not self._lanes:
                raise self._last_failure or AttemptFailed(Failure.BROKEN, "no holder left")
            await self._changed()
        return useless

    def _is_useless(self, gain: Gain, sink: ClientSink) -> bool:
        return gain.is_too_small(
            self._clock(),
            sent_bytes=sink.sent_bytes,
            held_s=sink.held_s,
            lane_failed=self._last_failure is not None,
        )

    async def _send(self, sink: ClientSink, filled: _Filled, stop: int) -> None:
        before = sink.sent_bytes
        with memoryview(filled.memory) as view, view[filled.sent_bytes : stop] as piece:
            try:
                await sink.write(piece, "stripe")
            finally:
                went = sink.sent_bytes - before
                filled.sent_bytes += went
                while went > 0:
                    holder, size_bytes = filled.parts.popleft()
                    self._credit(holder, min(size_bytes, went))
                    if size_bytes > went:
                        filled.parts.appendleft((holder, size_bytes - went))
                    went -= size_bytes

    async def _run(self, lane: _Lane) -> None:
        node = lane.holder.node
        try:
            while True:
                segment = self._stripes.next_segment(node, room=self._share.room)
                if segment is None:
                    self._dismiss_slower_than(lane)
                    await self._changed()
                else:
                    await self._fill(lane, segment)
        except AttemptFailed as error:
            self._last_failure = error
            self._failed(lane.holder, error, lane.received_bytes)
        finally:
            self._lanes.pop(node, None)
            self._stripes.leave(node)
            lane.close()
            self._notify()

    async def _fill(self, lane: _Lane, segment: Segment) -> None:
        if segment not in self._filled:
            self._filled[segment] = _Filled(self._share.acquire())
        filled = self._filled[segment]
        lane.since_s, lane.segment_bytes = self._clock(), 0
        with memoryview(filled.memory) as view:
            while not segment.whole:
                received = await self._receive(lane, segment, view)
                segment.received_bytes += received
                lane.received_bytes += received
                lane.segment_bytes += received
                filled.parts.append((lane.holder, received))
                self._notify()
                await asyncio.sleep(0)  # a socket that always has bytes must not block other tasks
                now_s = self._clock()
                bytes_per_s = lane.bytes_per_s(now_s)
                if self._limits.is_too_slow(bytes_per_s, over_s=now_s - lane.since_s):
                    raise AttemptFailed(Failure.SLOW, f"{bytes_per_s:.0f} bytes/s")
        lane.last_bytes_per_s, lane.since_s = lane.bytes_per_s(self._clock()), None

    async def _receive(self, lane: _Lane, segment: Segment, view: memoryview) -> int:
        """Receive the next bytes of a segment to their place. Request them first, if no body is open."""
        at = segment.received_bytes
        position = segment.start + at
        if lane.body is not None and (lane.body.position != position or not lane.body.left_bytes):
            lane.close()
        if lane.body is None:
            spec = RangeSpec(first=position, last=segment.stop - 1)
            async with not_silent_for(self._limits.stall_s):
                lane.body = await self._fetch(lane.holder, replace(self._wanted, range_spec=spec))
            first = lane.body.first
            view[at : at + len(first)] = first
            return len(first)
        if lane.reader is None:
            meter = Meter(self._clock(), window_s=self._limits.stall_s)
            lane.reader = BodyReader(lane.body, meter, self._limits.stall_s, clock=self._clock)
        return await lane.reader.receive(
            partial(receive_into, view[at : segment.length][: lane.body.left_bytes])
        )

    def _dismiss_slower_than(self, lane: _Lane) -> None:
        """Dismiss the lane that the reader waits for, if this idle lane is much faster."""
        head, now_s = self._stripes.head, self._clock()
        owner = None if head is None or head.owner is None or head.whole else self._lanes.get(head.owner)
        if owner is None or owner is lane or owner.since_s is None or owner.task is None:
            return
        bytes_per_s = owner.bytes_per_s(now_s)
        if is_lagging(bytes_per_s, lane.bytes_per_s(now_s), over_s=now_s - owner.since_s):
            self._lanes.pop(owner.holder.node, None)
            owner.task.cancel()  # it gives up its segment once it no longer receives into it
            slower = AttemptFailed(Failure.LAGGING, f"{bytes_per_s:.0f} bytes/s beside others")
            self._failed(owner.holder, slower, owner.received_bytes)

    def _notify(self) -> None:
        """Wake every task that waits for a change."""
        self._change.set()
        self._change.clear()

    async def _changed(self) -> None:
        """Wait for a change, but only for one tick: a lane's rate changes without one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await self._change.wait()
