"""The contract of a content store, and the values in it.

A store is read-only for us. Its owner (containerd, or the program that writes the layout) adds and removes
content. One conformance suite, ``tests/conformance/test_content_store.py``, runs on every implementation.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from agent.oci.digest import Digest
from agent.oci.manifest import Descriptor
from agent.oci.origin import Origin
from agent.oci.reference import Addressed, Named, Repository, Tag
from agent.oci.registry import Registry


class ContentError(Exception):
    """The store can't give this content."""


class ContentMissing(ContentError):
    """The store does not have this digest. Try elsewhere."""


class ContentGone(ContentMissing):
    """The content that was still being written is gone: its owner gave it up. Try elsewhere."""


class ContentUnavailable(ContentError):
    """The store itself does not answer. Try elsewhere, and try the store again later."""


class ContentUnreadable(ContentUnavailable):
    """This one blob can't be read, whatever the others do. ``reason``: why, in words."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedImage:
    """A tag that the store knows.

    ``seen_s``: the Unix time at which its owner, as far as the store tells, last heard of it from a registry
    or a mirror. If it never did: at which it last wrote the name. ``noticed_s``: when this agent first saw it
    so, in seconds of CLOCK_MONOTONIC.
    """

    name: Named
    descriptor: Descriptor
    seen_s: float
    origin: Origin
    noticed_s: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChange:
    """A tag that was written. ``before``: what it was.

    ``first``: it was there when the store was first read, so nothing is known of when it was written.
    """

    image: TaggedImage
    before: TaggedImage | None
    first: bool


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
"""Device, inode and modification time (ns) of a file. Equal for the same, unchanged file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is left on a store's disk, for ordinary users."""

    free_bytes: int
    free_files: int


def room_at(path: Path) -> Room | None:
    """The room on the disk that has this path. None if that can't be read."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    # A file system without a number of files of its own, like btrfs, says 0 of 0.
    return Room(
        free_bytes=status.f_bavail * status.f_frsize,
        free_files=status.f_favail if status.f_files else 1 << 32,
    )


class Blob(Protocol):
    """An open blob. Whoever opened it closes it.

    A blob may be unfinished: its owner is still writing it, and what is there is a growing prefix of the
    content. See `GrowingBlob`.
    """

    size_bytes: int  # of the whole content, also while it is unfinished
    fd: int | None  # for sendfile; None if the bytes come over an API
    identity: Identity | None  # of its file; None if there is no file

    @property
    def available_bytes(self) -> int:
        """How many bytes can be read now, counted from the start. A complete blob has ``size_bytes``; an
        unfinished one has fewer, and the number grows until it is complete.
        """
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``. Fewer only at the end. Raises `ContentError`."""
        ...

    def close(self) -> None:
        """Release the blob. Closing twice does nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Growing:
    """How far the owner of a store is with a blob that it is writing.

    ``size_bytes``: of the whole content, as the owner expects it. ``available_bytes``: how many can be read
    now, counted from the start; 0 if it has just begun. Nobody has verified them. ``quiet_s``: for how long
    none has come. It is much if the owner waits for its own source, or died and left this behind.
    """

    size_bytes: int
    available_bytes: int
    quiet_s: float = field(default=0.0, compare=False)


class GrowingBlob(Blob, Protocol):
    """An open blob whose owner may still be writing it.

    The descriptor stays good when the owner commits the blob, so a reader that has begun reads on to the end.
    ``available_bytes`` may fall if the owner begins again: the same bytes come once more.
    """

    async def wait_beyond(self, offset: int) -> int:
        """Wait until more than the first ``offset`` bytes can be read. Returns how many can be.

        Raises `ContentGone` when the owner gave the blob up, and ValueError if it has no byte there. It has
        no deadline: the caller limits the wait. Cancelling it is safe.
        """
        ...


class ContentStore(Protocol):
    """The content of this node."""

    async def run(self) -> None:
        """Follow the store until cancelled. Errors of the store never escape: see `problem`."""
        ...

    @property
    def problem(self) -> str | None:
        """Why the store does not work now. None while it works."""
        ...

    @property
    def detour(self) -> str | None:
        """Why all content comes in a costlier way than from its files. None: it does not."""
        ...

    def holds(self, digest: Digest) -> bool:
        """Whether the store has this blob complete, and this agent can read it, as far as it knows.

        At most a second old. Cost: a set look-up.
        """
        ...

    @property
    def digests(self) -> Set[Digest]:
        """All digests that the store `holds`. Cost: none with files, a copy over the API."""
        ...

    def withdraw(self, digest: Digest, identity: Identity | None) -> None:
        """Stop holding a blob that does not match its digest, until its owner writes it again.

        ``identity``: the file that was read. Does nothing if another file has taken its place.
        """
        ...

    @property
    def unreadable(self) -> Mapping[Digest, str]:
        """The blobs that are there but that this agent can't read, and why. They are not held.

        They are tried again, so that one that becomes readable is held soon.
        """
        ...

    def flaw(self, digest: Digest) -> str | None:
        """Why a blob that is there is not held: unreadable or corrupt. None: it is held, or not there."""
        ...

    def find(self, repository: Repository, tag: Tag, registry: Registry | None) -> tuple[TaggedImage, ...]:
        """The images with this name, in one registry, or in every registry if it is None."""
        ...

    def images(self, repository: Repository) -> tuple[TaggedImage, ...]:
        """Every tag of a repository, in any registry. Cost: a walk over all names."""
        ...

    @property
    def named(self) -> Mapping[Digest, Set[tuple[Registry, Repository]]]:
        """All digests that a name points at, each with the repositories of its names.

        A value that never changes: when the names are read again, another one replaces it. Empty while they
        can't be read.
        """
        ...

    def on_names(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` each time that all names were read."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether all of its content is there for this agent, also what no name references.

        False: it may have content of other users, whose names this agent does not see.
        """
        ...

    def was_fetched_for(self, digest: Digest, manifest: Digest) -> bool:
        """Whether the store's owner fetched the blob because it had this manifest, as far as the store knows.

        Not if the blob was there already. Cost: two system calls. May be called in any thread.
        """
        ...

    def on_tag(self, listener: Callable[[TagChange], None]) -> None:
        """Call ``listener`` with each tag that is written from now on, after `find` knows it."""
        ...

    async def open(self, digest: Digest) -> Blob:
        """Open a blob. Raises `ContentMissing` or `ContentUnavailable`."""
        ...

    @property
    def outages(self) -> int:
        """How often since the start the store stopped working, or changes may have been missed."""
        ...

    def room(self) -> Room | None:
        """The room on its disk. None if unknown. Cost: one system call."""
        ...

    def receiving(self, digest: Digest) -> bool | None:
        """Whether its owner is writing this blob now, and has not committed it. None if that can't be seen.

        Cost: a system call or a few.
        """
        ...

    def growing(self, digest: Digest) -> Growing | None:
        """How far its owner is with a blob that it is writing, and has not committed.

        None: it is not writing it, nothing is known of the size yet, or that can't be seen. See `receiving`
        for the difference. If it has just been committed, `holds` knows it from now on. Cost: some system
        calls if it is writing it, else one for each kind of content.
        """
        ...

    async def open_growing(self, digest: Digest) -> GrowingBlob:
        """Open a blob that its owner is writing, from its first byte on, also if none is there yet.

        Raises `ContentMissing` if it is not writing it, or has just committed it: try `open` again then.
        Raises `ContentUnavailable` if the file can't be opened.
        """
        ...

    @property
    def totals(self) -> tuple[int, int]:
        """The number of blobs, and their total size in bytes."""
        ...

    def watch(self) -> AsyncIterator[Change]:
        """Each blob that comes or goes from now on. A reader 65,536 changes behind misses the oldest."""
        ...


def unreadable_in_words(store: ContentStore) -> str | None:
    """How many blobs of a store can't be read, and one of them. None: all can."""
    unreadable = store.unreadable
    if not unreadable:
        return None
    one = min(unreadable)  # always the same one: the order changes, and other words are logged again
    return f"blobs that can't be read: {len(unreadable)}, among them {one} ({unreadable[one]})"


class Names:
    """The names of a store: tags by repository and tag, and names by digest. Always replaced as a whole."""

    def __init__(self) -> None:
        self._images: dict[tuple[Repository, Tag], tuple[TaggedImage, ...]] = {}
        self._repositories: dict[Digest, set[tuple[Registry, Repository]]] = {}
        self._listeners: list[Callable[[TagChange], None]] = []
        self._readers: list[Callable[[], None]] = []
        self._read = False

    def on_tag(self, listener: Callable[[TagChange], None]) -> None:
        """See `ContentStore.on_tag`."""
        self._listeners.append(listener)

    def on_names(self, listener: Callable[[], None]) -> None:
        """See `ContentStore.on_names`."""
        self._readers.append(listener)

    @property
    def named(self) -> Mapping[Digest, Set[tuple[Registry, Repository]]]:
        """See `ContentStore.named`."""
        return self._repositories

    def replace(self, images: Iterable[TaggedImage], digests: Iterable[Addressed] = ()) -> None:
        """Replace all known names by these. ``digests``: names that have a digest in place of a tag.

        An owner may have the same name twice, because a registry has several (docker.io, index.docker.io).
        The image that was written last counts.
        """
        newest: dict[Named, TaggedImage] = {}
        for image in images:
            known = newest.get(image.name)
            if known is None or known.seen_s <= image.seen_s:
                newest[image.name] = image
        found: dict[tuple[Repository, Tag], tuple[TaggedImage, ...]] = {}
        repositories: dict[Digest, set[tuple[Registry, Repository]]] = {}
        changes: list[TagChange] = []
        for new in newest.values():
            before = self._known(new.name)
            image = before if before == new else new  # it keeps the time at which it was noticed
            if image is new:
                changes.append(TagChange(image=image, before=before, first=not self._read))
            key = (image.name.repository, image.name.tag)
            found[key] = (*found.get(key, ()), image)
            _add(repositories, image.descriptor.digest, image.name)
        for addressed in digests:
            _add(repositories, addressed.digest, addressed)
        self._images, self._repositories, self._read = found, repositories, True
        for change in changes:
            for listener in self._listeners:
                listener(change)
        for reader in self._readers:
            reader()

    def forget(self) -> None:
        """The store can't be read: know no name until it is read again, as if for the first time."""
        self._images, self._repositories, self._read = {}, {}, False

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

    def _known(self, name: Named) -> TaggedImage | None:
        return next(iter(self.find(name.repository, name.tag, name.registry)), None)


def _add(
    repositories: dict[Digest, set[tuple[Registry, Repository]]], digest: Digest, name: Named | Addressed
) -> None:
    assert name.registry is not None, "a name in a store has a registry"
    repositories.setdefault(digest, set()).add((name.registry, name.repository))


def difference(before: Set[Digest], after: Set[Digest]) -> Iterator[Change]:
    """The changes that lead from ``before`` to ``after``, removals first."""
    yield from (Change(ChangeKind.REMOVED, digest) for digest in before - after)
    yield from (Change(ChangeKind.ADDED, digest) for digest in after - before)


class Changes:
    """Sends each change to every watcher. A slow watcher loses the oldest changes, and blocks nobody."""

    _BACKLOG_MAX = 65_536

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Change]] = set()

    def publish(self, change: Change) -> None:
        """Send a change to all watchers."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(change)

    def watch(self) -> AsyncIterator[Change]:
        """The changes from this call on, not from the first ``anext``."""
        queue: asyncio.Queue[Change] = asyncio.Queue(self._BACKLOG_MAX)
        self._queues.add(queue)
        return self._drain(queue)

    async def _drain(self, queue: asyncio.Queue[Change]) -> AsyncIterator[Change]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
