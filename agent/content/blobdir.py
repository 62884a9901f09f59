"""A directory of blobs, ``blobs/ALGORITHM/HEX``, as both containerd and the OCI image layout have it.

It knows which blobs are there, and can be read, without reading the disk for each question. inotify reports
changes at once. A check of the directories' times every half second finds what inotify missed (an overflow, a
network file system). containerd's own content events are not enough: containerd 1.6 and 1.7 send none, and
no version announces garbage collection.
Sources: inotify(7); OCI image spec, image-layout.md; measurements of containerd's content store.

A blob that can't be read is not held: see `agent.content.blobfiles`.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Mapping, Set
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path

from asyncinotify import Event, Inotify, Mask

from agent.content.blobfiles import Found, digest_of, is_complete, look, scan, try_to_open
from agent.content.fileblob import CORRUPT, FileBlob
from agent.content.store import (
    Change,
    ChangeKind,
    ContentMissing,
    ContentUnreadable,
    Identity,
    difference,
)
from agent.oci.digest import HEX_LENGTH, Digest

_log = logging.getLogger(__name__)

_POLL_S = 0.5
_ABSENT_POLL_S = 0.1
_TRIED_AGAIN = 200  # unreadable blobs, at each poll: some milliseconds
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED | Mask.Q_OVERFLOW
_CAME = Mask.CLOSE_WRITE | Mask.MOVED_TO
_WENT = Mask.DELETE | Mask.MOVED_FROM
_WATCHED = _CAME | _WENT | Mask.CREATE | Mask.ATTRIB | Mask.DELETE_SELF | Mask.MOVE_SELF

_NO_MORE = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOMEM)

_Fingerprint = tuple[Identity | None, ...]


class BlobDirectory:
    """The blobs below one ``blobs`` directory. The directory itself may come and go.

    ``publish`` is told each change right after it was made.
    """

    def __init__(self, root: Path, publish: Callable[[Change], None]) -> None:
        self._root = root
        self._sizes: dict[Digest, int] = {}
        self._bytes = 0
        self._unreadable: dict[Digest, str] = {}  # those to be tried again first come first
        self._withdrawn: dict[Digest, Identity] = {}  # corrupt files
        self._publish = publish
        self.problem: str | None = "not read yet"
        self._told = False  # that there are no watches left
        self.outages = 0  # how often it vanished, or changes may have been missed
        self.scanned = asyncio.Event()  # set after the first scan, whether the directory exists or not

    @property
    def totals(self) -> tuple[int, int]:
        """The number of blobs, and their total size in bytes."""
        return len(self._sizes), self._bytes

    @property
    def digests(self) -> Set[Digest]:
        """All blobs that can be read, as a live view."""
        return self._sizes.keys()

    @property
    def unreadable(self) -> Mapping[Digest, str]:
        """The blobs that are there and can't be read, and why, as a live view."""
        return self._unreadable

    def flaw(self, digest: Digest) -> str | None:
        """See `ContentStore.flaw`."""
        if self._is_withdrawn(digest):
            return CORRUPT
        reason = self._unreadable.get(digest)
        return None if reason is None else f"unreadable: {reason}"

    def __contains__(self, digest: Digest) -> bool:
        if self.problem is None:
            return digest in self._sizes
        if self._is_withdrawn(digest):
            return False
        # The directory may just have come, with a node's first blob.
        return isinstance(look(self.path(digest)), int)

    def path(self, digest: Digest) -> Path:
        """The path of a blob's file. Safe for any `Digest`, because its grammar has no separators."""
        algorithm, _, encoded = digest.partition(":")
        return self._root.joinpath(algorithm, encoded)

    def look_for(self, digest: Digest) -> None:
        """A blob may have just come: know it now, and not only when inotify tells of it."""
        if self.problem is None and digest not in self._sizes:
            self._look_again(digest, self.path(digest))

    def written_ns(self, digest: Digest) -> int | None:
        """When the blob's file was written, in Unix nanoseconds. None: there is none. For any thread."""
        identity = _identity(self.path(digest))
        return None if identity is None else identity[2]

    def withdraw(self, digest: Digest, identity: Identity | None) -> None:
        """Stop holding a blob whose file is corrupt, until another file takes its place."""
        if identity is None or _identity(self.path(digest)) not in (None, identity):
            return
        self._withdrawn[digest] = identity
        self._note(digest, None)

    def open(self, digest: Digest) -> FileBlob:
        """Open a blob. If it is gone, can't be read, or can be read again, that counts at once."""
        try:
            if self._is_withdrawn(digest):
                raise ContentMissing(f"corrupt: {digest}")
            algorithm, _, encoded = digest.partition(":")
            # Each request comes here, and pathlib takes more time than the system calls.
            blob = FileBlob(f"{self._root}/{algorithm}/{encoded}")
        except ContentMissing:
            self._note(digest, None)
            raise
        except ContentUnreadable as error:
            if digest in self._sizes:  # nothing is noted of digests that somebody made up
                self._note(digest, error.reason)
            raise
        if digest in self._unreadable:
            self._note(digest, blob.size_bytes)
        return blob

    async def run(self) -> None:
        """Follow the directory until cancelled, also when it is removed and comes back."""
        while True:
            try:
                await self._follow()
                self.outages += 1
            except OSError as error:
                self.outages += self.problem is None
                self.problem = f"{self._root}: {error.strerror or error}"
                self._adopt(Found())
                self.scanned.set()
                await asyncio.sleep(_ABSENT_POLL_S)

    async def _follow(self) -> None:
        """Follow until the directories themselves change. Raises OSError if they can't be read."""
        os.stat(self._root)  # noqa: PTH116 - raises with strerror, which add_watch does not
        inotify = self._watch()
        with inotify or nullcontext():
            seen = self._fingerprint()
            self._adopt(await asyncio.to_thread(scan, self._root))
            self.problem = None
            self.scanned.set()
            clock = asyncio.get_running_loop().time
            try_again_s = clock() + _POLL_S
            while True:
                event = None
                if inotify is None:
                    await asyncio.sleep(_POLL_S)
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_POLL_S):
                            event = await inotify.get()
                if self._unreadable and clock() >= try_again_s:
                    await self._try_unreadable()
                    try_again_s = clock() + _POLL_S
                if event is None:
                    if self._fingerprint() != seen:
                        return
                    continue
                if not self._apply(event):
                    return
                seen = self._fingerprint()

    def _watch(self) -> Inotify | None:
        """Watches on the directories. None if the kernel gives no more: then the check of times has to do."""
        inotify: Inotify | None = None
        try:
            inotify = Inotify()
            inotify.add_watch(self._root, _WATCHED)
            for algorithm in HEX_LENGTH:
                if (self._root / algorithm).is_dir():
                    inotify.add_watch(self._root / algorithm, _WATCHED)
        except OSError as error:
            if inotify is not None:
                inotify.close()
            if error.errno not in _NO_MORE:
                raise
            if not self._told:
                self._told = True
                _log.warning(
                    "no inotify watches left, so new blobs are noticed within %.1f s only: %s",
                    _POLL_S,
                    error,
                    extra={
                        "fields": {
                            "hint": "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches"
                        }
                    },
                )
            return None
        return inotify

    def _apply(self, event: Event) -> bool:
        """Apply one event. False if the watches have to be set up again."""
        if event.mask & _GONE or event.path is None:
            return False
        if event.mask & Mask.ISDIR and (event.path.name in HEX_LENGTH or event.path == self._root):
            return False
        digest = digest_of(event.path)
        if digest is None:
            return True
        if event.mask & _WENT:
            self._note(digest, None)
        elif event.mask & Mask.ATTRIB:  # of a file that is still being written, perhaps
            if digest in self._sizes or digest in self._unreadable:
                self._look_again(digest, event.path)
        elif event.mask & _CAME or is_complete(event.path):
            self._look_again(digest, event.path)
        return True

    def _look_again(self, digest: Digest, path: Path) -> None:
        if not self._is_withdrawn(digest):
            self._note(digest, look(path))

    async def _try_unreadable(self) -> None:
        """Try to open the blobs that could not be read, a bounded number at a time, in turn."""
        digests = list(islice(self._unreadable, _TRIED_AGAIN))
        results = await asyncio.to_thread(try_to_open, [self.path(digest) for digest in digests])
        for digest, result in zip(digests, results, strict=True):
            if digest in self._unreadable:
                self._note(digest, result)

    def _note(self, digest: Digest, found: int | str | None) -> None:
        """What is known of a blob from now on: its size, or why it can't be read, or None: it is gone."""
        self._unreadable.pop(digest, None)
        if isinstance(found, str):
            self._unreadable[digest] = found
        if not isinstance(found, int):
            size = self._sizes.pop(digest, None)
            if size is not None:
                self._bytes -= size
                self._publish(Change(ChangeKind.REMOVED, digest))
            return
        known = self._sizes.get(digest)
        self._sizes[digest] = found
        self._bytes += found - (known or 0)
        if known is None:
            self._publish(Change(ChangeKind.ADDED, digest))

    def _is_withdrawn(self, digest: Digest) -> bool:
        spoiled = self._withdrawn.get(digest)
        if spoiled is None:
            return False
        current = _identity(self.path(digest))
        if current is not None and current != spoiled:  # if there is no file now, the same one may come back
            del self._withdrawn[digest]
            return False
        return True

    def _adopt(self, found: Found) -> None:
        for digest in list(self._withdrawn):  # a list: what was replaced is removed meanwhile
            if self._is_withdrawn(digest):
                found.sizes.pop(digest, None)
                found.unreadable.pop(digest, None)
        before = self._sizes
        self._sizes, self._bytes = found.sizes, sum(found.sizes.values())
        self._unreadable = found.unreadable
        for change in difference(before.keys(), found.sizes.keys()):
            self._publish(change)

    def _fingerprint(self) -> _Fingerprint:
        return tuple(_state(self._root / name) for name in ("", *HEX_LENGTH))


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _state(directory: Path) -> Identity | None:
    """What changes with what a directory has, and with who may use it. None: it can't be looked at."""
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns
