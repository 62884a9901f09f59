"""Follows the names of a store to all content that they reference, and keeps that up to date.

Manifests are read in a thread, some at a time. What is there at the start, ten thousand images perhaps, is
read in the background: until then nothing is given whose name was not followed, and the agent is not ready. A
manifest that can't be read is read again when it is written again, and now and then. While the store's names
can't be read, what was known stays.
"""

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice

from agent.content.audience import Audience, Link, Place
from agent.content.references import NOTHING, Key, References
from agent.content.sharing import Sharing
from agent.content.store import Blob, ChangeKind, ContentError, ContentStore
from agent.content.verified import ContentSpoiled, read_manifest
from agent.oci.digest import Digest, digest_of
from agent.oci.manifest import SIZE_MAX_BYTES, Manifest, is_manifest_type, parse_manifest

_log = logging.getLogger(__name__)

_NAMES_AT_ONCE = 16  # so many names are followed together, and so many manifests read by one thread
_MANIFESTS_MAX = 1000  # of these names; an index has some dozen
_STEP = 256  # contents, before others have their turn
_DUE_S = 30.0  # if it is never quiet; also until what could not be read is tried again
_MISSED_MAX = 2000
_REACHED_MAX = 20_000  # contents, before the listeners are told

_Listed = list[tuple[Digest, Link]]


@dataclass(frozen=True, slots=True)
class _Read:
    """What a manifest lists, and which of that are manifests."""

    listed: _Listed
    manifests: tuple[Digest, ...]


class Tracer:
    """Keeps the references of one store. ``sharing``: what is told of them.

    ``quiet_s``: after so long without a new name, what waits is packed, and what lost its names is dropped.
    """

    def __init__(self, store: ContentStore, sharing: Sharing, *, quiet_s: float = 5.0) -> None:
        self._quiet_s = quiet_s
        self._store = store
        self._sharing = sharing
        self._references: References = sharing.references
        self._woken = asyncio.Event()
        self._names: Mapping[Digest, Set[Place]] = {}  # those that are followed, or pending
        self._latest: Mapping[Digest, Set[Place]] | None = None  # None: they were never read
        self._complete = False
        self._pending: dict[Digest, None] = {}  # the named digests to follow
        self._again: set[Digest] = set()  # those of them whose manifests have to be read again
        self._missed: dict[Digest, Digest] = {}  # what an index lists and is not here, and the name's digest
        self._unread: set[Digest] = set()  # the named digests below which something could not be read
        self._reached: set[Key] = set()  # what listeners are to be told of
        self._less = self._anew = False  # names have gone; the rules have changed
        self._tidied_s = 0.0
        store.on_names(self._names_read)
        sharing.registries.on_change(self._rules_changed)
        sharing.authorities.on_change(self._rules_changed)

    @property
    def problem(self) -> str | None:
        """Why not all names have been followed yet. None: they have."""
        if self._complete:
            return None
        if self._latest is None:
            return "no names were read"
        return f"{len(self._pending)} names are still to be followed"

    async def run(self) -> None:
        """Follow the names until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_blobs(), name="missed manifests")
            while True:
                await self._wait()
                await self._catch_up()

    def _names_read(self) -> None:
        self._latest = self._store.named
        self._woken.set()

    def _rules_changed(self) -> None:
        self._anew = True
        self._woken.set()

    async def _follow_blobs(self) -> None:
        async for change in self._store.watch():
            name = self._missed.pop(change.digest, None) if change.kind is ChangeKind.ADDED else None
            if name is not None:
                self._follow_again((name,))
                self._woken.set()

    def _follow_again(self, names: Iterable[Digest]) -> None:
        for name in names:
            self._pending[name] = None
            self._again.add(name)

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._quiet_s if self._is_untidy else _DUE_S):
                await self._woken.wait()

    @property
    def _is_untidy(self) -> bool:
        return self._less or self._references.waiting > 0

    async def _catch_up(self) -> None:
        quiet = not self._woken.is_set()
        self._woken.clear()
        if self._latest is not None:
            self._compare_names(self._latest)
        while self._pending:
            await self._follow([*islice(self._pending, _NAMES_AT_ONCE)])
            if self._references.outgrown:
                await self._rebuild()
        self._tell_reached()
        self._complete = self._latest is not None
        due = asyncio.get_running_loop().time() - self._tidied_s > _DUE_S
        if self._anew or self._references.overtaken or (self._is_untidy and (quiet or due)):
            await self._rebuild()
        if quiet or due:
            self._follow_again(self._unread & self._names.keys())
            self._unread.clear()
            if expired := self._sharing.fetches.expire(self._sharing.clock()):
                self._sharing.changed(expired)

    def _compare_names(self, names: Mapping[Digest, Set[Place]]) -> None:
        before, self._names = self._names, names
        if before is names:
            return
        for digest, places in names.items():
            known = before.get(digest)
            if known != places:
                self._pending[digest] = None
                self._less |= known is not None and not known <= places
        self._less |= not before.keys() <= names.keys()

    async def _follow(self, names: list[Digest]) -> None:
        """Read what these names reference as far as it is not known, then say it of all of that."""
        await self._read_below(names)
        for digest in names:
            self._pending.pop(digest, None)
            for place in self._names.get(digest, ()):
                await _in_steps(self._spread(digest, place))
            await asyncio.sleep(0)
        if len(self._reached) > _REACHED_MAX:
            self._tell_reached()

    def _tell_reached(self) -> None:
        if self._reached:
            reached, self._reached = self._reached, set()
            self._sharing.changed(reached)

    def _spread(self, digest: Digest, place: Place) -> Iterator[object]:
        fetches = self._sharing.fetches
        for key in self._references.spread(digest, self._sharing.says(place)):
            fetches.named(key, place)
            self._reached.add(key)
            yield key

    async def _read_below(self, names: list[Digest]) -> None:
        ahead = {name: name for name in names if name in self._again or not self._references.lists(name)}
        known: set[Digest] = set()
        while ahead and len(known) < _MANIFESTS_MAX:
            now = [*islice(ahead, _NAMES_AT_ONCE)]
            found = await self._read_manifests(now)
            for digest in now:
                name, read = ahead.pop(digest), found.get(digest)
                known.add(digest)
                if read is None:
                    self._unread.add(name)
                    self._miss(digest, name)
                    continue
                for missing in self._learn(digest, read):
                    self._miss(missing, name)
                for child in read.manifests:
                    again = name in self._again or not self._references.lists(child)
                    if again and child not in known and self._store.holds(child):
                        ahead[child] = name
        self._again.difference_update(names)

    def _learn(self, digest: Digest, read: _Read) -> list[Digest]:
        """Remember what a manifest lists. Returns the manifests in it that are not here.

        These are of other platforms, mostly. They would take more room than what is here.
        """
        missing = [child for child in read.manifests if not self._store.holds(child)]
        left_out = frozenset(missing)
        self._references.learn(digest, (each for each in read.listed if each[0] not in left_out))
        return missing

    def _miss(self, digest: Digest, name: Digest) -> None:
        self._missed[digest] = name
        if len(self._missed) > _MISSED_MAX:
            del self._missed[next(iter(self._missed))]

    async def _read_manifests(self, digests: Iterable[Digest]) -> dict[Digest, _Read]:
        """What these manifests list. Those that can't be read are left out."""
        found: dict[Digest, _Read] = {}
        files: dict[Digest, Blob] = {}
        size_bytes = 0
        try:
            for digest in digests:
                blob = await self._open(digest)
                if blob is None:
                    continue
                if blob.fd is None or size_bytes + blob.size_bytes > SIZE_MAX_BYTES:
                    found |= await self._read_one(digest, blob)
                else:
                    files[digest], size_bytes = blob, size_bytes + blob.size_bytes
            found |= await asyncio.to_thread(partial(_read_files, self._store, files))
        finally:
            for blob in files.values():
                blob.close()
        return found

    async def _open(self, digest: Digest) -> Blob | None:
        try:
            return await self._store.open(digest)
        except ContentError:
            return None

    async def _read_one(self, digest: Digest, blob: Blob) -> dict[Digest, _Read]:
        try:
            manifest = await read_manifest(blob, digest)
        except ContentError as error:
            _log.info("a manifest can't be read: %s", error)
            return {}
        return {digest: _listed_in(self._store, digest, manifest)}

    async def _rebuild(self) -> None:
        """Follow all names anew, as far as they are known."""
        anew, self._less, self._anew = self._anew, False, False
        lost = NOTHING
        for step in self._references.rebuild(self._said()):
            lost = step
            await asyncio.sleep(0)
        self._tidied_s = asyncio.get_running_loop().time()
        if anew or lost:
            self._sharing.changed(None if anew else lost)

    def _said(self) -> Iterator[tuple[Digest, Audience]]:
        for digest, places in self._names.items():
            for place in places:
                yield digest, self._sharing.says(place)


async def _in_steps(steps: Iterator[object]) -> None:
    for count, _ in enumerate(steps):
        if count % _STEP == _STEP - 1:
            await asyncio.sleep(0)


def _read_files(store: ContentStore, files: Mapping[Digest, Blob]) -> dict[Digest, _Read]:
    """What these manifests list. Runs in a thread: it uses the descriptors alone."""
    found: dict[Digest, _Read] = {}
    for digest, blob in files.items():
        with suppress(OSError, ContentSpoiled):
            assert blob.fd is not None, "it is a file"
            content = os.pread(blob.fd, blob.size_bytes, 0)
            if digest_of(content, like=digest) != digest:
                raise ContentSpoiled(f"{digest} is spoiled")
            found[digest] = _listed_in(store, digest, parse_manifest(content))
    return found


def _listed_in(store: ContentStore, digest: Digest, manifest: Manifest | None) -> _Read:
    """What a manifest lists. Nothing if the content is none. What an artifact is about, it does not list."""
    listed: _Listed = []
    manifests: list[Digest] = []
    for child in () if manifest is None else manifest.children:
        if is_manifest_type(child.media_type):
            manifests.append(child.digest)
            listed.append((child.digest, Link.WHOLE))
        elif manifest is not None and child == manifest.config:
            listed.append((child.digest, Link.WHOLE))
        else:
            fetched = store.was_fetched_for(child.digest, digest)
            listed.append((child.digest, Link.FETCHED_LAYER if fetched else Link.LAYER))
    return _Read(listed, tuple(manifests))
