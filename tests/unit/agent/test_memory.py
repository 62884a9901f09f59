"""Which memory is gathered into large pages."""

import asyncio
import gc
import mmap
from pathlib import Path

from agent.memory import full_pages, gather, settle

LARGE = 2 << 20


def mapping(
    start: int, size: int, resident: int, *, perms: str = "rw-p", inode: int = 0, name: str = ""
) -> str:
    """One mapping, as /proc/self/smaps has it."""
    head = f"{start:x}-{start + size:x} {perms} 00000000 00:00 {inode} {name}"
    return f"{head}\nSize:           {size >> 10} kB\nRss:            {resident >> 10} kB\nVmFlags: rd wr\n"


def pages(*mappings: str) -> list[int]:
    """The large pages that would be gathered, by number."""
    return [address // LARGE for address in full_pages("".join(mappings).splitlines(keepends=True), LARGE)]


def test_large_pages_fit_between_their_boundaries() -> None:
    half = LARGE // 2
    assert pages(mapping(10 * LARGE - half, 4 * LARGE, 4 * LARGE)) == [10, 11, 12]
    assert pages(mapping(10 * LARGE - half, LARGE, LARGE)) == []
    assert pages(mapping(10 * LARGE, LARGE, LARGE, name="[heap]")) == [10]
    assert pages(mapping(10 * LARGE + 4096, 4096, 4096)) == []


def test_memory_that_is_mostly_not_there_is_left_alone() -> None:
    thread_stack = mapping(10 * LARGE, 4 * LARGE, LARGE)
    full = mapping(20 * LARGE, 4 * LARGE, 4 * LARGE - LARGE // 8)
    assert pages(thread_stack, full) == [20, 21, 22, 23]


def test_only_private_memory_of_the_process_is_gathered() -> None:
    others = [
        mapping(0, LARGE, LARGE, perms="r-xp", inode=7, name="/usr/bin/python3"),
        mapping(LARGE, LARGE, LARGE, inode=7, name="/usr/lib/libc.so.6"),
        mapping(2 * LARGE, LARGE, LARGE, perms="rw-s", inode=7, name="/dev/zero (deleted)"),
        mapping(3 * LARGE, LARGE, LARGE, perms="---p"),
        mapping(4 * LARGE, LARGE, LARGE, name="[stack]"),
    ]
    assert pages(*others) == []


def test_what_the_kernel_refuses_is_left_as_it_is() -> None:
    assert not gather(0, LARGE)


def test_gathered_memory_keeps_its_content() -> None:
    with mmap.mmap(-1, 8 * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        content = bytes(range(256)) * (len(memory) // 256)
        memory[:] = content
        for address in full_pages(Path("/proc/self/smaps").read_text().splitlines(keepends=True), LARGE):
            gather(address, LARGE)
        assert memory[:] == content


async def test_objects_of_the_start_are_set_aside_once_it_is_over() -> None:
    before = gc.get_freeze_count()
    kept: list[list[int]] = [[] for _ in range(1000)]
    try:
        await asyncio.wait_for(settle(0.0, 0.0), 30)
        assert gc.get_freeze_count() >= before + len(kept)
    finally:
        gc.unfreeze()
