"""What a packet costs by the kernel's own measurement, and how many packets a transfer has."""

from collections import defaultdict
from dataclasses import dataclass, field

from benchmarks.probe.programs import CONNECT, EMPTY, OPS, OUT, Programs, Runs, counting
from benchmarks.probe.testbed import NODE_PORT, OTHER, PORTS, WATCHED, Load, Testbed
from benchmarks.reporting.recorder import Recorder

_TARGET_NS, _TARGET_PERCENT = 150, 1
_PORTS = {"watched port": WATCHED, "translated": NODE_PORT, "other port": OTHER}
_GIB_MIB = 1024
_CONNECTS = 300
_CONNECT_PORT = WATCHED - 10  # watched too; the transfers' listener uses the other port


@dataclass(slots=True)
class _Costs:
    """The costs of one set of programs: one value for each transfer or burst."""

    packet_ns: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    packets: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    percent: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    call_ns: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    calls: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    ns_per_connect: list[float] = field(default_factory=list)


def report_packets(report: Recorder, testbed: Testbed, *, rounds: int, mib: int) -> None:
    """Report this section. Loads alternate, and so do the real programs and programs that do nothing."""
    report.begin(f"cost by the kernel's count, its own counting included; transfers of {mib} MiB on loopback")
    with (
        testbed.load("transfers", WATCHED, OTHER) as transfers,
        testbed.load("connects", _CONNECT_PORT) as connects,
        testbed.translation(),
        Programs(testbed.cgroup, (*PORTS, _CONNECT_PORT)) as ours,
        Programs(testbed.cgroup, PORTS, EMPTY) as empty,
        counting(),
    ):
        kinds = {"": (ours, _Costs()), "empty program": (empty, _Costs())}
        for _ in range(rounds):
            for programs, costs in kinds.values():
                with programs.attached():
                    for what, port in _PORTS.items():
                        _transfer(programs, costs, transfers, what, port, mib)
                    programs.drain()
                    _connect(programs, costs, connects)
    _report(report, kinds[""][1], kinds["empty program"][1])


def _transfer(programs: Programs, costs: _Costs, load: Load, what: str, port: int, mib: int) -> None:
    before = {name: programs.runs(name) for name in (OUT, OPS)}
    _, cpu_ns = map(int, load.ask(f"{port} {mib}").split())
    packets, calls = (programs.runs(name).since(runs) for name, runs in before.items())
    costs.packet_ns[what].append(packets.each_ns)
    costs.packets[what].append(packets.number * _GIB_MIB / mib)
    costs.percent[what].append(100 * (packets.ns + calls.ns) / cpu_ns)


def _connect(programs: Programs, costs: _Costs, load: Load) -> None:
    before = {name: programs.runs(name) for name in (CONNECT, OPS, OUT)}
    load.ask(f"burst {_CONNECT_PORT} {_CONNECTS}")
    total = Runs(0, 0)
    for name, earlier in before.items():
        runs = programs.runs(name).since(earlier)
        costs.call_ns[name].append(runs.each_ns)
        costs.calls[name].append(runs.number / _CONNECTS)
        total = Runs(total.number + runs.number, total.ns + runs.ns)
    costs.ns_per_connect.append(total.ns / _CONNECTS)


def _report(report: Recorder, ours: _Costs, empty: _Costs) -> None:
    for what in _PORTS:
        target = None if what == "other port" else _TARGET_NS
        report.spread(f"{OUT}, a packet: {what}", "ns", ours.packet_ns[what], target)
    report.spread("an empty cgroup_skb program, a packet", "ns", empty.packet_ns["watched port"])
    net = [
        mine - nothing
        for what in ("watched port", "translated")
        for mine, nothing in zip(ours.packet_ns[what], empty.packet_ns[what], strict=True)
    ]
    report.spread("more than the empty program, watched or translated", "ns", net)
    report.spread("packets in a GiB, both ends", "", ours.packets["watched port"])
    for what in ("watched port", "translated"):
        report.spread(f"share of a GiB's CPU: {what}", "%", ours.percent[what], _TARGET_PERCENT)
    report.spread("share of a GiB's CPU: empty programs", "%", empty.percent["watched port"])
    for name in (CONNECT, OPS, OUT):
        report.spread(f"{name}, a call within a connection's life", "ns", ours.call_ns[name])
        report.spread("  calls a connection", "", ours.calls[name])
        report.spread("  empty program, a call", "ns", empty.call_ns[name])
    report.spread("a connection's whole life, all programs", "ns", ours.ns_per_connect)
    report.spread("  empty programs", "ns", empty.ns_per_connect)
