"""Reads a whole file that somebody else writes, without trusting what it is.

Opening a FIFO waits for its writer, for ever if there is none, and the event loop with it. A file of
gigabytes would take the node's memory.
"""

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, *, most_bytes: int) -> bytes:
    """The content of a regular file. Raises OSError, also if it is no regular file or has more bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"more than {most_bytes} bytes", str(path))
    return content
