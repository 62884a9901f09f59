"""A file that grows: whoever waits for its next byte is woken, and told when there will be none."""

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from asyncinotify import Inotify, Mask, Watch

from agent.content.growing import GrowingFile, GrowthWatcher
from agent.content.store import ContentGone, ContentMissing, ContentUnreadable

SIZE = 100


def opened(path: Path, watcher: GrowthWatcher | None = None) -> GrowingFile:
    return GrowingFile(path, size_bytes=SIZE, watcher=watcher or GrowthWatcher())


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def rename(path: Path, new: Path) -> None:
    path.rename(new)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(b"")
    return path


@pytest.fixture(params=["inotify", "no inotify"])
def watcher(request: pytest.FixtureRequest) -> GrowthWatcher:
    """With the kernel's help, and without."""
    if request.param == "inotify":
        return GrowthWatcher()
    return GrowthWatcher(give_none)


def give_none() -> Inotify:
    """The kernel has no more instances."""
    raise OSError(errno.EMFILE, "Too many open files")


async def once_waiting(watcher: GrowthWatcher, number: int = 1) -> None:
    while watcher.waiting < number:  # noqa: ASYNC110 - the next turns of the loop
        await asyncio.sleep(0)


async def test_bytes_that_are_there_are_not_waited_for(data: Path, watcher: GrowthWatcher) -> None:
    append(data, b"x" * 10)
    blob = opened(data, watcher)
    assert (blob.size_bytes, blob.available_bytes) == (SIZE, 10)
    assert await blob.wait_beyond(9) == 10
    assert await blob.read(4, 50) == b"x" * 6
    blob.close()


async def test_all_followers_are_woken_by_the_byte_that_each_waits_for(
    data: Path, watcher: GrowthWatcher
) -> None:
    blobs = [opened(data, watcher) for _ in range(20)]
    tasks = [asyncio.create_task(blob.wait_beyond(offset)) for offset, blob in enumerate(blobs)]
    await once_waiting(watcher, 20)
    append(data, b"x" * 10)
    assert await asyncio.gather(*tasks[:10]) == [10] * 10
    assert not any(task.done() for task in tasks[10:])
    append(data, b"x" * 10)
    assert await asyncio.gather(*tasks[10:]) == [20] * 10
    for blob in blobs:
        blob.close()
    assert watcher.waiting == 0


async def test_file_that_is_renamed_when_it_is_whole_is_read_to_its_end(
    data: Path, watcher: GrowthWatcher
) -> None:
    blob = opened(data, watcher)
    waiting = asyncio.create_task(blob.wait_beyond(50))
    await once_waiting(watcher)
    committed = data.with_name("committed")
    rename(data, committed)
    append(committed, b"y" * SIZE)
    assert await waiting == SIZE
    remove(committed)  # as `discard_unpacked_layers` does
    assert await blob.wait_beyond(SIZE - 1) == SIZE
    assert await blob.read(0, 1000) == b"y" * SIZE
    blob.close()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_file_that_its_owner_removes_is_gone_and_what_is_there_is_read_first(
    data: Path, watcher: GrowthWatcher, when: str
) -> None:
    append(data, b"x" * 10)
    blob = opened(data, watcher)
    if when == "before":
        remove(data)
    waiting = asyncio.create_task(blob.wait_beyond(10))
    if when == "meanwhile":
        await once_waiting(watcher)
        remove(data)
    with pytest.raises(ContentGone):
        await waiting
    assert await blob.wait_beyond(0) == 10
    blob.close()


async def test_file_that_outgrows_its_announced_size_is_gone(data: Path, watcher: GrowthWatcher) -> None:
    blob = opened(data, watcher)
    waiting = asyncio.create_task(blob.wait_beyond(SIZE - 1))
    await once_waiting(watcher)
    append(data, b"x" * (SIZE + 1))
    with pytest.raises(ContentGone, match="101 bytes of 100"):
        await waiting
    assert blob.available_bytes == SIZE, "never more than that is offered"
    assert await blob.read(0, 1000) == b"x" * SIZE
    assert await blob.read(SIZE, 1000) == b""
    blob.close()


async def test_file_that_begins_again_is_waited_for_until_it_is_beyond(
    data: Path, watcher: GrowthWatcher
) -> None:
    append(data, b"x" * 10)
    blob = opened(data, watcher)
    assert await blob.wait_beyond(5) == 10
    os.truncate(data, 0)
    assert blob.available_bytes == 0
    waiting = asyncio.create_task(blob.wait_beyond(5))
    await once_waiting(watcher)
    append(data, b"x" * 5)
    append(data, b"x" * 3)
    assert await waiting == 8
    blob.close()


async def test_byte_that_the_content_does_not_have_is_not_waited_for(data: Path) -> None:
    blob = opened(data)
    with pytest.raises(ValueError, match="no byte 100"):
        await blob.wait_beyond(SIZE)
    blob.close()


async def test_follower_that_leaves_disturbs_no_other(data: Path, watcher: GrowthWatcher) -> None:
    stays, leaves = opened(data, watcher), opened(data, watcher)
    staying, leaving = (asyncio.create_task(blob.wait_beyond(0)) for blob in (stays, leaves))
    await once_waiting(watcher, 2)
    leaving.cancel()
    await asyncio.wait({leaving})
    leaves.close()
    append(data, b"x")
    assert await staying == 1
    stays.close()


async def test_blob_that_is_closed_while_it_is_waited_for_ends_the_wait(
    data: Path, watcher: GrowthWatcher
) -> None:
    blob = opened(data, watcher)
    waiting = asyncio.create_task(blob.wait_beyond(0))
    await once_waiting(watcher)
    blob.close()
    blob.close()
    with pytest.raises(ContentGone):
        await waiting


async def test_nothing_is_left_open_when_nobody_follows(data: Path, watcher: GrowthWatcher) -> None:
    before = descriptors()
    for _ in range(3):
        blobs = [opened(data, watcher) for _ in range(5)]
        tasks = [asyncio.create_task(blob.wait_beyond(50)) for blob in blobs]
        await once_waiting(watcher, 5)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for blob in blobs:
            blob.close()
    assert descriptors() == before


async def test_file_without_a_watch_is_looked_at_when_those_with_one_are_closed(tmp_path: Path) -> None:
    class Scarce(Inotify):
        def add_watch(self, path: os.PathLike[str] | bytes | str, mask: Mask) -> Watch:
            if self.watches:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().add_watch(path, mask)

    watcher = GrowthWatcher(Scarce)
    paths = [tmp_path / "watched", tmp_path / "looked at"]
    for path in paths:
        append(path, b"")
    watched, looked_at = (opened(path, watcher) for path in paths)
    tasks = [asyncio.create_task(blob.wait_beyond(0)) for blob in (watched, looked_at)]
    await once_waiting(watcher, 2)
    append(paths[0], b"x")
    assert await tasks[0] == 1
    watched.close()
    append(paths[1], b"x")
    assert await tasks[1] == 1
    looked_at.close()


async def test_all_followers_share_one_inotify_instance(tmp_path: Path) -> None:
    watcher = GrowthWatcher()
    paths = [tmp_path / str(number) for number in range(10)]
    for path in paths:
        path.write_bytes(b"")
    blobs = [opened(path, watcher) for path in paths for _ in range(3)]
    tasks = [asyncio.create_task(blob.wait_beyond(0)) for blob in blobs]
    await once_waiting(watcher, 30)
    assert list(descriptors().values()).count("anon_inode:inotify") == 1
    for path in paths:
        append(path, b"x")
    assert await asyncio.gather(*tasks) == [1] * 30
    for blob in blobs:
        blob.close()


def descriptors() -> dict[str, str]:
    """The open descriptors of this process, and what each is."""
    found = dict[str, str]()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            found[path.name] = str(path.readlink())
    return found


async def test_fast_writer_does_not_wake_the_watcher_for_each_write(data: Path) -> None:
    looks = list[int]()

    class Counting(GrowthWatcher):
        def _look(self) -> None:
            looks.append(1)
            super()._look()

    watcher = Counting()
    blob = opened(data, watcher)
    waiting = asyncio.create_task(blob.wait_beyond(SIZE - 1))
    await once_waiting(watcher)
    began_s = asyncio.get_running_loop().time()
    for _ in range(SIZE):
        append(data, b"x")
        await asyncio.sleep(0)
    await waiting
    took_s = asyncio.get_running_loop().time() - began_s
    assert len(looks) <= 3 + took_s / 0.01
    blob.close()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: None, ContentMissing),
        (lambda path: path.symlink_to("/etc/passwd"), ContentUnreadable),
        (lambda path: os.mkfifo(path), ContentUnreadable),
    ],
)
async def test_what_is_no_file_is_not_opened(
    tmp_path: Path, make: Callable[[Path], None], error: type[Exception]
) -> None:
    make(tmp_path / "data")
    with pytest.raises(error):
        opened(tmp_path / "data")
