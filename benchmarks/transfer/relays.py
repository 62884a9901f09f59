"""What a byte costs on its way through an agent: splice, copy, redirect and sendfile, compared with nginx.

There are a holder and one asking node per way, in namespaces on one bridge. The client is on the asking
node, like containerd, and reaches its mirror over loopback. For local hits it is on the holder. Each round
measures each way once, and starts with a different way, so that noise affects all of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab.cluster import Cluster, Node, Place
from benchmarks.lab.nginx import Nginx
from benchmarks.reporting.recorder import Recorder
from benchmarks.transfer.spending import cpu_s, forget_peak, machine_cpu_s, peak_mib, rss_mib
from benchmarks.transfer.testbed import (
    GIB,
    MIB,
    QUIET,
    Streams,
    blob_path,
    client_of,
    layout_blobs,
    new_cgroup,
    put_blob,
)

_FILES_PORT, _PROXY_PORT = 8080, 8081
_COST_TARGET, _RATE_TARGET = 0.25, 1.5
_RELAY, _LOCAL = "splice", "sendfile, local"
_NGINX_PROXY, _NGINX_FILE = "nginx, reverse proxy of nginx", "nginx, local file"
_TRANSFER = {"uploads_max": 1000}  # so that no request is refused


@dataclass(slots=True, kw_only=True)
class Way:
    """One way to move bytes. ``relays``, ``serves``: the cgroups of the relaying and the serving process."""

    name: str
    client: Streams
    relays: Path | None = None
    serves: Path | None = None
    agents: dict[str, int] = field(default_factory=dict)
    costs: list["Cost"] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The costs of one round. CPU is in seconds per GiB."""

    gb_s: float
    relaying: float
    serving: float
    together: float
    machine: float
    peak_mib: dict[str, float]


def report_relays(report: Recorder, *, rounds: int, mib: int) -> None:
    """Report one section for each number of streams."""
    with ExitStack() as stack:
        cluster, nodes = stack.enter_context(_lab())
        blobs = {count: _blobs(nodes["holder"], count, mib) for count in (1, 8, 64)}
        _start(nodes)
        ways = list(_ways(stack, cluster, nodes))
        for count, digests in blobs.items():
            report.begin(f"{count} streams of {mib // count} MiB" if count > 1 else f"1 stream of {mib} MiB")
            paths = [blob_path(digest) for digest in digests]
            for way in ways:
                way.costs.clear()
                take(way, paths)
            for first in range(rounds):
                for number in range(len(ways)):
                    way = ways[(first + number) % len(ways)]
                    way.costs.append(take(way, paths))
            for way in ways:
                _report(report, way, count)
            by_name = {way.name: way for way in ways}
            _report_beside(report, by_name[_RELAY], by_name[_NGINX_PROXY])
            _report_beside(report, by_name[_LOCAL], by_name[_NGINX_FILE])
            _report_memory(report, ways)


@contextmanager
def _lab() -> Iterator[tuple[Cluster, dict[str, Node]]]:
    names = ("holder", _RELAY, "copy", "redirect")
    places = [Place(name=name, region="r", zone="z") for name in names]
    with Cluster(places, containerd=False) as cluster:
        yield cluster, cluster.nodes


def _blobs(holder: Node, count: int, mib: int) -> list[str]:
    return [put_blob([layout_blobs(holder)], mib * MIB // count) for _ in range(count)]


def _start(nodes: dict[str, Node]) -> None:
    """Start the agents. An agent's name selects its settings."""
    nodes["holder"].start_agent(transfer=_TRANSFER, **QUIET)
    nodes[_RELAY].start_agent(transfer=_TRANSFER, **QUIET)
    nodes["copy"].start_agent(transfer={**_TRANSFER, "zero_copy": False}, **QUIET)
    nodes["redirect"].start_agent(transfer={**_TRANSFER, "mode": "redirect"}, **QUIET)


def _ways(stack: ExitStack, cluster: Cluster, nodes: dict[str, Node]) -> Iterator[Way]:
    holder = nodes["holder"]
    for name in (_RELAY, "copy", "redirect"):
        yield Way(
            name=name,
            client=stack.enter_context(client_of(cluster, nodes[name])),
            relays=nodes[name].cgroup,
            serves=holder.cgroup,
            agents={name: nodes[name].agent.pid, "holder": holder.agent.pid},
        )
    files = new_cgroup(cluster, "nginx-files")
    proxy = new_cgroup(cluster, "nginx-proxy")
    address = (holder.address, _FILES_PORT)
    serving = Nginx.of_files(
        cluster.folder / "nginx-files", layout_blobs(holder), address, netns=holder.netns, cgroup=files
    )
    stack.callback(serving.stop)
    asker = nodes[_RELAY]
    listen = (asker.loopback, _PROXY_PORT)
    relaying = Nginx.proxy(cluster.folder / "nginx-proxy", address, listen, netns=asker.netns, cgroup=proxy)
    stack.callback(relaying.stop)
    yield Way(
        name=_NGINX_PROXY,
        client=stack.enter_context(client_of(cluster, asker, port=_PROXY_PORT)),
        relays=proxy,
        serves=files,
    )
    yield Way(
        name=_LOCAL,
        client=stack.enter_context(client_of(cluster, holder)),
        serves=holder.cgroup,
        agents={"holder": holder.agent.pid},
    )
    local = Streams(cluster, holder.netns, *address)
    stack.callback(local.close)
    yield Way(name=_NGINX_FILE, client=local, serves=files)


def take(way: Way, paths: Sequence[str]) -> Cost:
    """Move these bytes this way once, and say what it cost. Raises `LabError`."""
    for pid in way.agents.values():
        forget_peak(pid)
    before = (_spent(way.relays), _spent(way.serves), _spent(way.client.cgroup), machine_cpu_s())
    taken = way.client.get(paths)
    after = (_spent(way.relays), _spent(way.serves), _spent(way.client.cgroup), machine_cpu_s())
    relaying, serving, client, machine = (
        (now - then) * GIB / taken.size_bytes for now, then in zip(after, before, strict=True)
    )
    return Cost(
        gb_s=taken.size_bytes / taken.wall_s / 1e9,
        relaying=relaying,
        serving=serving,
        together=relaying + serving + client,
        machine=machine,
        peak_mib={name: peak_mib(pid) for name, pid in way.agents.items()},
    )


def _spent(cgroup: Path | None) -> float:
    return 0.0 if cgroup is None else cpu_s(cgroup)


def _report(report: Recorder, way: Way, count: int) -> None:
    ours = way.name == _RELAY
    rate_target = _RATE_TARGET if ours and count == 1 else None
    report.spread(way.name, "GB/s", [cost.gb_s for cost in way.costs], rate_target, at_least=True)
    unit = "CPU-s/GiB"
    if way.relays is not None:
        target = _COST_TARGET if ours else None
        report.spread(f"{way.name}: relaying", unit, [cost.relaying for cost in way.costs], target)
    report.spread(f"{way.name}: serving", unit, [cost.serving for cost in way.costs])
    report.spread(f"{way.name}: both and the client", unit, [cost.together for cost in way.costs])
    report.spread(f"{way.name}: this whole machine", unit, [cost.machine for cost in way.costs])


def _report_beside(report: Recorder, ours: Way, theirs: Way) -> None:
    """Report the comparison with nginx round by round, because noise affects both of a round."""
    pairs = list(zip(ours.costs, theirs.costs, strict=True))
    what = f"{ours.name} / {theirs.name}"
    report.spread(f"{what}: rate", "times", [one.gb_s / other.gb_s for one, other in pairs])
    costs = [(one.relaying + one.serving) / (other.relaying + other.serving) for one, other in pairs]
    report.spread(f"{what}: CPU but for the client's", "times", costs)


def _report_memory(report: Recorder, ways: Sequence[Way]) -> None:
    """Report each agent's largest resident set in any round, and its resident set at the end."""
    for name, pid in {name: pid for way in ways for name, pid in way.agents.items()}.items():
        peaks = [cost.peak_mib[name] for way in ways if name in way.agents for cost in way.costs]
        report.single(f"agent of {name}: most resident", "MiB", max(peaks))
        report.single(f"agent of {name}: resident afterwards", "MiB", rss_mib(pid))
