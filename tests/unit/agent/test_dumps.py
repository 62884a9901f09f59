"""Nothing that a process knows is in its core dump."""

import subprocess
import sys

_SHOW = """
from pathlib import Path
from agent.dumps import keep_memory_from_dumps
keep_memory_from_dumps()
print(Path("/proc/self/coredump_filter").read_text().strip())
print(next(line for line in Path("/proc/self/limits").read_text().splitlines() if "core file" in line))
"""


def test_no_core_file_is_written_and_no_memory_is_piped_to_anybody() -> None:
    shown = subprocess.run([sys.executable, "-c", _SHOW], capture_output=True, text=True, check=True).stdout
    dumped, limit = shown.splitlines()
    assert int(dumped, 16) == 0
    assert limit.split()[-3:-1] == ["0", "0"]
