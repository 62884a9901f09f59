"""The trials with which the simulator is validated: what was set up, and what it came to. Pure.

A trial is small enough for real containerds and real agents on one machine. Its links are so slow that
they, and not the machine, decide how long it takes. `benchmarks.simulator.lab` runs it for real.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Nodes that all pull an image at once that nobody has.

    ``zones``: how many nodes each zone has. ``cluster``: whether the claims are for all zones together, and
    not for each. ``node_mbit_s``: each node's link, in both directions; ``slow_mbit_s``: of single nodes.
    ``layers_mib``: the layers of the image.
    """

    name: str
    zones: Mapping[str, int]
    cluster: bool
    node_mbit_s: float
    registry_mbit_s: float
    layers_mib: Sequence[int]
    slow_mbit_s: Mapping[str, float] = field(default_factory=dict)
    seed: int = 1

    @property
    def size_bytes(self) -> int:
        """The layers together."""
        return sum(self.layers_mib) * MIB

    @property
    def nodes(self) -> Mapping[str, str]:
        """The zone of each node: a1, a2, b1, …"""
        return {
            f"{zone}{number}": zone for zone, count in self.zones.items() for number in range(1, count + 1)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a trial came to, for real or simulated.

    ``seconds``: how long the pull of each node took. ``registry_bytes``: what the registry's link carried.
    ``crossed_bytes``: what went from zone to zone. ``fetches``: how often the layers were fetched from the
    registry, all scopes together, each node once for each layer.
    """

    seconds: Mapping[str, float]
    registry_bytes: int
    crossed_bytes: int
    fetches: int

    @property
    def total_s(self) -> float:
        """Until the last node had all of it."""
        return max(self.seconds.values())


TRIALS = (
    Trial(
        name="one zone",
        zones={"a": 6},
        cluster=False,
        node_mbit_s=100,
        registry_mbit_s=200,
        layers_mib=(96,),
    ),
    Trial(
        name="two zones, four layers",
        zones={"a": 4, "b": 4},
        cluster=False,
        node_mbit_s=100,
        registry_mbit_s=120,
        layers_mib=(24, 24, 24, 24),
    ),
    Trial(
        name="three zones, scope cluster",
        zones={"a": 4, "b": 4, "c": 4},
        cluster=True,
        node_mbit_s=80,
        registry_mbit_s=60,
        layers_mib=(96,),
    ),
    Trial(
        name="a small zone",
        zones={"a": 8, "b": 2},
        cluster=False,
        node_mbit_s=80,
        registry_mbit_s=100,
        layers_mib=(96,),
    ),
    Trial(
        name="a slow node",
        zones={"a": 6, "b": 3},
        cluster=False,
        node_mbit_s=100,
        registry_mbit_s=200,
        layers_mib=(96,),
        slow_mbit_s={"a3": 30},
    ),
)
"""What the simulator is validated with: 6 to 12 nodes, in one to three zones."""


def to_document(observed: Observed) -> dict[str, Any]:
    """For JSON."""
    return asdict(observed)


def from_document(document: Mapping[str, Any]) -> Observed:
    """The inverse. Raises KeyError, TypeError."""
    return Observed(**document)


def write_record(path: Path, rounds: Mapping[str, Sequence[Observed]], machine: Mapping[str, Any]) -> None:
    """Keep what real runs came to. ``rounds``: of each trial, by its name."""
    trials = {name: [to_document(one) for one in observed] for name, observed in rounds.items()}
    path.write_text(json.dumps({"machine": machine, "trials": trials}, indent=1) + "\n")


def read_record(path: Path) -> Mapping[str, Sequence[Observed]]:
    """What `write_record` kept."""
    trials = json.loads(path.read_text())["trials"]
    return {name: [from_document(one) for one in observed] for name, observed in trials.items()}
