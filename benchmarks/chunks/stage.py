"""Nodes of one zone, of which some hold an image and others pull it at once; and what each pull cost.

The bytes are the kernel's: what each node's interface sent. Beside them stand the agents' own figures.
"""

import itertools
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.chunks.rows import Chunks, Condition, Trouble
from benchmarks.lab.cluster import ADMIN_PORT, Cluster, Node, Place
from benchmarks.lab.containerd import Containerd
from benchmarks.lab.image import Image, build_image
from benchmarks.lab.process import LabError

MIB = 1 << 20
VERSION = "2.1"
_USUAL_AT_ONCE = 3  # containerd's default, which then means whole layers
_TROUBLE_AT = 4  # the trouble comes behind this part of a layer
_CALM_S = 0.2  # a link that sends no more than this often is at rest
_CALM_BYTES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one row's pulls came to. Sizes are in bytes.

    ``failures``: containerd's words, one for each pull that failed. ``needed_bytes``: what the nodes that
    pulled had to get. ``sent_bytes``: what the links of the holders, the registry and the pulling nodes
    carried away from each, as the kernel counts. ``recorded_bytes``: what the receivers' records of requests
    say of peers. ``accounted_bytes``: what they count as received from other nodes, for
    the costs of zones.
    """

    failures: tuple[str, ...]
    seconds: float
    needed_bytes: int
    sent_bytes: Mapping[str, int]
    recorded_bytes: int
    accounted_bytes: int

    @property
    def from_registry_bytes(self) -> int:
        """What the registry's link carried."""
        return self.sent_bytes["registry"]

    @property
    def from_peers_bytes(self) -> int:
        """What all other links carried."""
        return sum(self.sent_bytes.values()) - self.from_registry_bytes

    @property
    def excess(self) -> float:
        """What the links carried beyond what was needed, as a share of that."""
        return sum(self.sent_bytes.values()) / self.needed_bytes - 1 if self.needed_bytes else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What one pull came to. ``failure``: containerd's words; empty after a success."""

    seconds: float
    failure: str


class Stage:
    """A cluster whose nodes all run containerd 2.1, and an image that the holders have.

    ``settings``: top-level settings of every agent. ``pull_s``: how long a pull may take.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        holders: Sequence[str],
        askers: Sequence[str],
        layer_bytes: Sequence[int],
        settings: Mapping[str, Any] | None = None,
        pull_s: float = 900.0,
    ) -> None:
        self.cluster = cluster
        self.holders = [cluster.node(name) for name in holders]
        self.askers = [cluster.node(name) for name in askers]
        self._settings = dict(settings or {})
        self._pull_s = pull_s
        self.image = build_image(
            cluster.folder / "image", layer_bytes=layer_bytes, seed=1, compression=("none",)
        )
        self.reference = cluster.registry.push(self.image, "bench/chunks", "v1")
        # The kernel ends a child process with the thread that started it, so these threads stay.
        self._pool = ThreadPoolExecutor(len(holders) + len(askers))
        self._fetching: dict[str, Chunks] = {}
        self._recorded: dict[str, int] = {}
        self._each(self.holders, self._begin_holding)

    def run(self, condition: Condition, chunks: Chunks) -> Outcome:
        """Pull once with everything as at the start. Returns what came of it."""
        holders, askers = self.holders[: condition.holders.count], self.askers[: condition.nodes]
        self.cluster.write_members([node.name for node in (*holders, *askers)])
        with ExitStack() as cleaning:
            for holder in holders:
                self.cluster.shape(holder.name, condition.link_mbit_s)
                cleaning.callback(self.cluster.shape, holder.name, None)
            cleaning.enter_context(self.ready(askers, chunks, [holder.name for holder in holders]))
            if not condition.holders.registry_up:
                cleaning.enter_context(self._registry_down())
            return self._measure(condition, holders, askers)

    @contextmanager
    def ready(self, askers: Sequence[Node], chunks: Chunks, holders: Sequence[str]) -> Iterator[None]:
        """Nodes that know only their peers yet, and fetch in this way. In the end they forget the image."""
        self._each(askers, lambda node: self._prepare(node, chunks, holders))
        try:
            yield
        finally:
            self._each(askers, self._forget)

    def pull(self, node: Node) -> Pulled:
        """Let the node's containerd pull the image."""
        started_s = time.monotonic()
        failure = ""
        try:
            node.pull(self.reference, at_most_s=self._pull_s)
        except LabError as error:
            failure = str(error)
        return Pulled(seconds=time.monotonic() - started_s, failure=failure)

    def records(self, node: Node) -> Iterator[dict[str, Any]]:
        """What the node's agent has recorded of its containerd's requests since it was made ready."""
        since = self._recorded.get(node.name, 0)
        for record in itertools.islice(node.requests(), since, None):
            if record["path"] == "hostport":
                yield record

    def _measure(self, condition: Condition, holders: Sequence[Node], askers: Sequence[Node]) -> Outcome:
        watched = (*holders, *askers)
        before = self._sent(watched)
        with ExitStack() as mending:
            pulls = [self._pool.submit(self.pull, node) for node in askers]
            if condition.holders.trouble is not Trouble.NONE and self._wait_for_a_part(askers, pulls):
                busiest = max(holders, key=lambda node: node.sent_bytes() - before[node.name])
                mending.enter_context(self._troubled(busiest, condition.holders.trouble))
            pulled = [pull.result() for pull in pulls]
            self.wait_until_calm(watched)
            after = self._sent(watched)
        return self._outcome(askers, before, after, pulled)

    def _outcome(
        self,
        askers: Sequence[Node],
        before: Mapping[str, int],
        after: Mapping[str, int],
        pulled: Sequence[Pulled],
    ) -> Outcome:
        failures = tuple(one.failure for one in pulled if one.failure)
        return Outcome(
            failures=failures,
            seconds=max(one.seconds for one in pulled),
            needed_bytes=self.image.size_bytes * (len(askers) - len(failures)),
            sent_bytes={name: after[name] - before[name] for name in after},
            recorded_bytes=sum(
                source["received_bytes"]
                for node in askers
                for record in self.records(node)
                for source in record["sources"]
            ),
            accounted_bytes=sum(
                pair["bytes"]
                for node in askers
                for pair in node.get("/api/costs", port=ADMIN_PORT).json()["pairs"]
            ),
        )

    def leave(self, chunks: Chunks) -> Outcome:
        """Kill the first node's containerd in mid-layer, when all buffers on the way to it are full."""
        node, holder = self.askers[0], self.holders[0]
        self.cluster.write_members([node.name, holder.name])
        with self.ready([node], chunks, [holder.name]):
            before = self._sent([holder])
            pull = self._pool.submit(self.pull, node)
            self._wait_for_a_part([node], [pull])
            daemon(node).freeze()
            self.wait_until_calm([holder])
            daemon(node).kill()
            pulled = pull.result()
            wait_until(lambda: not _fetches(node), f"{node.name} goes on for nobody")
            outcome = self._outcome([node], before, self._sent([holder]), [pulled])
            daemon(node).forget_everything()
            return outcome

    def _begin_holding(self, node: Node) -> None:
        node.start_agent(**self._settings)
        node.pull(self.reference, at_most_s=self._pull_s)
        self.wait_until_held(node)

    def _prepare(self, node: Node, chunks: Chunks, holders: Sequence[str]) -> None:
        """Give the node a containerd with this setting, and an agent that knows nothing yet but its peers."""
        if node.name in self._fetching:
            node.agent.stop()
        if self._fetching.get(node.name) != chunks:
            daemon(node).fetch_in_chunks(chunks.size_mib * MIB, at_once=chunks.at_once or _USUAL_AT_ONCE)
        self._fetching[node.name] = chunks
        self._recorded[node.name] = len(list(node.requests())) if node.log.exists() else 0
        node.start_agent(**self._settings)
        wait_until(lambda: _sees(node, self.image, holders), f"{node.name} does not see every holder")

    def _forget(self, node: Node) -> None:
        daemon(node).remove(self.reference)
        wait_until(
            lambda: not _has_layers(node, self.image) and ingested_bytes(node) == 0,
            f"{node.name} still has what it removed",
        )

    def _wait_for_a_part(self, askers: Sequence[Node], pulls: "Sequence[Future[Pulled]]") -> bool:
        """Wait until each node has a part of the image. False if a pull ended before."""
        part_bytes = max(self.image.blobs.values()) // _TROUBLE_AT

        def reached() -> bool:
            return any(pull.done() for pull in pulls) or all(
                ingested_bytes(node) >= part_bytes for node in askers
            )

        wait_until(reached, "no pull gets on", at_most_s=self._pull_s, every_s=0.01)
        return not all(pull.done() for pull in pulls)

    @contextmanager
    def _troubled(self, node: Node, trouble: Trouble) -> Iterator[None]:
        """The node's agent is killed or stopped, and well again afterwards, or at once."""
        if trouble is Trouble.FROZEN:
            node.agent.signal(signal.SIGSTOP)
        else:
            node.agent.kill()
        if trouble is Trouble.RESTARTED:
            node.start_agent(**self._settings)
        try:
            yield
        finally:
            if trouble is Trouble.FROZEN:
                node.agent.signal(signal.SIGCONT)
            elif trouble is Trouble.KILLED:
                node.start_agent(**self._settings)

    @contextmanager
    def _registry_down(self) -> Iterator[None]:
        self.cluster.registry.stop()
        try:
            yield
        finally:
            self.cluster.registry.start()

    def _each(self, nodes: Sequence[Node], work: Callable[[Node], None]) -> None:
        """Do it for all nodes at once."""
        list(self._pool.map(work, nodes))

    def _sent(self, nodes: Sequence[Node]) -> dict[str, int]:
        sent = {node.name: node.sent_bytes() for node in nodes}
        return sent | {"registry": self.cluster.registry.sent_bytes()}

    def wait_until_held(self, node: Node) -> None:
        """Wait until the node's agent has noticed the whole image."""
        wait_until(lambda: _holds(node, self.image), f"{node.name} does not hold the image")

    def wait_until_all_seen(self, node: Node, holders: Sequence[str]) -> None:
        """Wait until the node's agent knows all these holders of each blob.

        On a busy machine the nearest one may answer late, and then a farther one is taken, rightly.
        """
        wait_until(
            lambda: all(_sees_blob(node, digest, holders) for digest in self.image.blobs),
            f"{node.name} does not see every holder",
        )

    def wait_until_calm(self, nodes: Sequence[Node]) -> None:
        """Wait until what was under way when containerd closed its connections has passed the links."""

        def calm() -> bool:
            before = sum(self._sent(nodes).values())
            time.sleep(_CALM_S)
            return sum(self._sent(nodes).values()) - before < _CALM_BYTES * len(nodes)

        wait_until(calm, "the links do not come to rest")


def places(holders: Sequence[str], askers: Sequence[str]) -> list[Place]:
    """All of them in one zone."""
    return [Place(name=name, region="r", zone="z") for name in (*holders, *askers)]


def daemon(node: Node) -> Containerd:
    """The node's containerd."""
    assert node.containerd is not None
    return node.containerd


def ingested_bytes(node: Node) -> int:
    """The size of the largest blob that the node's containerd is writing now."""
    sizes = [0]
    for data in daemon(node).ingests.glob("*/data"):
        try:
            sizes.append(data.stat().st_size)
        except FileNotFoundError:
            continue  # committed, or given up
    return max(sizes)


def wait_until(
    condition: Callable[[], bool], problem: str, *, at_most_s: float = 120.0, every_s: float = 0.05
) -> None:
    """Wait for a condition. Raises `LabError` with the problem."""
    until_s = time.monotonic() + at_most_s
    while not condition():
        if time.monotonic() > until_s:
            raise LabError(problem)
        time.sleep(every_s)


def _holds(node: Node, image: Image) -> bool:
    return all(_explained(node, digest)["local"] for digest in image.blobs)


def _sees(node: Node, image: Image, holders: Sequence[str]) -> bool:
    return _sees_blob(node, max(image.blobs, key=lambda one: image.blobs[one]), holders)


def _sees_blob(node: Node, digest: str, holders: Sequence[str]) -> bool:
    return {found["node"] for found in _explained(node, digest)["holders"]} >= set(holders)


def _explained(node: Node, digest: str) -> Any:
    return node.get(f"/api/explain?digest={digest}", port=ADMIN_PORT).json()


def _fetches(node: Node) -> bool:
    """Whether the node's agent fetches a body from a peer."""
    return bool(node.get("/api/transfers", port=ADMIN_PORT).json()["downloads"])


def _has_layers(node: Node, image: Image) -> bool:
    return any((daemon(node).blobs / digest.partition(":")[2]).exists() for digest in image.blobs)
