"""One run: the lab, a probe if there can be one, and the measurement."""

from dataclasses import dataclass

from benchmarks.lab.process import LabError
from benchmarks.path.measuring import SECTION, Measurement
from benchmarks.path.stage import Stage
from benchmarks.reporting.recorder import Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``services``: how many other Services the cluster has. ``rate``: requests a second. ``seconds``: of
    each measurement over new connections; half as long over an open one.
    """

    services: int = 500
    rounds: int = 3
    rate: float = 200.0
    seconds: float = 1.2

    @property
    def method(self) -> str:
        """In words."""
        return (
            f"One client asks for a blob of 64 KiB {self.rate:g} times a second, at times that are fixed in "
            "advance, and latency counts from these. The rules are those of kube-proxy and of the CNI "
            f"plugin portmap, with {self.services:,} other Services in the cluster. Agents are in the host's "
            "network (direct), in a pod of this node, and in a pod of another one. The network between the "
            "nodes is a bridge of this kernel, so a real one's round trip comes on top of every remote "
            "figure. The probe's eBPF programs are attached all the time. CPU includes what the kernel does "
            "for client and agent; a third of the new connections ask for nothing."
        )


QUICK = Options()
FULL = Options(services=3000, rounds=9, seconds=4.0)


def measure(report: Recorder, options: Options = QUICK) -> None:
    """Measure it, and tell the report. Raises `LabError` if there can be no lab."""
    report.begin(
        SECTION,
        question="What does each way from a client to an agent cost, and does the probe tell them apart?",
        method=options.method,
    )
    report.step("a node, its pods and its agents")
    with Stage(services=options.services) as stage:
        with_probe = True
        try:
            stage.start_probe()
        except (LabError, OSError) as error:
            with_probe = False
            report.problem(f"there are no verdicts, because the probe does not run: {error}")
        Measurement(report, stage, with_probe=with_probe, rate=options.rate, seconds=options.seconds).run(
            options.rounds
        )
