"""Keeps what a process knows out of core dumps: the keys of the cluster are in its memory.

Two means, because one does not do: the limit of a core file's size does not bind a kernel that pipes dumps to
a program, and the filter leaves a file with registers. PR_SET_DUMPABLE would do alone. But it also hides the
process's descriptors from tools of the same user, and so from this project's own words about who has a port.
Source: core(5).
"""

import resource
from contextlib import suppress
from pathlib import Path

_FILTER = Path("/proc/self/coredump_filter")
_NO_MEMORY = "0"  # no kind of mapping


def keep_memory_from_dumps() -> None:
    """No core file from now on, and no memory in what the kernel pipes. Children inherit both."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # no /proc, or one that is read-only
        _FILTER.write_text(_NO_MEMORY)
