"""A directory of blobs whose disk is not as it should be. What works: tests/conformance.

EACCES needs an agent without root's rights: tests/server/test_unreadable_stores.py.
"""

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.content.blobdir import BlobDirectory
from agent.content.fileblob import LINK, NO_FILE
from agent.content.store import Change, ChangeKind, ContentError, ContentUnavailable
from agent.oci.digest import Digest
from tests.unit.twins import sha256

A, B = Digest(sha256("a")), Digest(sha256("b"))


def put(root: Path, digest: Digest) -> Path:
    """Write a blob as its owner does: by rename."""
    path = root / digest.replace(":", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(b"content")
    return new.rename(path)


@asynccontextmanager
async def followed(root: Path) -> AsyncIterator[BlobDirectory]:
    blobs = BlobDirectory(root, lambda _: None)
    task = asyncio.create_task(blobs.run())
    try:
        yield blobs
        assert not task.done(), "it ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a file system has no event for a test
            await asyncio.sleep(0.01)


def be_absent(root: Path) -> None:
    pass


def be_a_file(root: Path) -> None:
    root.write_text("no directory")  # ENOTDIR


def be_below_a_file(root: Path) -> None:
    root.parent.rmdir()
    root.parent.write_text("no directory")  # ENOTDIR further up


def be_a_loop(root: Path) -> None:
    root.symlink_to(root)  # ELOOP


def be_a_pipe(root: Path) -> None:
    os.mkfifo(root)


@pytest.mark.parametrize("odd", [be_absent, be_a_file, be_below_a_file, be_a_loop, be_a_pipe])
async def test_what_is_no_directory_is_a_problem_and_every_blob_is_missing(
    tmp_path: Path, odd: Callable[[Path], None]
) -> None:
    root = tmp_path / "store/blobs"
    root.parent.mkdir()
    odd(root)
    async with followed(root) as blobs:
        await blobs.scanned.wait()
        assert blobs.problem is not None
        assert str(root) in blobs.problem
        assert A not in blobs
        assert blobs.totals == (0, 0)
        with pytest.raises(ContentError):
            blobs.open(A)


@pytest.mark.parametrize("odd", ["a directory", "a pipe", "a link", "a loop", "a file below a file"])
async def test_what_is_no_file_is_not_held_and_can_not_be_opened(tmp_path: Path, odd: str) -> None:
    root = tmp_path / "blobs"
    put(root, A)
    path = root / B.replace(":", "/")
    match odd:
        case "a directory":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a link":
            path.symlink_to(root / A.replace(":", "/"))
        case "a loop":
            path.symlink_to(path)
        case _:
            path = root / "sha512"
            path.write_text("no directory")
    async with followed(root) as blobs:
        await blobs.scanned.wait()
        if odd != "a file below a file":
            assert set(blobs.digests) == {A}
            assert blobs.problem is None
        with pytest.raises(ContentError):
            blobs.open(B)


async def test_opening_a_pipe_in_a_blobs_place_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / A.replace(":", "/")
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(ContentUnavailable, match="no regular file"):
        BlobDirectory(tmp_path, lambda _: None).open(A)


async def test_withdrawn_blobs_that_are_replaced_before_a_scan_are_held_again(tmp_path: Path) -> None:
    root = tmp_path / "blobs"
    put(root, A)
    put(root, B)
    blobs = BlobDirectory(root, lambda _: None)
    for digest in (A, B):
        status = blobs.path(digest).stat()
        blobs.withdraw(digest, (status.st_dev, status.st_ino, status.st_mtime_ns))
        blobs.path(digest).unlink()
        put(root, digest)
    task = asyncio.create_task(blobs.run())
    try:
        await until(lambda: task.done() or set(blobs.digests) == {A, B})
        assert not task.done(), "it crashed"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_blob_that_goes_during_the_scan_does_not_hide_the_others(tmp_path: Path) -> None:
    root = tmp_path / "blobs"
    digests = [Digest(sha256(str(number))) for number in range(3000)]
    paths = [put(root, digest) for digest in digests]
    blobs = BlobDirectory(root, lambda _: None)
    task = asyncio.create_task(blobs.run())
    try:
        for path in paths[::3]:
            path.unlink()
            if len(blobs.digests) == 0:
                await asyncio.sleep(0)
        left = {digest for number, digest in enumerate(digests) if number % 3}
        await until(lambda: set(blobs.digests) == left)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_blob_whose_file_is_replaced_by_a_link_is_withdrawn_and_comes_back_with_its_file(
    tmp_path: Path,
) -> None:
    path = put(tmp_path, A)
    changes: list[Change] = []
    blobs = BlobDirectory(tmp_path, changes.append)
    task = asyncio.create_task(blobs.run())
    try:
        await until(lambda: A in blobs.digests)
        aside = path.rename(tmp_path / "aside")
        link = tmp_path / "link"
        link.symlink_to(aside)
        link.rename(path)
        await until(lambda: A in blobs.unreadable)
        assert A not in blobs
        assert blobs.flaw(A) == f"unreadable: {LINK}"
        assert blobs.totals == (0, 0)
        with pytest.raises(ContentError):
            blobs.open(A)
        path.unlink()
        await until(lambda: A not in blobs.unreadable)
        assert blobs.flaw(A) is None
        put(tmp_path, A)
        await until(lambda: A in blobs.digests)
        told = [change.kind for change in changes]
        assert told[:3] == [ChangeKind.ADDED, ChangeKind.REMOVED, ChangeKind.ADDED]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize(("odd", "reason"), [("link", LINK), ("directory", NO_FILE), ("pipe", NO_FILE)])
async def test_what_is_no_file_is_named_with_its_reason(
    tmp_path: Path, odd: str, reason: str, when: str
) -> None:
    put(tmp_path, A)
    path = tmp_path / B.replace(":", "/")

    def make() -> None:
        match odd:
            case "link":
                path.symlink_to(tmp_path / A.replace(":", "/"))
            case "directory":
                path.mkdir()
            case _:
                os.mkfifo(path)

    if when == "before":
        make()
    async with followed(tmp_path) as blobs:
        await blobs.scanned.wait()
        if when == "meanwhile":
            make()
        await until(lambda: dict(blobs.unreadable) == {B: reason})
        assert set(blobs.digests) == {A}
        assert blobs.flaw(A) is None


async def test_file_that_is_still_being_written_is_not_held_because_its_mode_changes(tmp_path: Path) -> None:
    put(tmp_path, A)
    path = tmp_path / B.replace(":", "/")
    async with followed(tmp_path) as blobs:
        await blobs.scanned.wait()
        with path.open("wb") as file:
            file.write(b"half")
            os.fchmod(file.fileno(), 0o640)
            put(tmp_path, sha256("c"))
            await until(lambda: sha256("c") in blobs.digests)  # so events up to here were seen
            assert B not in blobs
            assert B not in blobs.unreadable
        await until(lambda: B in blobs.digests)


async def test_machine_without_descriptors_makes_no_blob_unreadable(tmp_path: Path) -> None:
    put(tmp_path, A)
    async with followed(tmp_path) as blobs:
        await blobs.scanned.wait()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(ContentUnavailable, match="Too many open files"):
                blobs.open(A)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert A in blobs
        assert not blobs.unreadable
        blobs.open(A).close()


async def test_nothing_is_noted_of_digests_that_somebody_made_up(tmp_path: Path) -> None:
    put(tmp_path, A)
    async with followed(tmp_path) as blobs:
        await blobs.scanned.wait()
        (tmp_path / "sha512").symlink_to(tmp_path / "sha512")  # ELOOP, whatever the digest
        for number in range(10):
            with pytest.raises(ContentError):
                blobs.open(Digest(f"sha512:{number:0128}"))
        assert not blobs.unreadable
