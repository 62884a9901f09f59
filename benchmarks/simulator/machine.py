"""On which machine something was measured or simulated, for the JSON files."""

import os
import platform
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

_MIB = 1 << 20


def machine_facts() -> Mapping[str, Any]:
    """The processor, the memory, the kernel, the versions, and how busy the machine is."""
    return {
        "processors": os.cpu_count(),
        "processor": _line("/proc/cpuinfo", "model name"),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "load": [round(each, 2) for each in os.getloadavg()],
    }


def peak_mib() -> float:
    """This process's largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _line(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return platform.processor()
