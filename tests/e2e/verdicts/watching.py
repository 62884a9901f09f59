"""A node whose probe sends canaries each second, and processes that get between containerd and its agent."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.lab import portmap
from benchmarks.lab.portmap import HostPort
from benchmarks.lab.vouching import vouched
from tests.e2e.verdicts.node import Node
from tests.e2e.verdicts.running import AGENT_PORT, HOST_PORT, RunningAgent, RunningProbe, until

PROVED = "shorthaul_local_path_proved"
_FORWARDER = Path(__file__).with_name("forwarder.py")


@contextmanager
def watched(
    node: Node, *endpoints: str, interval_s: int = 1, **listen: str
) -> Iterator[tuple[RunningProbe, RunningAgent]]:
    """In the place of the usual ones a probe that sends canaries each second, and an agent that hears it.

    ``interval_s``: a tenth of the time for which the agent remembers what disproved the path.
    """
    with (
        node.host.away(),
        node.scene.probe(endpoints=list(endpoints), canary_interval_s=1) as probe,
        node.scene.agent(
            node.scene.node.name, node.scene.node, follow=probe, interval_s=interval_s, **listen
        ) as agent,
        vouched(node.probe.socket, node=agent.name, pid=agent.process.pid),  # which judges pulls
    ):
        until(lambda: probe.tail.health.agents == 2, "the probe knows this agent and the pod's")
        rounds = {canary.at_s for canary in probe.tail.health.canaries}
        until(lambda: rounds.isdisjoint({c.at_s for c in probe.tail.health.canaries}), "canaries")
        yield probe, agent


@contextmanager
def port_mapped(node: Node) -> Iterator[None]:
    """The CNI's port map sends the HostPort to the local pod."""
    port = HostPort(host_port=HOST_PORT, container_port=AGENT_PORT)
    portmap.add(node.scene.node, node.local_pod, port)
    try:
        yield
    finally:
        portmap.remove(node.scene.node, node.local_pod, port)


@contextmanager
def foreigner(node: Node, port: int) -> Iterator[None]:
    """A process that speaks HTTP on 127.0.0.1 and is no agent."""
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory"]
    with _listening(node, [*command, str(node.scene.folder / "layout")], f"127.0.0.1:{port}"):
        yield


@contextmanager
def forwarder(
    node: Node, listen: str, to: str, *, transparent: bool = False, uid: int = 0, netns: str | None = None
) -> Iterator[None]:
    """A user-space proxy. ``transparent``: one for TPROXY. ``uid``: whose."""
    command = [
        sys.executable,
        str(_FORWARDER),
        listen,
        to,
        str(uid),
        *(["transparent"] if transparent else []),
    ]
    with _listening(node, command, listen, netns=netns):
        yield


@contextmanager
def _listening(node: Node, command: list[str], where: str, *, netns: str | None = None) -> Iterator[None]:
    host, _, port = where.rpartition(":")

    def answers() -> bool:
        try:
            node.scene.dial(host, int(port), netns=netns).close()
        except OSError:
            return False
        return True

    process = node.scene.run(command, f"a process at {where}", ready=answers, netns=netns)
    try:
        yield
    finally:
        process.kill()
