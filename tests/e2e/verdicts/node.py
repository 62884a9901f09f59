"""The node of most tests, and words for what was judged on it."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.flows.verdicts import Verdict
from benchmarks.lab.conntrack import Flow as Way
from benchmarks.lab.containerd import Containerd
from benchmarks.lab.pods import Pod
from tests.e2e.verdicts.running import Judged, RunningAgent, RunningProbe, until
from tests.e2e.verdicts.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A scene and what runs in it; ``host``, ``pod``: this node's agents; ``far``: those of two others."""

    scene: Scene
    containerds: dict[str, Containerd]
    probe: RunningProbe
    host: RunningAgent
    pod: RunningAgent
    far: tuple[RunningAgent, RunningAgent]
    local_pod: Pod
    client_pod: Pod
    seen: frozenset[Way]  # by conntrack before there was a probe

    @property
    def containerd(self) -> Containerd:
        """The usual one."""
        return self.containerds["1.6"]

    def pull(
        self,
        mirror: str,
        *,
        by: RunningAgent | None = None,
        instead: RunningAgent | None = None,
        falls_back: bool = False,
        containerd: Containerd | None = None,
    ) -> list[Judged]:
        """Pull a new image by way of this mirror; the connections to it, which conntrack and agents confirm.

        ``by``: the agent that answers all. ``instead``: of ``host``, to confirm. ``falls_back``: the
        mirror does not answer and the pull goes on to the registry, which else is asked nothing.
        """
        witness = instead or self.host
        before = witness.counted("shorthaul_local_flows_total")
        reference = self.scene.image(pushed=falls_back)
        judged = self.scene.pull(containerd or self.containerd, mirror, self.probe, reference=reference)
        repository = reference.partition("/")[2].partition(":")[0]
        asked = [
            uri for _, method, uri, _ in self.scene.registry.served() if method == "GET" and repository in uri
        ]
        assert bool(asked) is falls_back, f"the registry was asked for {asked}"
        self._confirmed(witness, judged, before)
        if by is not None:
            (verdict,) = verdicts(judged)

            def all_judged() -> list[dict[str, Any]] | None:
                found = by.requests(reference)  # a verdict may come a moment after its request
                return found if len(found) > 3 and all(entry["verdict"] for entry in found) else None

            answered = until(all_judged, "the verdicts of a manifest's HEAD and GET, a config and a layer")
            assert {entry["verdict"] for entry in answered} == {verdict.value}, answered
        return judged

    @staticmethod
    def _confirmed(witness: RunningAgent, judged: list[Judged], before: Counter[tuple[str, str]]) -> None:
        wanted = Counter((one.flow.endpoint.value, one.verdict.value) for one in judged)
        until(
            lambda: wanted <= witness.counted("shorthaul_local_flows_total") - before,
            f"the agent counts {wanted}",
        )
        told = {one.flow.cookie: one.verdict.value for one in judged}

        def listed() -> dict[int, str]:
            flows = witness.api("/api/flows")["flows"]  # the newest first; a verdict may change
            return {flow["cookie"]: flow["verdict"] for flow in reversed(flows)}

        until(lambda: told.items() <= listed().items(), f"the agent lists {told}")


@contextlib.contextmanager
def make_node(name: str, *, versions: Sequence[str] = ("1.6",)) -> Iterator[Node]:
    """A node with containerds, a probe, an agent of the host network and one in a pod; two other nodes."""
    with Scene(name) as scene:
        local_pod, client_pod = scene.node.add_pod(), scene.node.add_pod()
        scene.start_registry()
        containerds = {version: scene.start_containerd(version) for version in versions}
        host, pod, *far = scene.start_agents(
            (scene.node.name, scene.node),
            (scene.node.name, local_pod),
            *((remote.name, remote.add_pod()) for remote in scene.remotes),
        )
        probe = scene.start_probe(socket=str(scene.folder / "probe.sock"))
        probe.tail.wait(lambda: probe.tail.health.canaries, "the first canaries")
        seen = frozenset(found.original for found in scene.watcher.all())
        until(lambda: host.follows_a_probe() and pod.follows_a_probe(), "the agents follow the probe")
        yield Node(
            scene=scene,
            containerds=containerds,
            probe=probe,
            host=host,
            pod=pod,
            far=(far[0], far[1]),
            local_pod=local_pod,
            client_pod=client_pod,
            seen=seen,
        )


def verdicts(judged: list[Judged]) -> set[Verdict]:
    """Those there are."""
    return {one.verdict for one in judged}


def went(judged: list[Judged]) -> set[str]:
    """Where they went on the wire."""
    return {one.went for one in judged}
