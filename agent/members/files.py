"""Following a file: an answer at once, and one after each change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

_POLL_S = 0.5

_Fingerprint = tuple[int, int, int] | None


async def follow_file(
    path: Path, *, poll_s: float = _POLL_S, again: asyncio.Event | None = None
) -> AsyncIterator[None]:
    """Yield at once, and again whenever the file was written, replaced, removed or created.

    A symbolic link counts as the file behind it: Kubernetes replaces the files of a volume in that way.
    ``again``: set it to have the file read once more, even if it did not change.
    """
    again = again or asyncio.Event()
    known = _fingerprint(path)
    yield
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(poll_s):
                await again.wait()
        if (current := _fingerprint(path)) != known or again.is_set():
            again.clear()
            known = current
            yield


def _fingerprint(path: Path) -> _Fingerprint:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
