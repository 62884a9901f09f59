"""Reads what a server does and uses, as the kernel and the server itself count it."""

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import psutil
import valkey

from benchmarks.index.usage import Sample, Usage

_EVERY_S = 0.25


class Gauge:
    """Reads a server's counters four times a second while a ``with`` lasts, even across its restart.

    ``pid``: of the process that has the port now.
    """

    def __init__(self, port: int, pid: Callable[[], int]) -> None:
        self._port = port
        self._pid = pid
        self._runs: list[list[Sample]] = []
        self._last_pid = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def usage(self) -> Usage:
        """What was read until now."""
        return Usage([list(run) for run in self._runs])

    def _run(self) -> None:
        with valkey.Valkey(host="127.0.0.1", port=self._port, socket_timeout=5) as client:
            while not self._ended.is_set():
                self._try(client)
                self._ended.wait(_EVERY_S)
            self._try(client)

    def _try(self, client: valkey.Valkey) -> None:
        with contextlib.suppress(valkey.ValkeyError, psutil.Error, OSError):  # it may be restarting
            self._read(client)

    def _read(self, client: valkey.Valkey) -> None:
        pid = self._pid()
        times = psutil.Process(pid).cpu_times()
        info: dict[str, Any] = {}
        for section in ("clients", "memory", "stats", "commandstats"):
            info |= client.info(section)  # type: ignore[arg-type]  # its types are those of both clients
        sample = Sample(
            at_s=time.monotonic(),
            cpu_s=times.user + times.system,
            requests=info["total_reads_processed"],
            commands=info["total_commands_processed"],
            changes=info.get("cmdstat_setbit", {}).get("calls", 0),
            memory_bytes=info["used_memory"],
            clients=info["connected_clients"],
        )
        if pid != self._last_pid:
            self._runs.append([])
            self._last_pid = pid
        self._runs[-1].append(sample)
