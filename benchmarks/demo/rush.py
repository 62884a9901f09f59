"""The demo's second act: a new release, all nodes at once, and a registry behind a limited link."""

import os
import time

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule

from benchmarks.demo.pulls import Pulls
from benchmarks.demo.view import bytes_line, pulls_view
from benchmarks.lab.cluster import Cluster
from benchmarks.lab.image import build_image

_LAYERS = 8
_LAYER_BYTES = 8_000_000
_LINK_MBIT_S = 200
_LOOK_S = 0.1
_MB = 1_000_000


class Rush:
    """Lets all nodes pull at once what none of them has. Needs a real cluster with delays."""

    def __init__(self, cluster: Cluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console
        self._pulls = Pulls(cluster)

    def run(self) -> bool:
        """Run it. Returns whether no zone took more than one copy from the registry."""
        cluster, names = self._cluster, list(self._cluster.nodes)
        cluster.registry.start()
        image = build_image(
            cluster.folder / "release",
            layer_bytes=[_LAYER_BYTES] * _LAYERS,
            seed=os.getpid() + 1,
            compression=("gzip", "zstd"),
            tag="v2",
        )
        reference = self._pulls.push(image, "demo/app")
        cluster.delays.limit("registry", _LINK_MBIT_S)
        note = f"All pull {reference} at once; the registry's link has {_LINK_MBIT_S} Mbit/s."
        width = self._console.width

        def view() -> Group:
            rows = [pull.row for pull in self._pulls.by_node.values()]
            return pulls_view(note, rows, self._pulls.columns, width=width)

        threads = self._pulls.begin(*names)
        with Live(view(), console=self._console, refresh_per_second=10, transient=True) as live:
            while any(thread.is_alive() for thread in threads):
                time.sleep(_LOOK_S)
                self._pulls.look()
                self._pulls.read(*names)
                live.update(view())
        time.sleep(0.6)  # for the last log lines
        self._pulls.read(*names)
        self._pulls.check(*names)
        self._console.print(Rule("a new release, and nobody has it"))
        self._console.print(view())
        return self._conclude(image.size_bytes)

    def _conclude(self, size_bytes: int) -> bool:
        nodes = self._cluster.nodes.values()
        zones = {node.place.zone for node in nodes}
        by_tier = self._pulls.bytes_by_tier()
        registry, inside = by_tier.get("registry", 0), by_tier.get("zone", 0) + by_tier.get("rack", 0)
        across = by_tier.get("region", 0) + by_tier.get("remote", 0)
        most, further = len(zones) * size_bytes, (len(zones) - 1) * size_bytes
        lines = (
            ("from the registry", registry, most, "one copy a zone", registry <= most),
            # A layer that another zone has complete by the time it is asked for comes from there, as ever.
            ("across zones", across, further, "one copy per further zone", across <= further),
            ("inside zones", inside, len(nodes) * size_bytes - most, "all the rest", True),
        )
        for what, found, bound, why, good in lines:
            self._console.print(bytes_line(what, found, bound, why, good=good))
        return all(good for *_, good in lines) and sum(by_tier.values()) >= len(nodes) * size_bytes
