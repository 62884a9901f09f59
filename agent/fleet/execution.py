"""Runs a command in pods, over the API server's WebSocket for it, and collects what they say.

Source: Kubernetes' `remotecommand` protocol ``v4.channel.k8s.io``. The first byte of a message is its
channel: 1 what the command prints, 2 its errors, 3 a ``Status`` with how it ended.
"""

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.fleet.pods import AgentPod, Said, agent_pods, exit_status, in_order, next_page, nodes_without
from agent.members.kubernetes.client import ApiServer, Expired, Failed

PROTOCOL = "v4.channel.k8s.io"
OUTPUT_MAX_BYTES = 256 << 10
"""What is kept of a pod's output."""

_AT_ONCE = 64  # a doctor takes seconds, Helm waits five minutes, and a cluster may have thousands of nodes
_PAGE = 500  # pods, of some 15 KB each
_OUTPUT, _ERRORS, _STATUS = 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The agents' pods. ``selector``: of their labels. ``timeout_s``: for the command in one pod."""

    api: ApiServer
    namespace: str
    selector: str
    container: str
    timeout_s: float

    async def pods(self) -> tuple[AgentPod, ...]:
        """All pods of agents. Raises `Failed`."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        query = {"labelSelector": self.selector, "limit": str(_PAGE)}
        found: list[AgentPod] = []
        while True:
            page = await self._read(path, query, "PodList")
            found += agent_pods(page)
            more = next_page(page)
            if not more:
                return in_order(found)
            query["continue"] = more

    async def missing(self, daemonset: str, pods: Sequence[AgentPod]) -> int:
        """How many nodes should have one of these pods, and have none. Raises `Failed`."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets/{daemonset}"
        return nodes_without(await self._read(path, {}, "DaemonSet"), pods)

    async def _read(self, path: str, query: Mapping[str, str], kind: str) -> dict[str, Any]:
        try:
            return await self.api.read(path, query, kinds={kind})
        except Expired as error:  # nothing that is read without a version expires
            raise Failed(str(error), hint="try again") from error

    async def run(
        self,
        command: Sequence[str],
        pods: Sequence[AgentPod],
        *,
        told: Callable[[int], None] = lambda _: None,
    ) -> tuple[Said, ...]:
        """What the command says in each pod, in their order. ``told``: in how many it has ended so far."""
        places, ended = asyncio.Semaphore(_AT_ONCE), itertools.count(1)

        async def one(pod: AgentPod) -> Said:
            async with places:
                said = await self._run(command, pod)
            told(next(ended))
            return said

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one(pod)) for pod in pods]
        return tuple(task.result() for task in running)

    async def _run(self, command: Sequence[str], pod: AgentPod) -> Said:
        query = [
            *(("command", word) for word in command),
            ("container", self.container),
            ("stdout", "true"),
            ("stderr", "true"),
        ]
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod.name}/exec"
        output = bytearray()
        status: tuple[int, str] = 0, "the connection ended before the command did"
        try:
            async with asyncio.timeout(self.timeout_s):
                async with self.api.messages(path, query, protocol=PROTOCOL) as messages:
                    async for message in messages:
                        channel, content = message[0], message[1:]
                        if channel in (_OUTPUT, _ERRORS):
                            output += content[: OUTPUT_MAX_BYTES - len(output)]
                        elif channel == _STATUS:
                            status = _status(content)
        except TimeoutError:
            status = 0, f"not done after {self.timeout_s:g} s"
        except Failed as error:
            status = 0, str(error)
        number, failure = status
        return Said(pod=pod, status=number, output=output.decode(errors="replace"), failure=failure)


def _status(content: bytes) -> tuple[int, str]:
    try:
        return exit_status(json.loads(content))
    except (ValueError, RecursionError):
        return exit_status(None)
