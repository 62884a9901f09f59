"""One node: what its agent knows and decides with, all of it the product's, and what its containerd has.

Parts are made when they are needed first: in a large cluster most nodes never decide on a claim.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.holders.clusterclaims import Claims
from agent.holders.valkey.announcements import Announcements
from agent.pull.admission import Admission
from agent.pull.fanout import Fanout
from agent.pull.pace import Pace
from agent.pull.policy import Policy
from agent.pull.regard import Regard
from benchmarks.simulator.scenario import Scenario
from topology.placement import NodeName
from topology.snapshot import Snapshot

if TYPE_CHECKING:
    from benchmarks.simulator.asking import Searches
    from benchmarks.simulator.claiming import Desk


@dataclass(slots=True, eq=False)
class Agent:
    """One node's agent. ``depths``: how far away the origin is of what arrives here, by content.

    ``alive``: its host runs. ``frozen``: it stands still. ``members``: for which members ``regard`` and
    ``seen`` are.
    """

    number: int
    name: NodeName
    zone: int
    policy: Policy
    fanout: Fanout
    admission: Admission
    alive: bool = True
    frozen: bool = False
    depths: dict[int, int] = field(default_factory=dict)
    members: int = -1
    seen: Snapshot | None = None
    claims: Claims | None = None
    desk: "Desk | None" = None
    announcements: Announcements | None = None
    tells: bool = False  # a turn of telling the server is due
    searches: "Searches | None" = None
    pulls: int = 0
    dials: int = 0
    dead_dials: int = 0

    @property
    def regard(self) -> Regard:
        """How its peers are doing."""
        return self.policy.regard


def make_agent(
    scenario: Scenario, number: int, name: NodeName, zone: int, chance: Callable[[float, float], float]
) -> Agent:
    """An agent as the product makes it. ``chance``: see `Policy`."""
    pull, transfer, cold = scenario.pull, scenario.transfer, scenario.cold_start
    return Agent(
        number,
        name,
        zone,
        policy=Policy(
            regard=Regard(cooloff_s=pull.cooloff_s, cooloff_max_s=pull.cooloff_max_s),
            pace=Pace(patience_s=pull.patience_s),
            pull=pull,
            transfer=transfer,
            chance=chance,
        ),
        fanout=Fanout(followers_max=cold.followers_max),
        admission=Admission(uploads_max=transfer.uploads_max, bytes_max=transfer.upload_bytes_max),
    )
