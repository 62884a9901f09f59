"""The trials of the simulator's validation, run for real: namespaces, shaped links, containerds and agents.

The seconds are the clients' own, bytes are the kernel's, fetches are those of the registry's log.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmarks.coldstart.fleet import Fleet, Outcome
from benchmarks.coldstart.rows import Way
from benchmarks.lab.cluster import Cluster, Place
from benchmarks.lab.process import LabError
from benchmarks.simulator.trials import MIB, Observed, Trial

_VERSION = "2.1"
_SETTINGS = {"scrub": {"bytes_per_s": 0}}
_SETTLED_S = 2.0


def observe(trial: Trial, *, rounds: int, tell: Callable[[str], None] = lambda _: None) -> Sequence[Observed]:
    """Run a trial so many times. Needs root. Raises `LabError` if a pull fails."""
    nodes = [Place(name=name, region="r", zone=zone) for name, zone in trial.nodes.items()]
    with Cluster(nodes, versions=(_VERSION,)) as cluster:
        fleet = Fleet(cluster, _SETTINGS, settled_s=_SETTLED_S)
        release = fleet.release("trial", [mib * MIB for mib in trial.layers_mib], seed=trial.seed)
        cluster.shape("registry", trial.registry_mbit_s)
        for name in trial.nodes:
            cluster.shape(name, trial.slow_mbit_s.get(name, trial.node_mbit_s))
        found = []
        for number in range(rounds):
            tell(f"{trial.name}: round {number + 1} of {rounds}")
            with fleet.ready(Way.CLUSTER if trial.cluster else Way.ZONE):
                found.append(_observed(fleet.pull_all(release), release.image.blobs))
        return found


def observe_overhead_s(*, rounds: int = 3) -> float:
    """How long a pull takes of which hardly any byte has to come: containerd's own work. Needs root."""
    trial = Trial(
        name="almost nothing",
        zones={"a": 1},
        cluster=False,
        node_mbit_s=1000,
        registry_mbit_s=1000,
        layers_mib=(1,),
    )
    return min(observed.total_s for observed in observe(replace(trial), rounds=rounds))


def _observed(outcome: Outcome, blobs: Mapping[str, int]) -> Observed:
    if outcome.failures:
        raise LabError("; ".join(outcome.failures))
    return Observed(
        seconds=dict(outcome.seconds),
        registry_bytes=outcome.registry_bytes,
        crossed_bytes=outcome.crossed_bytes,
        fetches=sum(
            len(fetched.nodes)
            for (_, digest), fetched in outcome.fetches.blobs.items()
            if blobs[digest] >= MIB
        ),
    )
