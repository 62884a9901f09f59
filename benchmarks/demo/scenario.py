"""The scenario of the demo: who pulls when, and what the agents, the registry and the probes say of it."""

import os
import time
from collections import Counter
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule

from agent.flows.verdicts import Verdict
from benchmarks.demo.pulls import Pulls
from benchmarks.demo.view import bytes_line, pulls_view
from benchmarks.lab.cluster import Cluster, Node
from benchmarks.lab.image import Image, build_image

_LAYERS = 8
_LAYER_BYTES = 25_000_000
ZONES = {"r1": ["a", "b"], "r2": ["c"]}
LATE = "c2"  # this node is down until the registry is stopped
ROUND_TRIPS = {"inside_us": 300.0, "zones_us": 900.0, "regions_us": 8000.0}  # as measured in clouds
_MEASURED_S = 4.0  # after this time the node that started last has measured every peer twice
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Proof:
    """What a node's probe found: whether the path is proved, and the number of connections by verdict."""

    proved: bool
    verdicts: Counter[str]


class Demo:
    """Runs the scenario, and keeps what the view shows."""

    def __init__(self, cluster: Cluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console
        self._pulls = Pulls(cluster)
        self._image: Image | None = None
        self._note = ""
        self._measured = ""
        self._proof: list[Proof] = []

    def run(self) -> bool:
        """Run the whole scenario. Returns whether everything worked as it should."""
        self._prepare()
        with Live(self._view(), console=self._console, refresh_per_second=10, transient=True) as live:
            for name in self._cluster.nodes:
                if name == LATE:
                    self._note = f"The registry is stopped. {LATE} was down until now and pulls at last."
                    self._cluster.registry.stop()
                    self._start(LATE)
                self._pull(name, live)
        time.sleep(_MEASURED_S)
        self._measured = self._cluster.node(LATE).shorthaul("topology")
        if self._cluster.real:
            self._proof = [_proof_of(node) for node in self._cluster.nodes.values()]
        return self.summarise(self._console)

    def summarise(self, console: Console) -> bool:
        """Print the table and the totals. Returns whether everything worked as it should."""
        console.print(self._view(console))
        good = self._conclude(console)
        console.print(Rule(f"what {LATE} measured (shorthaul topology)"))
        console.print(self._measured.rstrip(), markup=False)
        return good

    def _prepare(self) -> None:
        cluster, console = self._cluster, self._console
        console.print(f"Building an image of {_LAYERS} layers, {_LAYERS * _LAYER_BYTES // _MB} MB …")
        self._image = build_image(
            cluster.folder / "image",
            layer_bytes=[_LAYER_BYTES] * _LAYERS,
            seed=os.getpid(),
            compression=("gzip", "zstd"),
        )
        console.print("Pushing it to the registry …")
        reference = self._pulls.push(self._image, "demo/app")
        console.print("Starting the agents …")
        for name in cluster.nodes:
            if name != LATE:
                self._start(name)
        self._note = f"Each node pulls {reference}, one after the other."

    def _start(self, name: str) -> None:
        """Start a node's agent and, in a real cluster, its probe."""
        node = self._cluster.node(name)
        node.start_agent()
        if self._cluster.real:
            node.start_probe()

    def _pull(self, name: str, live: Live) -> None:
        (thread,) = self._pulls.begin(name)
        while thread.is_alive():
            thread.join(0.1)
            self._pulls.read(name)
            live.update(self._view())
        time.sleep(0.6)  # for the last log lines, and until the new image's name is noticed
        self._pulls.read(name)
        live.update(self._view())
        self._pulls.check(name)

    def _view(self, console: Console | None = None) -> Group:
        rows = [pull.row for pull in self._pulls.by_node.values()]
        return pulls_view(self._note, rows, self._pulls.columns, width=(console or self._console).width)

    def _conclude(self, console: Console) -> bool:
        assert self._image is not None
        size = self._image.size_bytes
        zones = {node.place.zone for node in self._cluster.nodes.values()}
        count = len(self._cluster.nodes)
        by_tier = self._pulls.bytes_by_tier()
        registry = by_tier.get("registry", 0)
        inside = by_tier.get("zone", 0) + by_tier.get("rack", 0)
        across = by_tier.get("region", 0) + by_tier.get("remote", 0)
        bounds = {"registry": size, "across": (len(zones) - 1) * size, "inside": (count - len(zones)) * size}
        console.print(Rule("bytes, against the lower bound"))
        few = registry <= bounds["registry"]
        near = across <= bounds["across"]
        console.print(bytes_line("from the registry", registry, bounds["registry"], "one copy", good=few))
        console.print(
            bytes_line("across zones", across, bounds["across"], "one copy per further zone", good=near)
        )
        console.print(bytes_line("inside zones", inside, bounds["inside"], "all the rest", good=True))
        whole = registry + across + inside == count * size
        if not whole:
            console.print("[red]The bytes do not add up to one image a node.[/red]")
        return whole and few and near and self._show_proof(console)

    def _show_proof(self, console: Console) -> bool:
        """The path of the connections from each containerd to its agent, as the kernel saw it."""
        if not self._cluster.real:
            return True
        console.print(Rule("the local leg, as eBPF saw it"))
        verdicts: Counter[str] = Counter()
        for proof in self._proof:
            verdicts.update(proof.verdicts)
        count = sum(1 for proof in self._proof if proof.proved)
        good = count == len(self._proof) and set(verdicts) <= {"DIRECT"}
        mark = "[green]✓[/green]" if good else "[red]✗[/red]"
        told = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
        console.print(
            f"{mark} connections from containerds and canaries to their node's agent: {told or 'none'}; "
            f"path proved direct on {count} of {len(self._proof)} nodes"
        )
        return good


def _proof_of(node: Node) -> Proof:
    verdicts = Counter(
        {
            verdict.value: int(
                node.metric("shorthaul_local_flows_total", endpoint="hostport", verdict=verdict.value)
            )
            for verdict in Verdict
        }
    )
    return Proof(proved=node.metric("shorthaul_local_path_proved") == 1, verdicts=+verdicts)
