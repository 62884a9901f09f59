"""One run: which sizes fit on the disk, the lab, and the measurement."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.pull.measuring import Measurement
from benchmarks.pull.plan import FIELD, Size, Way, that_fit
from benchmarks.pull.stage import Links, stage
from benchmarks.reporting.recorder import Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured. ``rounds``: how often each size. ``versions``: of containerd, for the nodes in turn.

    The default links are a tenth of what a cloud's nodes have, so that two cores fill them: then a pull takes
    what the links let it take, and not what the machine of the lab lets it take.
    """

    rounds: Mapping[Size, int]
    ways: Sequence[Way] = tuple(Way)
    zones: int = 3
    per_zone: int = 2
    versions: Sequence[str] = ("2.1",)
    links: Links = field(default_factory=lambda: Links(registry_mbit_s=500.0, node_mbit_s=1000.0))
    pull_s: float = 900.0

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return self.zones * self.per_zone

    @property
    def method(self) -> str:
        """In words."""
        return (
            f"{self.nodes} nodes in {self.zones} zones, each with a real containerd "
            f"({' and '.join(self.versions)}), pull over CRI from a docker-registry; {self.links}. All at "
            "once, and then another release, 20 % of the nodes at a time (rounded up, as a DaemonSet does). "
            "The ways take turns on the same links, everything is forgotten in between, and each node has "
            "pulled a small image before. nginx: one in the first zone with proxy_cache and "
            "proxy_cache_lock, on a link as each node's. shorthaul: ordinary settings (the registry is asked "
            "once for each zone), and with cold_start.scope: cluster (once in all). The network adds no "
            "delay of its own. Bytes are the kernel's count."
        )


FULL = Options(rounds={size: 3 if size.megabytes >= 1000 else 5 for size in FIELD})
"""More than an hour, most of it for the largest."""

QUICK = Options(rounds={FIELD[0]: 5, FIELD[1]: 5, FIELD[3]: 1})
"""10 MB five times, because no change can be told from noise with fewer, and 100 MB in four layers once."""


def measure(report: Recorder, options: Options = QUICK) -> None:
    """Measure it, and tell the report. Raises `LabError` if there can be no lab."""
    free_bytes = shutil.disk_usage(tempfile.gettempdir()).free
    sizes, too_large = that_fit([*options.rounds], options.nodes, free_bytes)
    for problem in too_large:
        report.problem(problem)
    if not sizes:
        return
    with stage(
        options.links,
        zones=options.zones,
        per_zone=options.per_zone,
        versions=options.versions,
        pull_s=options.pull_s,
    ) as made:
        Measurement(report, made, options.method).run(
            {size: options.rounds[size] for size in sizes}, options.ways
        )
