"""One announcement for each blob, whether the files, the content API or both show it. In virtual time."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.content.containerd.api_pb2 import Image, Info
from agent.content.containerd.store import Containerd
from agent.content.store import Change, ChangeKind, ContentMissing, Growing
from agent.oci.digest import Digest
from tests.unit.twins import run_in_virtual_time, sha256

BLOB, LATER = sha256("blob"), sha256("later")
CONTENT = b"any bytes"
MID_POLL_S = 0.4
"""Between two polls of the content API, when every change of the files was seen."""

POLL_S = 0.8  # of the content API


@dataclass
class MemoryApi:
    """A containerd whose content is in memory."""

    socket: Path = Path("/nowhere/containerd.sock")
    namespace: str = "k8s.io"
    events_ended: asyncio.Event = field(default_factory=asyncio.Event)
    contents: dict[str, bytes] = field(default_factory=dict)

    async def image_events(self) -> AsyncGenerator[None, None]:
        """Subscribed, and nothing happens until containerd is killed."""
        yield
        await self.events_ended.wait()
        self.events_ended.clear()

    async def images(self) -> list[Image]:
        return []

    async def info(self, digest: str) -> Info:
        return Info(digest=digest)

    async def infos(self, digests: Collection[str]) -> dict[str, Info]:
        return {digest: Info(digest=digest) for digest in digests}

    async def sizes(self) -> dict[str, int]:
        return {digest: len(content) for digest, content in self.contents.items()}

    async def size_bytes(self, digest: str) -> int:
        return len(await self.read(digest, 0, len(self.contents.get(digest, b""))))

    async def read(self, digest: str, offset: int, length: int) -> bytes:
        if digest not in self.contents:
            raise ContentMissing(digest)
        return self.contents[digest][offset : offset + length]

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A running store, its containerd, and what it has announced."""

    store: Containerd
    api: MemoryApi
    blobs: Path
    changes: list[Change]

    def write(self, *digests: Digest) -> None:
        """Put blobs into the API's list and into files, as containerd does with a new node's first pull."""
        self.blobs.mkdir(parents=True, exist_ok=True)
        for digest in digests:
            self.api.contents[digest] = CONTENT
            (self.blobs / "new").write_bytes(CONTENT)
            (self.blobs / "new").rename(self.path(digest))

    def delete(self, digest: Digest) -> None:
        """Take a blob out of both."""
        del self.api.contents[digest]
        self.path(digest).unlink()

    def begin(self, digest: Digest) -> Path:
        """Begin an ingest, and write all of it. Returns its directory."""
        key = f"k8s.io/1/layer-{digest}".encode()
        ingest = self.blobs.parents[1] / "ingest" / hashlib.sha256(key).hexdigest()
        ingest.mkdir(parents=True)
        (ingest / "total").write_text(str(len(CONTENT)))
        (ingest / "data").write_bytes(CONTENT)
        return ingest

    def path(self, digest: Digest) -> Path:
        return self.blobs / digest.removeprefix("sha256:")

    def kinds(self, digest: Digest) -> list[ChangeKind]:
        return [change.kind for change in self.changes if change.digest == digest]


@asynccontextmanager
async def running(root: Path, *listed: Digest) -> AsyncIterator[Stage]:
    """A store without files, half a poll after the API listed these."""
    api = MemoryApi(contents=dict.fromkeys(listed, CONTENT))
    store = Containerd(client=api, root=root)
    changes: list[Change] = []
    watched = store.watch()

    async def collect() -> None:
        async for change in watched:
            changes.append(change)

    async with asyncio.TaskGroup() as tasks:
        children = [tasks.create_task(collect()), tasks.create_task(store.run())]
        await asyncio.sleep(MID_POLL_S)
        blobs = root / "io.containerd.content.v1.content/blobs/sha256"
        yield Stage(store=store, api=api, blobs=blobs, changes=changes)
        for child in children:
            child.cancel()


def play(root: Path, scene: Callable[[Stage], Coroutine[None, None, None]], *listed: Digest) -> None:
    """Run a scene against a store without files, half a poll after the API listed these."""

    async def main() -> None:
        async with running(root, *listed) as stage:
            await scene(stage)

    run_in_virtual_time(main())


def test_a_blob_that_files_and_api_show_is_announced_removed_once(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.write(BLOB, LATER)
        await asyncio.sleep(POLL_S / 4)
        assert stage.kinds(LATER) == [ChangeKind.ADDED], "the files are followed"
        stage.delete(BLOB)
        await asyncio.sleep(2 * POLL_S)
        assert not stage.store.holds(BLOB)
        assert stage.kinds(BLOB) == [ChangeKind.ADDED, ChangeKind.REMOVED]

    play(tmp_path, scene, BLOB)


def test_a_blob_that_the_api_showed_is_not_announced_again_when_its_file_appears(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        assert stage.kinds(BLOB) == [ChangeKind.ADDED]
        stage.write(BLOB, LATER)
        await asyncio.sleep(2 * POLL_S)
        assert stage.store.holds(BLOB)
        assert stage.kinds(BLOB) == stage.kinds(LATER) == [ChangeKind.ADDED]

    play(tmp_path, scene, BLOB)


def test_a_blob_that_the_api_listed_and_the_files_lack_is_announced_removed_once(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.write(LATER)
        await asyncio.sleep(2 * POLL_S)
        assert not stage.store.holds(BLOB)
        assert stage.kinds(BLOB) == [ChangeKind.ADDED, ChangeKind.REMOVED]

    play(tmp_path, scene, BLOB)


def test_files_that_vanish_leave_what_the_api_lists(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.write(BLOB)
        await asyncio.sleep(2 * POLL_S)
        stage.blobs.parent.rename(tmp_path / "away")
        await asyncio.sleep(2 * POLL_S)
        assert stage.store.holds(BLOB)
        assert stage.kinds(BLOB) == [ChangeKind.ADDED, ChangeKind.REMOVED, ChangeKind.ADDED]

    play(tmp_path, scene)


def test_each_break_of_the_event_stream_is_an_outage_however_short(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        assert stage.store.outages == 0
        for outages in (1, 2):
            stage.api.events_ended.set()
            await asyncio.sleep(2 * POLL_S)
            assert stage.store.problem is None, "it is back"
            assert stage.store.outages == outages

    play(tmp_path, scene)


def test_directory_that_vanishes_is_an_outage(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.write(BLOB)
        await asyncio.sleep(2 * POLL_S)
        outages = stage.store.outages
        stage.blobs.parent.rename(tmp_path / "away")
        await asyncio.sleep(2 * POLL_S)
        assert stage.store.outages > outages

    play(tmp_path, scene)


def test_blob_is_being_received_while_containerd_has_an_ingest_of_it(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        assert stage.store.receiving(BLOB) is None, "there is no directory of ingests yet"
        stage.write(LATER)
        await asyncio.sleep(2 * POLL_S)
        key = f"k8s.io/1/layer-{BLOB}".encode()
        ingest = stage.blobs.parents[1] / "ingest" / hashlib.sha256(key).hexdigest()
        ingest.mkdir(parents=True)
        assert stage.store.receiving(BLOB) is True
        assert stage.store.receiving(LATER) is False
        ingest.rmdir()
        assert stage.store.receiving(BLOB) is False

    play(tmp_path, scene)


def test_blob_that_was_committed_this_moment_is_held_once_it_was_asked_how_far_it_is(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.write(LATER)
        await asyncio.sleep(2 * POLL_S)
        ingest = stage.begin(BLOB)
        assert stage.store.growing(BLOB) == Growing(size_bytes=len(CONTENT), available_bytes=len(CONTENT))
        (ingest / "data").rename(stage.path(BLOB))
        assert not stage.store.holds(BLOB), "inotify has told nothing yet"
        assert stage.store.growing(BLOB) is None
        assert stage.store.holds(BLOB)
        await asyncio.sleep(2 * POLL_S)
        assert stage.kinds(BLOB) == [ChangeKind.ADDED]

    play(tmp_path, scene)


def test_first_ingests_of_a_new_node_are_seen_although_its_first_blob_came_over_the_api(
    tmp_path: Path,
) -> None:
    async def scene(stage: Stage) -> None:
        ingest = stage.begin(BLOB)
        detours = set[bool]()
        for _ in range(200):  # the API lists the first blob before its directory is noticed, and then it is
            await asyncio.sleep(POLL_S / 40)
            detours.add(stage.store.detour is not None)
            assert stage.store.receiving(BLOB) is True
            assert stage.store.growing(BLOB) == Growing(size_bytes=len(CONTENT), available_bytes=len(CONTENT))
            (await stage.store.open_growing(BLOB)).close()
            if stage.store.detour is not None and not stage.blobs.exists():
                stage.write(LATER)
        assert detours == {True, False}
        (ingest / "data").unlink()

    play(tmp_path, scene, LATER)


def test_with_the_content_api_alone_nobody_sees_what_is_received(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        assert stage.store.receiving(BLOB) is None

    play(tmp_path, scene, BLOB)


def make_unreadable(stage: Stage, digest: Digest) -> None:
    """Put a link in the place of its file, which is not followed. Closed files need an ordinary user."""
    stage.path(digest).rename(stage.blobs.parent / "aside")
    (stage.blobs.parent / "link").symlink_to(stage.blobs.parent / "aside")
    (stage.blobs.parent / "link").rename(stage.path(digest))


def test_file_that_can_not_be_read_is_read_over_the_api_and_the_others_as_files(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.write(BLOB, LATER)
        await asyncio.sleep(2 * POLL_S)
        make_unreadable(stage, BLOB)
        await asyncio.sleep(2 * POLL_S)
        store = stage.store
        assert store.holds(BLOB)
        assert (store.unreadable, store.flaw(BLOB)) == ({}, None)
        assert store.totals == (2, 2 * len(CONTENT))
        assert set(store.digests) == {BLOB, LATER}
        for digest, descriptor in ((BLOB, False), (LATER, True)):
            blob = await store.open(digest)
            assert await blob.read(0, 100) == CONTENT
            assert (blob.fd is not None) == descriptor
            blob.close()
        (stage.blobs.parent / "aside").rename(stage.path(BLOB))
        await asyncio.sleep(2 * POLL_S)
        assert stage.kinds(BLOB) == [ChangeKind.ADDED, ChangeKind.REMOVED, ChangeKind.ADDED]
        assert store.totals == (2, 2 * len(CONTENT))
        stage.delete(BLOB)
        await asyncio.sleep(2 * POLL_S)
        assert not store.holds(BLOB)
        assert stage.kinds(BLOB)[3:] == [ChangeKind.REMOVED]

    play(tmp_path, scene)


def test_blob_that_neither_its_file_nor_the_api_gives_is_not_held_until_one_does(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.write(BLOB, LATER)
        await asyncio.sleep(2 * POLL_S)
        del stage.api.contents[BLOB]
        make_unreadable(stage, BLOB)
        await asyncio.sleep(2 * POLL_S)
        assert not stage.store.holds(BLOB)
        assert set(stage.store.unreadable) == {BLOB}
        flaw = stage.store.flaw(BLOB)
        assert flaw is not None
        assert flaw.startswith("unreadable: ")
        assert stage.store.problem is None, "it is one blob"
        assert stage.kinds(BLOB) == [ChangeKind.ADDED, ChangeKind.REMOVED]
        stage.api.contents[BLOB] = CONTENT
        await asyncio.sleep(30.0 + 2 * POLL_S)
        assert stage.store.holds(BLOB)
        assert stage.kinds(BLOB)[2:] == [ChangeKind.ADDED]

    play(tmp_path, scene)


def test_room_is_that_of_the_disk_with_the_root(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        room = stage.store.room()
        assert room is not None
        assert 0 < room.free_bytes <= shutil.disk_usage(tmp_path).total
        assert room.free_files > 0

    play(tmp_path, scene)
    assert Containerd(client=MemoryApi(), root=tmp_path / "nowhere").room() is None
