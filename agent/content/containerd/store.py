"""The content store of a containerd.

Names come over gRPC. An image event is the signal to read them again. Blobs are listed and read from
containerd's files, because sendfile needs a file. If the files can't be read (another root, no permission, a
remote snapshotter), the content API is used instead: for all of them, or for the few that can't be read.
"""

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Set,
)
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import Protocol

from agent.content.blobdir import BlobDirectory
from agent.content.containerd import api_pb2 as api
from agent.content.containerd.ingest import Ingests
from agent.content.containerd.names import RecordReader
from agent.content.fileblob import CORRUPT
from agent.content.store import (
    Blob,
    Change,
    ChangeKind,
    Changes,
    ContentMissing,
    ContentUnavailable,
    ContentUnreadable,
    Growing,
    GrowingBlob,
    Identity,
    Names,
    Room,
    TagChange,
    TaggedImage,
    difference,
    room_at,
)
from agent.oci.digest import Digest, parse_digest
from agent.oci.errors import DigestInvalid
from agent.oci.reference import Repository, Tag
from agent.oci.registry import Registry

_log = logging.getLogger(__name__)

_CONTENT = "io.containerd.content.v1.content"
_RETRY_S = 0.5
_RESCAN_S = 30.0  # a daemon that hangs without closing its socket is noticed within this time
_TRIED = 8  # blobs: one that is lost says nothing about the others
_ASKED_AT_ONCE = 64  # single blobs whose files can't be read, at each poll
_API_POLL_S = 0.8  # so that new content is noticed within 1 s over the API too


class ContainerdApi(Protocol):
    """What the store needs of containerd's API: see `Client`, and the errors it raises."""

    socket: Path
    namespace: str

    def image_events(self) -> AsyncGenerator[None, None]:
        """See `Client.image_events`."""
        ...

    async def images(self) -> list[api.Image]:
        """See `Client.images`."""
        ...

    async def sizes(self) -> dict[str, int]:
        """See `Client.sizes`."""
        ...

    async def info(self, digest: str) -> api.Info:
        """See `Client.info`."""
        ...

    async def infos(self, digests: Collection[str]) -> dict[str, api.Info]:
        """See `Client.infos`."""
        ...

    async def size_bytes(self, digest: str) -> int:
        """See `Client.size_bytes`."""
        ...

    async def read(self, digest: str, offset: int, length: int) -> bytes:
        """See `Client.read`."""
        ...

    def close(self) -> None:
        """See `Client.close`."""
        ...


class Containerd:
    """The store of one containerd namespace. It closes the client when it ends.

    It holds the blobs that the files or the content API show. Both show a blob for a moment when a new node's
    directory appears. A blob is announced when the first of the two shows it, and when the last stops.
    """

    def __init__(self, *, client: ContainerdApi, root: Path) -> None:
        self._client = client
        self._changes = Changes()
        self._root = root
        self._blobs = BlobDirectory(root / _CONTENT / "blobs", self._file_changed)
        self._ingests = Ingests(root / _CONTENT / "ingest", client.namespace)
        self._outages = 0
        self._names = Names()
        self._records = RecordReader(client)
        self._problem: str | None = f"not connected to containerd at {client.socket} yet"
        self._content_problem: str | None = None
        self._by_files = True
        self._api_sizes: dict[Digest, int] = {}  # what the content API gives and the files do not
        self._asked: dict[Digest, tuple[float, int | None]] = {}  # unreadable files: when, and its size
        self._withdrawn: set[Digest] = set()  # corrupt blobs that the API lists

    @property
    def problem(self) -> str | None:
        """See `ContentStore.problem`."""
        return self._problem or self._content_problem

    @property
    def detour(self) -> str | None:
        """See `ContentStore.detour`."""
        return None if self._by_files else f"blobs come from containerd's content API ({self._blobs.problem})"

    @property
    def outages(self) -> int:
        """See `ContentStore.outages`."""
        return self._outages + self._blobs.outages

    def room(self) -> Room | None:
        """See `ContentStore.room`."""
        return room_at(self._root)

    def receiving(self, digest: Digest) -> bool | None:
        """See `ContentStore.receiving`.

        Also while the blobs come over the API: so they do for a moment on a new node, whose first blob is not
        there yet, and whose ingests are. If the root is wrong, there is no directory of ingests either.
        """
        return self._ingests.has(digest)

    def growing(self, digest: Digest) -> Growing | None:
        """See `ContentStore.growing`."""
        growing = self._ingests.growing(digest)
        if growing is None:
            self._blobs.look_for(digest)
        return growing

    async def open_growing(self, digest: Digest) -> GrowingBlob:
        """See `ContentStore.open_growing`."""
        return self._ingests.open(digest)

    @property
    def totals(self) -> tuple[int, int]:
        """See `ContentStore.totals`."""
        number, size_bytes = self._blobs.totals if self._by_files else (0, 0)
        return number + len(self._api_sizes), size_bytes + sum(self._api_sizes.values())

    def holds(self, digest: Digest) -> bool:
        """See `ContentStore.holds`."""
        return digest in self._blobs or digest in self._api_sizes

    @property
    def digests(self) -> Set[Digest]:
        """See `ContentStore.digests`."""
        return self._blobs.digests | self._api_sizes.keys() if self._api_sizes else self._blobs.digests

    @property
    def unreadable(self) -> Mapping[Digest, str]:
        """See `ContentStore.unreadable`. What the content API gives can be read."""
        unreadable = self._blobs.unreadable
        if not self._api_sizes:
            return unreadable
        return {digest: reason for digest, reason in unreadable.items() if digest not in self._api_sizes}

    def flaw(self, digest: Digest) -> str | None:
        """See `ContentStore.flaw`."""
        if self.holds(digest):
            return None
        return CORRUPT if digest in self._withdrawn else self._blobs.flaw(digest)

    def withdraw(self, digest: Digest, identity: Identity | None) -> None:
        """See `ContentStore.withdraw`."""
        if identity is not None:
            self._blobs.withdraw(digest, identity)
        elif self._api_sizes.pop(digest, None) is not None:
            self._withdrawn.add(digest)
            self._listing_changed(Change(ChangeKind.REMOVED, digest))

    def find(self, repository: Repository, tag: Tag, registry: Registry | None) -> tuple[TaggedImage, ...]:
        """See `ContentStore.find`."""
        return self._names.find(repository, tag, registry)

    def images(self, repository: Repository) -> tuple[TaggedImage, ...]:
        """See `ContentStore.images`."""
        return self._names.of(repository)

    @property
    def named(self) -> Mapping[Digest, Set[tuple[Registry, Repository]]]:
        """See `ContentStore.named`."""
        return self._names.named

    def on_names(self, listener: Callable[[], None]) -> None:
        """See `ContentStore.on_names`."""
        self._names.on_names(listener)

    @property
    def exclusive(self) -> bool:
        """See `ContentStore.exclusive`. All namespaces have the same files."""
        return False

    def was_fetched_for(self, digest: Digest, manifest: Digest) -> bool:
        """See `ContentStore.was_fetched_for`.

        containerd commits a manifest before it fetches what that lists, and does not fetch what it has.
        """
        came_ns, before_ns = self._blobs.written_ns(digest), self._blobs.written_ns(manifest)
        return came_ns is not None and before_ns is not None and before_ns < came_ns

    def on_tag(self, listener: Callable[[TagChange], None]) -> None:
        """See `ContentStore.on_tag`."""
        self._names.on_tag(listener)

    async def open(self, digest: Digest) -> Blob:
        """See `ContentStore.open`."""
        try:
            return self._blobs.open(digest)
        except ContentMissing:
            if digest not in self._api_sizes:
                raise
        except ContentUnreadable:
            if digest in self._withdrawn:
                raise
        except ContentUnavailable as error:
            _log.warning("blob file unreadable, using the content API: %s", error)
        return _ApiBlob(self._client, digest, await self._client.size_bytes(digest))

    def watch(self) -> AsyncIterator[Change]:
        """See `ContentStore.watch`."""
        return self._changes.watch()

    async def run(self) -> None:
        """See `ContentStore.run`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._blobs.run(), name="blobs")
                tasks.create_task(self._follow_images(), name="images")
                tasks.create_task(self._follow_content(), name="content API")
        finally:
            self._client.close()

    async def _follow_images(self) -> None:
        while True:
            try:
                # Both are closed here, the inner one first, no matter how the block ends.
                async with (
                    aclosing(self._client.image_events()) as events,
                    aclosing(_settled(events)) as settled,
                ):
                    async for _ in settled:
                        names = await self._records.read(await self._client.images())
                        self._names.replace(names.tags, names.digests)
                        self._problem = None
                self._problem = "containerd ended its event stream"
                self._outages += 1
            except (ContentUnavailable, ContentMissing) as error:
                self._outages += self._problem is None
                self._problem = str(error)
            await asyncio.sleep(_RETRY_S)

    async def _follow_content(self) -> None:
        # A missing directory means that this containerd never pulled, unless its API lists content.
        await self._blobs.scanned.wait()
        while True:
            self._content_problem = None
            if self._blobs.problem is None:
                by_files, sizes = True, await self._unreadable_over_api()
            else:
                sizes = await self._listed()
                by_files = not sizes
            if by_files != self._by_files:
                via = "files" if by_files else f"content API ({self._blobs.problem})"
                _log.warning("reading blobs by %s", via)
            self._by_files = by_files
            before, self._api_sizes = self._api_sizes, sizes
            for change in difference(before.keys(), sizes.keys()):
                self._listing_changed(change)
            await asyncio.sleep(_API_POLL_S)

    async def _listed(self) -> dict[Digest, int]:
        """What the content API gives. Nothing if it has a problem, which is noted, or lists nothing."""
        try:
            listed = dict(_parsed(await self._client.sizes()))
            if listed:
                await self._require_readable(listed)
                self._withdrawn &= listed.keys()
        except (ContentUnavailable, ContentMissing) as error:
            self._content_problem = f"neither files nor content API: {self._blobs.problem}; {error}"
            return {}
        return {digest: size for digest, size in listed.items() if digest not in self._withdrawn}

    async def _unreadable_over_api(self) -> dict[Digest, int]:
        """Those of the unreadable files whose content the API gives. Each is asked for every `_RESCAN_S`."""
        now_s = asyncio.get_running_loop().time()
        unreadable = tuple(self._blobs.unreadable)
        asked = {digest: self._asked[digest] for digest in unreadable if digest in self._asked}
        due = (d for d in unreadable if d not in asked or now_s - asked[d][0] >= _RESCAN_S)
        for digest in tuple(islice(due, _ASKED_AT_ONCE)):
            try:
                size_bytes = await self._client.size_bytes(digest)
                await self._client.read(digest, 0, 1)
            except ContentMissing:
                asked[digest] = now_s, None
            except ContentUnavailable:  # it says nothing about the others either
                asked[digest] = now_s, None
                break
            else:
                asked[digest] = now_s, size_bytes
        self._asked = asked
        return {
            digest: size_bytes
            for digest, (_, size_bytes) in asked.items()
            if size_bytes is not None and digest not in self._withdrawn
        }

    async def _require_readable(self, listed: Iterable[Digest]) -> None:
        """Read a byte of some of the listed blobs: containerd may list content that it lost.

        Raises `ContentMissing` or `ContentUnavailable` if none of the first few can be read.
        """
        for digest in islice(listed, _TRIED):
            try:
                await self._client.read(digest, 0, 1)
            except ContentMissing:
                continue
            return
        raise ContentMissing("containerd lists content, but has lost it")

    def _file_changed(self, change: Change) -> None:
        if change.digest not in self._api_sizes:
            self._changes.publish(change)

    def _listing_changed(self, change: Change) -> None:
        if change.digest not in self._blobs.digests:
            self._changes.publish(change)


async def _settled(events: AsyncIterator[None]) -> AsyncGenerator[None, None]:
    """One event for all events that wait together, and at least one every `_RESCAN_S`."""
    pending = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait((pending,), timeout=_RESCAN_S)
            # A CRI pull makes three image records in a row. Events that wait already are merged into one.
            while done:
                try:
                    pending.result()
                except StopAsyncIteration:
                    return
                pending = asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait((pending,), timeout=0)
            yield
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)


def _parsed(sizes: dict[str, int]) -> Iterator[tuple[Digest, int]]:
    for text, size in sizes.items():
        try:
            yield parse_digest(text), size
        except DigestInvalid:
            continue


class _ApiBlob:
    """A blob read over the content API."""

    fd: int | None = None
    identity: Identity | None = None

    def __init__(self, client: ContainerdApi, digest: Digest, size_bytes: int) -> None:
        self._client = client
        self._digest = digest
        self.size_bytes = size_bytes

    @property
    def available_bytes(self) -> int:
        """See `Blob.available_bytes`. The API lists complete blobs only."""
        return self.size_bytes

    async def read(self, offset: int, length: int) -> bytes:
        """See `Blob.read`."""
        length = min(length, self.available_bytes - offset)
        return await self._client.read(self._digest, offset, length) if length > 0 else b""

    def close(self) -> None:
        """See `Blob.close`."""
