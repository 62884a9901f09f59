"""Processes with simulated agents, and what they are told.

Agents that share a process share its loop and its clock, and nothing else that the index has: each has its
own connection, number, announcer and jitter.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from benchmarks.lab.process import die_with_parent, held_back


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The agents of one process: those with the numbers ``first`` to ``first + count - 1`` of ``nodes``."""

    url: str
    nodes: int
    first: int
    count: int
    blobs: int
    digests: int
    zones: int = 10
    seed: int = 1
    prefix: str = "shorthaul"
    timeout_s: float = 0.15


class Worker:
    """One process. Each question is answered before the next one is put."""

    def __init__(self, plan: Plan) -> None:
        with held_back():
            self._child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.index.worker", json.dumps(asdict(plan))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=die_with_parent,
            )
        self.plan = plan

    def do(self, what: str, **more: object) -> dict[str, Any]:
        """Have it do something, and wait for its answer. Raises `RuntimeError` if the process has ended."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of simulated agents has ended with {self._child.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        """End it without notice."""
        self._child.kill()
        self._child.wait()


class Crew:
    """Several processes, that are asked at once. Use as a context manager."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.workers = [Worker(plan) for plan in plans]
        self._threads = ThreadPoolExecutor(len(plans))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        self._threads.shutdown()

    def do(self, what: str, **more: object) -> list[dict[str, Any]]:
        """Have each do the same, and wait for all."""
        return list(self._threads.map(lambda worker: worker.do(what, **more), self.workers))
