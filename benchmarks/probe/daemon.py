"""The probe's process: memory, CPU, and how late its verdicts are."""

import bisect
import os
import socket
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from agent.flows.messages import Flows, Health, MessageInvalid, decode
from agent.flows.verdicts import EndpointName
from benchmarks.lab.network import inside
from benchmarks.lab.process import LabError, Process
from benchmarks.lab.vouching import vouched
from benchmarks.probe.testbed import NODE, WATCHED, Testbed
from benchmarks.reporting.recorder import Recorder

_TARGET_MIB = 40
_RATE = 5000
_DRAINED_S = 0.1  # after this time all events are read
_SETTLE_S = 3.0  # counters are read once a second
_METRICS = "http://127.0.0.1:9091/metrics"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Listener:
    """A reader of the probe's socket. It only notes when each line came, and decodes later to save CPU."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lines: list[tuple[int, bytes]] = []
        self._thread = threading.Thread(target=self._read, name="reader")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        with self._socket.makefile("rb", buffering=1 << 20) as lines:
            for line in lines:
                self._lines.append((time.monotonic_ns(), line))

    def heard(self) -> "_Heard":
        """Everything since the last call."""
        lines, self._lines = self._lines, []
        heard = _Heard()
        for at_ns, line in lines:
            try:
                message = decode(line)
            except MessageInvalid:
                continue  # an incomplete line at the end
            if isinstance(message, Health):
                heard.health = message
            elif isinstance(message, Flows):
                for flow in message.flows:
                    heard.told += 1
                    if flow.verdict_is_new and flow.endpoint is EndpointName.HOSTPORT:  # no canaries
                        heard.verdicts[flow.verdict.value] += 1
                        heard.news.append((at_ns, flow.client.port))
        return heard


@dataclass(slots=True)
class _Heard:
    told: int = 0
    news: list[tuple[int, int]] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    health: Health = field(default_factory=Health)


@dataclass(frozen=True, slots=True)
class _Usage:
    at_s: float
    cpu_s: float


def report_daemon(report: Recorder, testbed: Testbed, *, idle_s: float, load_s: int) -> None:
    """Measure and report this section."""
    report.begin(f"`shorthaul probe`: {idle_s:.0f} s idle, then {load_s} s at {_RATE} connects/s; one reader")
    command = [str(Path(sys.executable).parent / "shorthaul"), "probe", "--config", str(testbed.settings())]
    log = testbed.folder / "probe.log"
    with testbed.load("connects", WATCHED) as load:
        probe = Process(command, log=log, netns=testbed.netns, cgroup=testbed.cgroup)
        try:
            probe.wait_until(testbed.socket.exists, "the probe")
            process = psutil.Process(probe.pid)
            with vouched(testbed.socket, node=NODE, pid=load.pid), Listener(testbed.socket) as listener:
                time.sleep(_SETTLE_S)
                before = _usage(process)
                time.sleep(idle_s)
                _report_usage(report, "idle", process, before)
                listener.heard()
                before, events = _usage(process), _events(testbed)
                answer = load.ask(f"paced {WATCHED} {_RATE} {load_s}")
                time.sleep(_DRAINED_S)
                cpu_s = _report_usage(report, f"at {_RATE} connects/s", process, before)
                time.sleep(_SETTLE_S)
                events = _events(testbed) - events
                report.single("events a second", "", events / load_s)
                report.single("CPU for an event, with all that follows", "µs", 1e6 * cpu_s / events)
                if not probe.running:
                    raise LabError(f"the probe ended: {log.read_text(errors='replace')[-1500:]}")
                _report_verdicts(report, answer, listener.heard())
        finally:
            probe.stop()


def _usage(process: psutil.Process) -> _Usage:
    times = process.cpu_times()
    return _Usage(time.monotonic(), times.user + times.system)


def _events(testbed: Testbed) -> int:
    def ask() -> str:
        with urllib.request.urlopen(_METRICS, timeout=10) as response:
            text: bytes = response.read()
            return text.decode()

    lines = inside(testbed.netns, ask).splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("shorthaul_probe_events_t"))


def _report_usage(report: Recorder, when: str, process: psutil.Process, before: _Usage) -> float:
    """Report memory and CPU. Returns the CPU seconds."""
    after = _usage(process)
    passed_s, cpu_s = after.at_s - before.at_s, after.cpu_s - before.cpu_s
    report.single(f"RSS {when}", "MiB", process.memory_info().rss / (1 << 20), _TARGET_MIB)
    report.single(f"CPU {when}, of one core (to {100 * _TICK_S / passed_s:.2g})", "%", 100 * cpu_s / passed_s)
    return cpu_s


def _report_verdicts(report: Recorder, answer: str, heard: _Heard) -> None:
    """Report the delay from connect()'s return until the reader has the verdict."""
    made: dict[int, list[int]] = defaultdict(list)
    connected = [tuple(map(int, pair.split(","))) for pair in answer.split()]
    for port, at_ns in connected:
        made[port].append(at_ns)
    delays_ms = [
        (told_ns - connect_ns) / 1e6
        for told_ns, port in heard.news
        if (connect_ns := _latest(made.get(port, ()), told_ns)) is not None
    ]
    seconds = (connected[-1][1] - connected[0][1]) / 1e9
    report.single("connects a second", "", len(connected) / seconds)
    report.spread("from connect() to the verdict at its reader", "ms", delays_ms)
    report.single("connections without a verdict", "", len(connected) - len(delays_ms))
    for verdict, number in sorted(heard.verdicts.items()):
        report.single(f"verdicts {verdict}", "", number)
    health = heard.health
    report.single(
        "lost: events, flows, packets, invalid",
        "",
        sum((health.lost_events, health.lost_flows, health.lost_packets, health.invalid_events)),
    )
    report.single("forgotten unjudged", "", health.forgotten)


def _latest(times_ns: Sequence[int], until_ns: int) -> int | None:
    place = bisect.bisect_right(times_ns, until_ns)
    return times_ns[place - 1] if place else None
