"""The contract of a content store, and the values it speaks in.

A store is read-only to us: its owner (containerd, or whoever writes the layout) adds and removes
content. One conformance suite, ``tests/conformance/test_content_store.py``, runs on every
implementation.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Set
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from agent.oci.digest import Digest
from agent.oci.manifest import Descriptor
from agent.oci.reference import Named, Registry, Repository, Tag


class ContentError(Exception):
    """Content can't be had from the store."""


class ContentMissing(ContentError):
    """The store does not have this digest: try elsewhere."""


class ContentUnavailable(ContentError):
    """The store itself does not answer: try elsewhere, and expect it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedImage:
    """A tag that the store knows. ``seen_s``: Unix time at which the store last wrote it."""

    name: Named
    descriptor: Descriptor
    seen_s: float


class ChangeKind(Enum):
    """What happened to a blob."""

    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Change:
    """One blob that came or went."""

    kind: ChangeKind
    digest: Digest


Identity = tuple[int, int, int]
"""Device, inode and time of change of a file: tells whether it is the same one, unchanged."""


class Blob(Protocol):
    """An open content. Whoever opened it closes it."""

    size_bytes: int
    fd: int | None  # for sendfile; None when the bytes come over an API
    identity: Identity | None  # of its file

    async def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; shorter only at the end. Raises `ContentError`."""
        ...

    def close(self) -> None:
        """Release it. Closing twice does nothing."""
        ...


class ContentStore(Protocol):
    """What this node has."""

    async def run(self) -> None:
        """Follow the store until cancelled. Errors of the store never escape: see `problem`."""
        ...

    @property
    def problem(self) -> str | None:
        """Why the store does not work now; None while it does."""
        ...

    def holds(self, digest: Digest) -> bool:
        """Whether the store has this blob complete, as of at most a second ago. Cost: a set look-up."""
        ...

    @property
    def digests(self) -> Set[Digest]:
        """All that it `holds`. Cost: none with files, a copy over the API."""
        ...

    def withdraw(self, digest: Digest, identity: Identity | None) -> None:
        """The blob is not what its digest says: do not hold it any more, until it is written anew.

        ``identity``: of what was read; nothing is done when another file has taken its place.
        """
        ...

    def find(self, repository: Repository, tag: Tag, registry: Registry | None) -> tuple[TaggedImage, ...]:
        """The images of this name: of one registry, or of every registry that has it."""
        ...

    def images(self, repository: Repository) -> tuple[TaggedImage, ...]:
        """Every tag of a repository, in any registry. Cost: a walk over all names."""
        ...

    async def open(self, digest: Digest) -> Blob:
        """The blob. Raises `ContentMissing` or `ContentUnavailable`."""
        ...

    @property
    def totals(self) -> tuple[int, int]:
        """How many blobs the store has, and their bytes."""
        ...

    def watch(self) -> AsyncIterator[Change]:
        """Each blob that comes or goes from now on. A reader 65,536 changes behind misses the oldest."""
        ...


class FileBlob:
    """A blob that is a file, opened once; it stays readable when the file is removed meanwhile."""

    def __init__(self, path: Path) -> None:
        try:
            self.fd: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise ContentMissing(f"no such blob: {path.name}") from error
        except OSError as error:
            raise ContentUnavailable(f"{path}: {error.strerror}") from error
        status = os.fstat(self.fd)
        self.size_bytes = status.st_size
        self.identity: Identity | None = (status.st_dev, status.st_ino, status.st_mtime_ns)

    async def read(self, offset: int, length: int) -> bytes:
        """See `Blob.read`. Small reads: done in place, as a thread would cost more than it saves."""
        assert self.fd is not None, "read after close"
        try:
            return os.pread(self.fd, length, offset)
        except OSError as error:
            raise ContentUnavailable(str(error)) from error

    def close(self) -> None:
        """See `Blob.close`."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Names:
    """The tags of a store, by repository and tag. Replaced as a whole, read often."""

    def __init__(self) -> None:
        self._images: dict[tuple[Repository, Tag], tuple[TaggedImage, ...]] = {}

    def replace(self, images: Iterable[TaggedImage]) -> None:
        """Know these images and no others."""
        found: dict[tuple[Repository, Tag], tuple[TaggedImage, ...]] = {}
        for image in images:
            key = (image.name.repository, image.name.tag)
            found[key] = (*found.get(key, ()), image)
        self._images = found

    def find(self, repository: Repository, tag: Tag, registry: Registry | None) -> tuple[TaggedImage, ...]:
        """See `ContentStore.find`."""
        images = self._images.get((repository, tag), ())
        if registry is None:
            return images
        return tuple(image for image in images if image.name.registry == registry)

    def of(self, repository: Repository) -> tuple[TaggedImage, ...]:
        """See `ContentStore.images`."""
        return tuple(
            image for (name, _), images in self._images.items() if name == repository for image in images
        )


class Changes:
    """Tells every watcher of each change; a slow watcher loses the oldest, never blocks the store."""

    _BACKLOG_MAX = 65_536

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Change]] = set()

    def publish(self, change: Change) -> None:
        """Tell all watchers."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(change)

    def publish_difference(self, before: Set[Digest], after: Set[Digest]) -> None:
        """Tell all watchers of what makes ``after`` out of ``before``."""
        for digest in before - after:
            self.publish(Change(ChangeKind.REMOVED, digest))
        for digest in after - before:
            self.publish(Change(ChangeKind.ADDED, digest))

    def watch(self) -> AsyncIterator[Change]:
        """Changes from this call on, not from the first ``anext``."""
        queue: asyncio.Queue[Change] = asyncio.Queue(self._BACKLOG_MAX)
        self._queues.add(queue)
        return self._drain(queue)

    async def _drain(self, queue: asyncio.Queue[Change]) -> AsyncIterator[Change]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
