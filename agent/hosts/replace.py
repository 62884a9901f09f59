"""Replaces a file so that there is always a whole one: the old one, or the new one after it was read back."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LEFTOVER = ".shorthaul-new"
"""The end of the names of what is not in its place yet. A run that was killed leaves such files behind."""

_PLAIN_MODE = 0o644


class NotWritten(OSError):
    """What was read back is not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose a file is, and who may read it."""

    uid: int
    gid: int
    mode: int


def owner_of(path: Path) -> Owner | None:
    """None if there is no such file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return Owner(uid=found.st_uid, gid=found.st_gid, mode=stat.S_IMODE(found.st_mode))


def replace_file(
    path: Path, data: bytes, *, like: Owner | None, check: Callable[[bytes], object] = lambda data: None
) -> None:
    """Write a file by renaming. ``like``: owner and mode of the new one; None: mode 0644.

    ``check``: raises if this content may not take the file's place. Raises OSError; then the old file stays.
    """
    new = path.with_name(f".{path.name}{LEFTOVER}")
    try:
        with _opened(new) as descriptor:
            _write(descriptor, data)
            _give(descriptor, like)
            os.fsync(descriptor)
        read = new.read_bytes()
        if read != data:
            raise NotWritten(f"{path.name}: what was read back is not what was written")
        check(read)
        new.rename(path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file for good, and what a run that was killed left beside it. Raises OSError."""
    path.unlink(missing_ok=True)
    path.with_name(f".{path.name}{LEFTOVER}").unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory last. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    path.unlink(missing_ok=True)  # of a run that was killed, or a link that somebody put there
    # Nobody else may read it before its mode is known: it may hold a token.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _give(descriptor: int, like: Owner | None) -> None:
    if like is not None:
        now = os.fstat(descriptor)
        if (now.st_uid, now.st_gid) != (like.uid, like.gid):  # it needs a capability, so not without need
            os.fchown(descriptor, like.uid, like.gid)
    os.fchmod(descriptor, _PLAIN_MODE if like is None else like.mode)
