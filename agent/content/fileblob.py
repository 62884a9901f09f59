"""A blob in a file of its own, and why a file can't be read as one."""

import errno
import os
import stat
from pathlib import Path

from agent.content.store import ContentMissing, ContentUnavailable, ContentUnreadable, Identity

# O_NONBLOCK, so that a FIFO in a blob's place does not block. O_NOFOLLOW: a link could point anywhere.
OPENED = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

LINK = "it is a symbolic link, which could point anywhere"
NO_FILE = "it is no regular file"
CORRUPT = "corrupt: its bytes do not match the digest"

# Of the blob alone. Without descriptors or memory, or with a lost file system, no blob could be opened.
_OF_THE_BLOB = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EIO, errno.ENXIO, errno.ENODEV)


def reason_of(error: OSError) -> str:
    """Why a blob's file can't be read, in words."""
    if error.errno == errno.ELOOP:
        return LINK
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


class FileBlob:
    """A blob in a file, opened once. It stays readable if the file is removed."""

    def __init__(self, path: Path | str) -> None:
        self.fd: int | None = None
        try:
            self.fd = os.open(path, OPENED)
            status = os.fstat(self.fd)
        except FileNotFoundError as error:
            raise ContentMissing(f"no such blob: {path}") from error
        except OSError as error:
            self.close()
            if error.errno in _OF_THE_BLOB:
                raise ContentUnreadable(path, reason_of(error)) from error
            raise ContentUnavailable(f"{path}: {error.strerror or error}") from error
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise ContentUnreadable(path, NO_FILE)
        self.size_bytes = status.st_size
        self.identity: Identity | None = (status.st_dev, status.st_ino, status.st_mtime_ns)

    @property
    def available_bytes(self) -> int:
        """See `Blob.available_bytes`. The file is complete."""
        return self.size_bytes

    async def read(self, offset: int, length: int) -> bytes:
        """See `Blob.read`. Reads in place, because small reads cost less than a thread."""
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
