"""Reads a whole file that somebody else writes, without trusting what it is.

Opening a FIFO waits for its writer, for ever if there is none, and the event loop with it. A file of
gigabytes would take the node's memory.
"""

import errno
import os
import stat
from pathlib import Path

_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def read_regular(path: Path, *, most_bytes: int) -> bytes:
    """The content of a regular file. Raises OSError, also if it is no regular file or has more bytes."""
    content = read_beginning(path, most_bytes=most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"more than {most_bytes} bytes", str(path))
    return content


def read_beginning(path: Path, *, most_bytes: int) -> bytes:
    """The first bytes of a regular file. Raises OSError, also if it is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "a directory, not a file", str(path))
        if not stat.S_ISREG(kind):
            raise OSError(
                errno.EINVAL,
                f"not a regular file, but {_KINDS.get(stat.S_IFMT(kind), 'something else')}",
                str(path),
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most_bytes)
    finally:
        os.close(descriptor)
