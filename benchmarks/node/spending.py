"""What a process has used so far: time on a processor, and how often it was woken."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """By all threads that live. ``cpu_s``: to the nanosecond. ``wakes``: how often one of them had slept."""

    cpu_s: float
    wakes: int

    def since(self, before: "Used") -> "Used":
        """What came since then."""
        return Used(cpu_s=self.cpu_s - before.cpu_s, wakes=self.wakes - before.wakes)


def used(pid: int) -> Used:
    """Raises ProcessLookupError without that process.

    ``/proc/PID/stat`` counts in hundredths of a second, which is too coarse for an idle process. The
    scheduler's own count is not.
    """
    cpu_ns = wakes = threads = 0
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            running, status = (task / "schedstat").read_text(), (task / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):  # a thread that just ended
            continue
        cpu_ns += int(running.split()[0])
        wakes += voluntary_switches(status)
        threads += 1
    if not threads:
        raise ProcessLookupError(pid)
    return Used(cpu_s=cpu_ns / 1e9, wakes=wakes)


def voluntary_switches(status: str) -> int:
    """How often a thread slept, from the text of its ``status``. Raises ValueError."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "voluntary_ctxt_switches":
            return int(value)
    raise ValueError("no voluntary_ctxt_switches")
