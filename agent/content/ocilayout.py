"""A content store in an OCI image layout directory. The built-in default, which needs no daemon.

Names come from an annotation in ``index.json``: ``org.opencontainers.image.ref.name``, or
``io.containerd.image.name`` as containerd's exports write it. Only a full REGISTRY/REPOSITORY:TAG counts.
skopeo, buildah and containerd put a blob in place by rename. If a writer writes it in place instead, the blob
counts as soon as the writer closes it.

A layout does not say where its content came from, unless its writer repeats containerd's labels as
annotations (see `agent.oci.origin`; containerd's own exports do). Without them, a name counts as imported.
Source: OCI image spec 1.1, image-layout.md.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from agent.content.blobdir import BlobDirectory
from agent.content.fileblob import FileBlob
from agent.content.store import (
    Change,
    Changes,
    ContentMissing,
    GrowingBlob,
    Identity,
    Names,
    Room,
    TagChange,
    TaggedImage,
    room_at,
)
from agent.files import read_regular
from agent.oci.digest import Digest, parse_digest
from agent.oci.errors import DigestInvalid
from agent.oci.manifest import Descriptor
from agent.oci.origin import origin_of
from agent.oci.reference import Named, Repository, Tag, parse_image
from agent.oci.registry import Registry

_POLL_S = 0.5
_INDEX_MAX_BYTES = 64 << 20  # some 200,000 names
_UNKNOWN_S = 0.0  # when a tag was seen, if its manifest can't be looked at: too long ago to count
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class OciLayout:
    """The store in one layout directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changes = Changes()
        self._blobs = BlobDirectory(directory / "blobs", self._changes.publish)
        self._names = Names()
        self._digests: dict[Named, tuple[Digest, float]] = {}
        self._index_problem: str | None = "not read yet"

    @property
    def problem(self) -> str | None:
        """See `ContentStore.problem`."""
        return self._index_problem or self._blobs.problem

    @property
    def detour(self) -> None:
        """See `ContentStore.detour`. There is no other way."""

    @property
    def outages(self) -> int:
        """See `ContentStore.outages`."""
        return self._blobs.outages

    def room(self) -> Room | None:
        """See `ContentStore.room`."""
        return room_at(self._directory)

    def receiving(self, _digest: Digest) -> None:
        """See `ContentStore.receiving`. A layout does not say what its writers do."""

    def growing(self, _digest: Digest) -> None:
        """See `ContentStore.growing`. That can't be seen, as with `receiving`."""

    async def open_growing(self, digest: Digest) -> GrowingBlob:
        """See `ContentStore.open_growing`."""
        raise ContentMissing(f"a layout does not show what is being written: {digest}")

    @property
    def totals(self) -> tuple[int, int]:
        """See `ContentStore.totals`."""
        return self._blobs.totals

    def holds(self, digest: Digest) -> bool:
        """See `ContentStore.holds`."""
        return digest in self._blobs

    @property
    def digests(self) -> Set[Digest]:
        """See `ContentStore.digests`."""
        return self._blobs.digests

    @property
    def unreadable(self) -> Mapping[Digest, str]:
        """See `ContentStore.unreadable`."""
        return self._blobs.unreadable

    def flaw(self, digest: Digest) -> str | None:
        """See `ContentStore.flaw`."""
        return self._blobs.flaw(digest)

    def withdraw(self, digest: Digest, identity: Identity | None) -> None:
        """See `ContentStore.withdraw`."""
        self._blobs.withdraw(digest, identity)

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
        """See `ContentStore.exclusive`. Whoever writes a layout has put all of it there."""
        return True

    def was_fetched_for(self, _digest: Digest, _manifest: Digest) -> bool:
        """See `ContentStore.was_fetched_for`. Nobody's pull gets a name by what is there already."""
        return True

    def on_tag(self, listener: Callable[[TagChange], None]) -> None:
        """See `ContentStore.on_tag`."""
        self._names.on_tag(listener)

    async def open(self, digest: Digest) -> FileBlob:
        """See `ContentStore.open`."""
        return self._blobs.open(digest)

    def watch(self) -> AsyncIterator[Change]:
        """See `ContentStore.watch`."""
        return self._changes.watch()

    async def run(self) -> None:
        """See `ContentStore.run`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._blobs.run(), name="blobs")
            tasks.create_task(self._follow_index(), name="index.json")

    async def _follow_index(self) -> None:
        # Checking one file's status twice a second is cheaper than an event for each write to it.
        known: tuple[int, int, int] | None = None
        blobs_were_well = False
        while True:
            path = self._directory / "index.json"
            try:
                status = path.stat()
                current = (status.st_ino, status.st_mtime_ns, status.st_size)
                # The ages of tags come from blobs, so they are read again when the blobs become readable.
                blobs_are_well = self._blobs.problem is None
                aged_anew = blobs_are_well and not blobs_were_well
                if current != known or aged_anew:
                    content = read_regular(path, most_bytes=_INDEX_MAX_BYTES)
                    self._read_index(content, first=known is None or aged_anew)
                    known = current
                blobs_were_well = blobs_are_well
            except OSError as error:
                self._drop_names(f"{path}: {error.strerror or error}")
                known = None
            except (ValueError, RecursionError) as error:
                self._drop_names(f"{path}: not an image index: {error}")
            await asyncio.sleep(_POLL_S)

    def _drop_names(self, problem: str) -> None:
        self._index_problem = problem
        self._names.forget()

    def _read_index(self, content: bytes, *, first: bool) -> None:
        images = list(self._images(json.loads(content), time.time(), first=first))
        self._digests = {image.name: (image.descriptor.digest, image.seen_s) for image in images}
        self._names.replace(images)
        self._index_problem = None

    def _images(self, index: Any, now_s: float, *, first: bool) -> Iterator[TaggedImage]:
        manifests = index.get("manifests") if isinstance(index, dict) else None
        if not isinstance(manifests, list):
            raise ValueError("it has no list of manifests")  # noqa: TRY004 - one kind of error per file
        for entry in manifests:
            named = _name_of(entry)
            if named is None:
                continue
            name, descriptor = named
            yield TaggedImage(
                name=name,
                descriptor=descriptor,
                seen_s=self._seen_s(name, descriptor.digest, now_s, first),
                origin=origin_of(name, entry["annotations"]),
            )

    def _seen_s(self, name: Named, digest: Digest, now_s: float, first: bool) -> float:
        # The layout does not say when a tag was seen. A name that changes while we watch was seen now. A name
        # that was there at the start is at least as old as its manifest's file.
        known = self._digests.get(name)
        if known and known[0] == digest and known[1] != _UNKNOWN_S:
            return known[1]
        if not first:
            return now_s
        try:
            return self._blobs.path(digest).stat().st_mtime
        except OSError:
            return _UNKNOWN_S


def _name_of(entry: Any) -> tuple[Named, Descriptor] | None:
    annotations = entry.get("annotations") if isinstance(entry, dict) else None
    if not isinstance(annotations, dict):
        return None
    text = next((annotations[key] for key in _NAME_ANNOTATIONS if key in annotations), None)
    name = parse_image(text) if isinstance(text, str) else None
    size, media_type = entry.get("size"), entry.get("mediaType")
    if name is None or not isinstance(size, int) or not isinstance(media_type, str):
        return None
    try:
        digest = parse_digest(str(entry.get("digest")))
    except DigestInvalid:
        return None
    return name, Descriptor(digest=digest, size_bytes=size, media_type=media_type)
