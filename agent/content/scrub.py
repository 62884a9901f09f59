"""Reads this node's content again, slowly, to find blobs that the disk corrupted before a peer gets them.

Decides what to read next and how fast. A blob that does not match its digest, or can't be read, is withdrawn:
it is not offered any more until its owner writes it again. It is read twice before that, because a file may
be replaced while it is read.
"""

import asyncio
import errno
import hashlib
import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from agent.config import ScrubSettings
from agent.content.store import Blob, ContentError, ContentMissing, ContentStore, ContentUnavailable, Identity
from agent.documents.scrub import (
    OFF,
    PAUSED,
    QUEUED,
    READING,
    WAITING,
    RoundEntry,
    ScrubDocument,
    UnreadableEntry,
)
from agent.documents.times import Moment
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.pull.bucket import TokenBucket

_log = logging.getLogger(__name__)

_PIECE_BYTES = 1024 * 1024
_STORE_S = 0.5
_SOON_MAX = 1024
_FOUND_MAX = 100
_UNREADABLE_MAX = 100
# A file system that went away, or a machine without memory: the blob itself may be sound.
_NOT_OF_THE_BLOB = (errno.ESTALE, errno.ENOMEM, errno.EACCES, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO)


class Scrubber:
    """Reads through a store while `run` is running. Pausing takes effect within a MiB."""

    def __init__(
        self,
        store: ContentStore,
        settings: ScrubSettings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._limit = TokenBucket(settings.bytes_per_s)
        self._going = asyncio.Event()
        self._going.set()
        self._soon: deque[Digest] = deque(maxlen=_SOON_MAX)
        self._asked = asyncio.Event()
        self._sound: OrderedDict[Digest, Identity | None] = OrderedDict()
        self._found: deque[Digest] = deque(maxlen=_FOUND_MAX)
        self._reading: Digest | None = None
        self._rounds = self._done = self._of = 0
        self._in_round = False
        self._due_s = 0.0  # when the next round begins

    @property
    def paused(self) -> bool:
        """Whether the scrubber is paused."""
        return not self._going.is_set()

    def pause(self) -> None:
        """Read nothing until `resume`."""
        self._going.clear()

    def resume(self) -> None:
        """Continue where it was paused."""
        self._going.set()

    def start(self) -> bool:
        """Begin the next round now, or go on with the one that is under way. False if the scrub is off."""
        if not self._settings.bytes_per_s:
            return False
        self.resume()
        if not self._in_round:
            self._due_s = self._clock()
            self._asked.set()
        return True

    @property
    def state(self) -> str:
        """See `ScrubDocument.state`."""
        if not self._settings.bytes_per_s:
            return OFF
        if self.paused:
            return PAUSED
        if self._in_round or self._reading is not None:
            return READING
        return QUEUED if self._due_s <= self._clock() else WAITING

    def check_soon(self, digest: Digest, identity: Identity | None) -> None:
        """Check a doubtful blob next, unless the same file was found intact recently."""
        known = digest in self._soon or (digest in self._sound and self._sound[digest] == identity)
        if self._settings.bytes_per_s and not known:
            self._soon.append(digest)
            self._asked.set()

    def spoiled(self, digest: Digest, identity: Identity | None, found_by: str) -> None:
        """Withdraw a blob. It was read whole from this file and does not match its digest."""
        self._store.withdraw(digest, identity)
        self._found.append(digest)
        self._metrics.corrupt(found_by)
        _log.error(
            "corrupt blob withdrawn; remove the images that use it, so that they are pulled again",
            extra={"fields": {"digest": digest, "found_by": found_by}},
        )

    @property
    def withdrawn(self) -> tuple[Digest, ...]:
        """The blobs that were found corrupt, and were not written again since."""
        return tuple(digest for digest in self._found if not self._store.holds(digest))

    def document(self, moment: Moment) -> ScrubDocument:
        """The state at this moment, for the API."""
        unreadable = self._store.unreadable
        return ScrubDocument(
            time=moment.text,
            bytes_per_s=self._settings.bytes_per_s,
            state=self.state,
            held_up=self._store.problem,
            paused=self.paused,
            reading=self._reading,
            round=RoundEntry(done=self._done, of=self._of, finished=self._rounds),
            withdrawn=self.withdrawn,
            unreadable=tuple(
                UnreadableEntry(digest=digest, reason=reason)
                for digest, reason in islice(unreadable.items(), _UNREADABLE_MAX)
            ),
            unreadable_blobs=len(unreadable),
        )

    async def run(self) -> None:
        """Read round after round, until cancelled."""
        while True:
            await self._store_is_well()
            self._due_s = self._clock() + self._settings.round_s
            if self._settings.bytes_per_s:
                self._in_round = True
                await self._round()
                self._in_round = False
            while (left_s := self._due_s - self._clock()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await self._asked.wait()
                await self._doubted()

    async def _store_is_well(self) -> None:
        # The store has no event for its start or its return, so its state is polled.
        while self._store.problem is not None:  # noqa: ASYNC110
            await asyncio.sleep(_STORE_S)

    async def _round(self) -> None:
        digests = sorted(self._store.digests)
        self._done, self._of = 0, len(digests)
        self._sound.clear()
        for digest in digests:
            await self._doubted()
            await self._store_is_well()
            await self._check(digest)
            await asyncio.sleep(
                0
            )  # an empty file takes no bytes, and so no time: others have their turn here
            self._done += 1
        self._rounds += 1

    async def _doubted(self) -> None:
        self._asked.clear()
        while self._soon:
            await self._check(self._soon.popleft())

    async def _check(self, digest: Digest) -> None:
        self._reading = digest
        try:
            for _ in range(2):
                sound, identity = await self._verify(digest)
                if sound:
                    self._sound[digest] = identity
                    if len(self._sound) > _SOON_MAX:
                        self._sound.popitem(last=False)
                    return
            self.spoiled(digest, identity, "scrub")
        except ContentError:
            return  # the blob or the store went away meanwhile
        finally:
            self._reading = None

    async def _verify(self, digest: Digest) -> tuple[bool, Identity | None]:
        """Whether the blob matches its digest, and which file was read."""
        if not self._store.holds(digest):
            raise ContentMissing(digest)
        blob = await self._store.open(digest)
        algorithm, _, expected = digest.partition(":")
        hashed = hashlib.new(algorithm)
        try:
            for offset in range(0, blob.size_bytes, _PIECE_BYTES):
                await self._going.wait()
                try:
                    piece = await _read(blob, offset)
                except OSError as error:
                    _log.warning("blob unreadable: %s", error, extra={"fields": {"digest": digest}})
                    if error.errno in _NOT_OF_THE_BLOB:
                        raise ContentUnavailable(str(error)) from error
                    return False, blob.identity
                await asyncio.to_thread(hashed.update, piece)
                self._metrics.scrubbed(len(piece))
                await asyncio.sleep(self._limit.take(len(piece), self._clock()))
        finally:
            blob.close()
        return hashed.hexdigest() == expected, blob.identity


async def _read(blob: Blob, offset: int) -> bytes:
    if blob.fd is None:
        return await blob.read(offset, _PIECE_BYTES)
    if offset == 0:  # the page cache need not keep what is read only once (Linux 6.3)
        os.posix_fadvise(blob.fd, 0, 0, os.POSIX_FADV_NOREUSE)
    return await asyncio.to_thread(os.pread, blob.fd, _PIECE_BYTES, offset)
