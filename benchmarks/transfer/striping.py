"""How much faster a body is from two holders, if each link is slower than the client.

Both holders are in the asking node's zone, and their links are limited. The asking node's link is not. Two
asking nodes fetch the same blob in turn, and one of them never fetches from several holders.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks.lab.cluster import Cluster, Node, Place
from benchmarks.reporting.recorder import Recorder
from benchmarks.transfer.spending import cpu_s, forget_peak, peak_mib
from benchmarks.transfer.testbed import (
    GIB,
    MIB,
    QUIET,
    Streams,
    blob_path,
    client_of,
    layout_blobs,
    put_blob,
)

_HOLDERS = ("one", "two")
_GAIN_TARGET = 1.8


def report_striping(report: Recorder, *, rounds: int, mib: int, link_mbit_s: float) -> None:
    """Report both rates, their ratio round by round, and how even the two holders' shares are."""
    names = ("striping", "single", *_HOLDERS)
    with ExitStack() as stack:
        cluster = stack.enter_context(
            Cluster([Place(name=name, region="r", zone="z") for name in names], containerd=False)
        )
        holders = [cluster.node(name) for name in _HOLDERS]
        digest = put_blob([layout_blobs(holder) for holder in holders], mib * MIB)
        for holder in holders:
            cluster.shape(holder.name, link_mbit_s)
            holder.start_agent(**QUIET)
        striping, single = (cluster.node(name) for name in ("striping", "single"))
        striping.start_agent(**QUIET)
        single.start_agent(transfer={"stripe_buffer_bytes": 0}, **QUIET)
        askers = [stack.enter_context(_asker(cluster, node)) for node in (striping, single)]
        report.begin(f"{mib} MiB in one stream, two holders behind {link_mbit_s:.0f} Mbit/s each")
        lesser: list[float] = []
        for _ in range(rounds):
            for asker in askers:
                before = [holder.sent_bytes() for holder in holders]
                asker.take(digest)
                if asker.node is striping:
                    shares = [holder.sent_bytes() - was for holder, was in zip(holders, before, strict=True)]
                    lesser.append(min(shares) / sum(shares))
        both, one = askers
        report.spread("from both", "Mbit/s", both.mbit_s)
        report.spread("from one", "Mbit/s", one.mbit_s)
        gains = [many / single for many, single in zip(both.mbit_s, one.mbit_s, strict=True)]
        report.spread("gain", "times", gains, _GAIN_TARGET, at_least=True)
        report.spread("the lesser holder's share", "%", lesser, scale=100)
        report.spread("from both: the asking agent", "CPU-s/GiB", both.costs)
        report.spread("from one: the asking agent", "CPU-s/GiB", one.costs)
        report.single("from both: most resident in the asking agent", "MiB", peak_mib(striping.agent.pid))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asker:
    """A node that fetches the blob repeatedly, and its results."""

    node: Node
    client: Streams
    mbit_s: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)  # CPU seconds per GiB

    def take(self, digest: str) -> None:
        assert self.node.cgroup is not None
        before_s = cpu_s(self.node.cgroup)
        taken = self.client.get([blob_path(digest)])
        self.costs.append((cpu_s(self.node.cgroup) - before_s) * GIB / taken.size_bytes)
        self.mbit_s.append(taken.size_bytes / taken.wall_s * 8 / 1e6)


@contextmanager
def _asker(cluster: Cluster, node: Node) -> Iterator[_Asker]:
    forget_peak(node.agent.pid)
    with client_of(cluster, node) as client:
        yield _Asker(node=node, client=client)
