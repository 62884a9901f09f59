"""The process's memory once it has settled after the start.

An agent is idle most of the time, and a request after a pause finds nothing of it in the processor's caches.
So it matters how many places its code and objects are in. Objects that stay are set aside, so that garbage
collections leave them alone. The pages that hold them are gathered into large ones, so that far fewer
address translations are missing (docs/decisions/0022). Sources: gc.freeze(); madvise(2), MADV_COLLAPSE.
"""

import asyncio
import ctypes
import gc
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_SETTLED_S = 3.0  # the stores are read, and the peers greeted
_PAUSE_S = 0.02  # between two large pages: a request must not wait for all of them
_MADV_COLLAPSE = 25  # include/uapi/asm-generic/mman-common.h; Linux 6.1
_FULL = 31 / 32  # a mapping is gathered if this much of it is in memory: gathering brings in the rest
_TRANSPARENT = Path("/sys/kernel/mm/transparent_hugepage")
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 *(\[heap\])?\n")
_RESIDENT = re.compile(r"Rss: +([0-9]+) kB\n")


async def settle(after_s: float = _SETTLED_S, pause_s: float = _PAUSE_S) -> None:
    """Wait until the start is over, and then arrange the memory, once. Cancelling does no harm."""
    await asyncio.sleep(after_s)
    gc.collect()
    gc.freeze()
    large_bytes = _large_bytes()
    if large_bytes is not None:
        for address in await asyncio.to_thread(_own_full_pages, large_bytes):
            await asyncio.to_thread(gather, address, large_bytes)
            await asyncio.sleep(pause_s)


def full_pages(smaps: Iterable[str], large_bytes: int) -> Iterator[int]:
    """The addresses of the large pages that fit into this process's private memory, where it is nearly full.

    ``smaps``: the lines of /proc/self/smaps.
    """
    start = stop = 0
    for line in smaps:
        if "-" in line and (mapping := _MAPPING.fullmatch(line)):
            start, stop = int(mapping[1], 16), int(mapping[2], 16)
        elif resident := _RESIDENT.fullmatch(line):
            if int(resident[1]) * 1024 >= _FULL * (stop - start):
                yield from range(-(-start // large_bytes) * large_bytes, stop - large_bytes + 1, large_bytes)
            start = stop = 0


def gather(address: int, size_bytes: int) -> bool:
    """Gather this memory into a large page. False if the kernel can't, or has no room for it.

    The content stays as it is. Whoever touches it meanwhile waits for a few milliseconds.
    """
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return bool(madvise(address, size_bytes, _MADV_COLLAPSE) == 0)


def _own_full_pages(large_bytes: int) -> list[int]:
    with Path("/proc/self/smaps").open() as lines:
        return [*full_pages(lines, large_bytes)]


def _large_bytes() -> int | None:
    """The size of a large page. None if this system has none, or if its operator wants none."""
    try:
        if "[never]" in (_TRANSPARENT / "enabled").read_text():
            return None
        return int((_TRANSPARENT / "hpage_pmd_size").read_text())
    except (OSError, ValueError):
        return None
