"""Pods of one node, as the chart makes them: an agent and a probe each, and the upgrade from one to the next.

The pods share the node's network namespace and the folder of the hand-over socket. Each has a folder of its
own for its probe's socket and its health socket, like an emptyDir.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import psutil
import yaml

from benchmarks.lab.cluster import Node
from benchmarks.lab.process import Process, enter

_SHORTHAUL = str(Path(sys.executable).parent / "shorthaul")
_STARTUP_S = 1.0  # between two startup probes


class Pod:
    """One pod. ``with_probe``: whether it has a probe."""

    def __init__(self, node: Node, number: int, *, with_probe: bool, settings: dict[str, Any]) -> None:
        self.node = node
        self._folder = node.folder / f"pod-{number}"
        self._folder.mkdir()
        self.health = self._folder / "health.sock"
        self._config = self._folder / "agent.yaml"
        probe = {**node.settings["probe"], **settings.pop("probe", {})}
        whole = {
            **node.settings,
            "handover": {"socket": str(node.folder / "handover.sock")},
            "health": {"socket": str(self.health)},
            **settings,
            "probe": {**probe, "socket": str(self._folder / "probe.sock")},
        }
        self._config.write_text(yaml.safe_dump(whole))
        self.log = self._folder / "agent.log"
        self._probe = self._run("probe") if with_probe else None  # a native sidecar starts first
        self.agent = self._run("agent")

    def _run(self, command: str) -> Process:
        words = [_SHORTHAUL, command, "--config", str(self._config), "--log-format", "json"]
        log = self._folder / f"{command}.log"
        return Process(words, log=log, netns=self.node.netns, cgroup=self.node.cgroup)

    def is_ready(self) -> bool:
        """What its startup probe says."""
        command = [*enter(self.node.netns), _SHORTHAUL, "ready", "--socket", str(self.health)]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    def wait(self, *, every_s: float = _STARTUP_S) -> None:
        """Wait until the kubelet would say that it is ready."""
        while not self.is_ready():
            self.agent.wait_until(lambda: True, f"the agent of {self.node.name}")
            time.sleep(every_s)

    def rss_bytes(self) -> int:
        """The memory of its agent."""
        return int(psutil.Process(self.agent.pid).memory_info().rss)

    def stop(self) -> int:
        """Delete the pod, after its preStop hook. Returns the agent's exit status."""
        status = self.agent.stop(at_most_s=60.0)
        if self._probe is not None:
            self._probe.stop()
        return status


class Rollout:
    """The pods of some nodes. A context manager that ends them all."""

    def __init__(self, nodes: Sequence[Node], *, with_probe: bool, prestop_s: float, **settings: Any) -> None:
        self._with_probe = with_probe
        self._settings = settings
        self._prestop_s = prestop_s
        self._stack = ExitStack()
        self._number = 0
        self.two_rss_bytes: list[int] = []  # of both agents of a node, during each upgrade
        self.took_s: list[float] = []  # each upgrade of a node
        self.pods = {node.name: self._start(node) for node in nodes}
        for pod in self.pods.values():
            pod.wait(every_s=0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, node: Node) -> Pod:
        self._number += 1
        settings = {key: dict(value) for key, value in self._settings.items()}
        pod = Pod(node, self._number, with_probe=self._with_probe, settings=settings)
        self._stack.callback(pod.stop)
        return pod

    def change(self, settings: dict[str, Any]) -> None:
        """The settings of the pods that start from now on."""
        self._settings = settings

    def upgrade(self, name: str) -> None:
        """Replace a node's pod as a DaemonSet does with maxSurge 1 and maxUnavailable 0."""
        older, began_s = self.pods[name], time.monotonic()
        newer = self.pods[name] = self._start(older.node)
        newer.wait()
        time.sleep(self._prestop_s)
        self.two_rss_bytes.append(older.rss_bytes() + newer.rss_bytes())
        older.stop()
        self.took_s.append(time.monotonic() - began_s)
