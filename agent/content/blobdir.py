"""A directory of blobs, ``blobs/ALGORITHM/HEX``, as both containerd and the OCI image layout have it.

It knows which blobs are there without reading the disk for each question. inotify reports changes at once. A
check of the directories' modification times every half second finds what inotify missed (an overflow, a
network file system). containerd's own content events are not enough: containerd 1.6 and 1.7 send none, and
no version announces garbage collection.
Sources: inotify(7); OCI image spec, image-layout.md; measurements of containerd's content store.
"""

import asyncio
import errno
import logging
import os
import stat
from collections.abc import Callable, Set
from contextlib import nullcontext, suppress
from pathlib import Path

from asyncinotify import Event, Inotify, Mask

from agent.content.store import Change, ChangeKind, ContentMissing, FileBlob, Identity, difference
from agent.oci.digest import HEX_LENGTH, Digest, parse_digest
from agent.oci.errors import DigestInvalid

_log = logging.getLogger(__name__)

_POLL_S = 0.5
_ABSENT_POLL_S = 0.1
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED | Mask.Q_OVERFLOW
_CAME = Mask.CLOSE_WRITE | Mask.MOVED_TO
_WENT = Mask.DELETE | Mask.MOVED_FROM
_WATCHED = _CAME | _WENT | Mask.CREATE | Mask.DELETE_SELF | Mask.MOVE_SELF

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
        """All blobs, as a live view."""
        return self._sizes.keys()

    def __contains__(self, digest: Digest) -> bool:
        if self.problem is None:
            return digest in self._sizes
        if self._is_withdrawn(digest):
            return False
        # The directory may just have come, with a node's first blob. Path.exists raises if it can't be read.
        return os.path.exists(self.path(digest))  # noqa: PTH110

    def path(self, digest: Digest) -> Path:
        """The path of a blob's file. Safe for any `Digest`, because its grammar has no separators."""
        algorithm, _, encoded = digest.partition(":")
        return self._root.joinpath(algorithm, encoded)

    def withdraw(self, digest: Digest, identity: Identity | None) -> None:
        """Stop holding a blob whose file is corrupt, until another file takes its place."""
        if identity is None or _identity(self.path(digest)) not in (None, identity):
            return
        self._withdrawn[digest] = identity
        self._remove(digest)

    def open(self, digest: Digest) -> FileBlob:
        """Open a blob. If its file is gone and the event has not arrived yet, the blob is dropped at once."""
        try:
            if self._is_withdrawn(digest):
                raise ContentMissing(f"corrupt: {digest}")
            return FileBlob(self.path(digest))
        except ContentMissing:
            self._remove(digest)
            raise

    async def run(self) -> None:
        """Follow the directory until cancelled, also when it is removed and comes back."""
        while True:
            try:
                await self._follow()
                self.outages += 1
            except OSError as error:
                self.outages += self.problem is None
                self.problem = f"{self._root}: {error.strerror or error}"
                self._adopt({})
                self.scanned.set()
                await asyncio.sleep(_ABSENT_POLL_S)

    async def _follow(self) -> None:
        """Follow until the directories themselves change. Raises OSError if they can't be read."""
        os.stat(self._root)  # noqa: PTH116 - raises with strerror, which add_watch does not
        inotify = self._watch()
        with inotify or nullcontext():
            seen = self._fingerprint()
            self._adopt(await asyncio.to_thread(_scan, self._root))
            self.problem = None
            self.scanned.set()
            while True:
                event = None
                if inotify is None:
                    await asyncio.sleep(_POLL_S)
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_POLL_S):
                            event = await inotify.get()
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
        if event.mask & Mask.ISDIR:
            return event.path.name not in HEX_LENGTH
        digest = _digest_of(event.path)
        if digest is None:
            return True
        if event.mask & _WENT:
            self._remove(digest)
        elif event.mask & _CAME or _is_linked(event.path):
            self._add(digest, event.path)
        return True

    def _add(self, digest: Digest, path: Path) -> None:
        try:
            status = path.lstat()
        except OSError:
            return  # it is gone again, and an event for that follows
        if not stat.S_ISREG(status.st_mode):
            return  # a link could point anywhere
        if self._is_withdrawn(digest):
            return
        size = status.st_size
        known = self._sizes.get(digest)
        self._sizes[digest] = size
        self._bytes += size - (known or 0)
        if known is None:
            self._publish(Change(ChangeKind.ADDED, digest))

    def _remove(self, digest: Digest) -> None:
        size = self._sizes.pop(digest, None)
        if size is not None:
            self._bytes -= size
            self._publish(Change(ChangeKind.REMOVED, digest))

    def _is_withdrawn(self, digest: Digest) -> bool:
        spoiled = self._withdrawn.get(digest)
        if spoiled is None:
            return False
        current = _identity(self.path(digest))
        if current is not None and current != spoiled:  # if there is no file now, the same one may come back
            del self._withdrawn[digest]
            return False
        return True

    def _adopt(self, found: dict[Digest, int]) -> None:
        for digest in list(self._withdrawn):  # a list: what was replaced is removed meanwhile
            if self._is_withdrawn(digest):
                found.pop(digest, None)
        before, self._sizes, self._bytes = self._sizes, found, sum(found.values())
        for change in difference(before.keys(), found.keys()):
            self._publish(change)

    def _fingerprint(self) -> _Fingerprint:
        return tuple(_identity(self._root / name) for name in ("", *HEX_LENGTH))


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _scan(root: Path) -> dict[Digest, int]:
    found: dict[Digest, int] = {}
    for algorithm in HEX_LENGTH:
        with suppress(FileNotFoundError), os.scandir(root / algorithm) as entries:
            for entry in entries:
                digest = _digest_of(Path(entry.path))
                if digest is not None and (size_bytes := _size_of(entry)) is not None:
                    found[digest] = size_bytes
    return found


def _size_of(entry: "os.DirEntry[str]") -> int | None:
    """The size of a regular file. None for anything else, and for one that can't be looked at (any more)."""
    try:
        return entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else None
    except OSError:
        return None  # removed during the scan: an event follows


def _digest_of(path: Path) -> Digest | None:
    try:
        return parse_digest(f"{path.parent.name}:{path.name}")
    except DigestInvalid:
        return None


def _is_linked(path: Path) -> bool:
    # A file that is still being written has one name. A file that was linked here is complete.
    try:
        return path.lstat().st_nlink > 1
    except OSError:
        return False
