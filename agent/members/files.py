"""Following a file: an answer at once, and one after each change."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

_POLL_S = 0.5

_Fingerprint = tuple[int, int, int] | None


async def follow_file(path: Path, *, poll_s: float = _POLL_S) -> AsyncIterator[None]:
    """Yield at once, and again whenever the file was written, replaced, removed or created.

    A symbolic link counts as the file behind it: Kubernetes replaces the files of a volume in that way.
    """
    known = _fingerprint(path)
    yield
    while True:
        await asyncio.sleep(poll_s)
        if (current := _fingerprint(path)) != known:
            known = current
            yield


def _fingerprint(path: Path) -> _Fingerprint:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
