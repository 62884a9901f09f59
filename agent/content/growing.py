"""A file that somebody else is still writing, and the one watcher that wakes all who wait for its next byte.

inotify tells of each write. A look every 50 ms finds what inotify does not tell: on a network file system, or
when the kernel gives no more watches. A file that is renamed keeps its inode, so its descriptor stays good;
one that is removed has no links left, which fstat tells. Source: inotify(7).
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from asyncinotify import Inotify, Mask, Watch

from agent.content.fileblob import FileBlob
from agent.content.store import ContentGone, Identity

_log = logging.getLogger(__name__)

_LOOK_S = 0.05
_PAUSE_S = 0.01  # between two looks, so that a fast writer does not wake this process for each write
_EVENTS_BYTES = 64 * 1024
_TOLD = Mask.MODIFY | Mask.ATTRIB | Mask.MOVE_SELF


class GrowingFile(FileBlob):
    """An open file that grows to ``size_bytes``. See `GrowingBlob`. Nobody has verified what is in it."""

    def __init__(self, path: Path | str, *, size_bytes: int, watcher: "GrowthWatcher") -> None:
        self._watcher = watcher
        super().__init__(path)
        self.inode = self.identity[:2] if self.identity else (0, 0)
        self.size_bytes = size_bytes
        self.identity: Identity | None = None  # it changes with each write

    @property
    def available_bytes(self) -> int:
        """See `Blob.available_bytes`."""
        assert self.fd is not None, "asked after close"
        return min(os.fstat(self.fd).st_size, self.size_bytes)

    async def read(self, offset: int, length: int) -> bytes:
        """See `Blob.read`. Nothing beyond ``size_bytes``, whatever its owner writes."""
        return await super().read(offset, max(0, min(length, self.size_bytes - offset)))

    @property
    def outgrown(self) -> bool:
        """Whether it is larger than its owner expects, so that it won't be committed."""
        assert self.fd is not None, "asked after close"
        return os.fstat(self.fd).st_size > self.size_bytes

    def beyond(self, offset: int) -> int | None:
        """How many bytes are there if they are more than ``offset``, else None. Raises `ContentGone`."""
        assert self.fd is not None, "asked after close"
        status = os.fstat(self.fd)
        if status.st_size > self.size_bytes:
            raise ContentGone(f"{status.st_size} bytes of {self.size_bytes}: its owner will not commit that")
        if status.st_size > offset:
            return status.st_size
        if not status.st_nlink:
            raise ContentGone(f"its owner gave it up at {status.st_size} of {self.size_bytes} bytes")
        return None

    async def wait_beyond(self, offset: int) -> int:
        """See `GrowingBlob.wait_beyond`."""
        if offset >= self.size_bytes:
            raise ValueError(f"there is no byte {offset} in {self.size_bytes}")
        return await self._watcher.wait(self, offset)

    def close(self) -> None:
        """See `Blob.close`."""
        if self.fd is not None:
            self._watcher.forget(self)
        super().close()


class GrowthWatcher:
    """Wakes those who wait for files to grow. It costs nothing while nobody waits."""

    def __init__(self, make_inotify: Callable[[], Inotify] = Inotify) -> None:
        self._make_inotify = make_inotify
        self._waiting: dict[asyncio.Future[int], tuple[GrowingFile, int]] = {}
        self._watched: dict[GrowingFile, Watch | None] = {}
        self._inotify: Inotify | None = None
        self._listening = False
        self._told = False  # that there are no watches left
        self._looked_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    async def wait(self, file: GrowingFile, offset: int) -> int:
        """See `GrowingBlob.wait_beyond`."""
        available_bytes = file.beyond(offset)
        if available_bytes is not None:
            return available_bytes
        self._watch(file)
        available_bytes = file.beyond(offset)  # it may have grown before it was watched
        if available_bytes is not None:
            return available_bytes
        grown: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[grown] = file, offset
        self._listen()
        try:
            return await grown
        finally:
            self._waiting.pop(grown, None)
            if not self._waiting:
                self._rest()

    def forget(self, file: GrowingFile) -> None:
        """The file is about to be closed."""
        for grown, (waited_for, _) in tuple(self._waiting.items()):
            if waited_for is file and not grown.done():
                grown.set_exception(ContentGone("closed while it was waited for"))
        watch = self._watched.pop(file, None)
        if self._inotify is None:
            return
        if not any(self._watched.values()):
            self._rest()
            self._inotify.close()
            self._inotify = None
            if self._waiting:  # for files that have no watch
                self._listen()
        elif watch is not None and all(other.inode != file.inode for other in self._watched):
            with suppress(OSError):  # the kernel removed it with the file
                self._inotify.rm_watch(watch)

    def _watch(self, file: GrowingFile) -> None:
        if file in self._watched:
            return
        try:
            if self._inotify is None:
                self._inotify = self._make_inotify()
            # By its descriptor: its owner may rename the file at any time.
            self._watched[file] = self._inotify.add_watch(f"/proc/self/fd/{file.fd}", _TOLD)
        except OSError as error:
            self._watched[file] = None
            if not self._told:
                self._told = True
                _log.warning(
                    "no inotify watches left, so a blob that grows is looked at every %.0f ms: %s",
                    1000 * _LOOK_S,
                    error,
                    extra={
                        "fields": {
                            "hint": "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches"
                        }
                    },
                )

    def _listen(self) -> None:
        """Look again when inotify tells something, or after a while."""
        loop = asyncio.get_running_loop()
        if self._inotify is not None and not self._listening:
            self._listening = True
            loop.add_reader(self._inotify.fd, self._stirred)
        if self._timer is None:
            self._timer = loop.call_later(_LOOK_S, self._look)

    def _stirred(self) -> None:
        """inotify has events. What they say is seen by looking."""
        loop = asyncio.get_running_loop()
        self._rest()
        self._timer = loop.call_at(max(loop.time(), self._looked_s + _PAUSE_S), self._look)

    def _look(self) -> None:
        self._timer = None
        self._looked_s = asyncio.get_running_loop().time()
        self._drain()
        for grown, (file, offset) in tuple(self._waiting.items()):
            if grown.done():
                continue
            try:
                available_bytes = file.beyond(offset)
            except ContentGone as gone:
                grown.set_exception(gone)
                continue
            if available_bytes is not None:
                grown.set_result(available_bytes)
        if not all(grown.done() for grown in self._waiting):
            self._listen()

    def _drain(self) -> None:
        """Throw all events away, before the files are looked at."""
        if self._inotify is None:
            return
        with suppress(BlockingIOError):
            while len(os.read(self._inotify.fd, _EVENTS_BYTES)) > _EVENTS_BYTES // 2:
                pass

    def _rest(self) -> None:
        if self._listening and self._inotify is not None:
            self._listening = False
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
