"""Whether the process under attack is well: its log, its memory, its descriptors, and honest requests."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass(slots=True, kw_only=True)
class LogReader:
    """The lines of a log that are errors, or no events at all, since the last look."""

    path: Path
    read_bytes: int = 0

    def errors(self) -> list[str]:
        """The new ones."""
        with self.path.open("rb") as log:
            log.seek(self.read_bytes)
            new = log.read()
        end = new.rfind(b"\n") + 1
        self.read_bytes += end
        return [line for line in new[:end].decode(errors="replace").splitlines() if _is_error(line)]


def _is_error(line: str) -> bool:
    try:
        event = json.loads(line)
    except ValueError:
        return bool(line.strip())
    return "traceback" in event or event.get("level") in ("error", "critical")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a process holds."""

    rss_mib: float
    descriptors: int
    threads: int


def size_of(pid: int) -> Size:
    """What this process holds now."""
    process = psutil.Process(pid)
    return Size(
        rss_mib=process.memory_info().rss / (1 << 20),
        descriptors=process.num_fds(),
        threads=process.num_threads(),
    )


@dataclass(slots=True, kw_only=True)
class Honest:
    """A well-behaved client that asks all the time. ``ask``: raises if the answer is not as it should be."""

    ask: Callable[[], None]
    every_s: float = 0.05
    asked: int = 0
    slowest_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Honest":
        self._thread = threading.Thread(target=self._run, name="an honest client")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        """Ask at least once, however short the attack is."""
        while True:
            began_s = time.monotonic()
            try:
                self.ask()
            except Exception as error:  # noqa: BLE001 - whatever it is, it goes into the report
                self.failures.append(repr(error))
            self.asked += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            if self._stop.wait(self.every_s):
                return
