"""A node in namespaces whose containerd, agents, registry and probe are real, and an oracle beside them.

All that belongs to the node runs in a cgroup of the scene's own, which is what its probe watches: scenes do
not see each other, and the machine's root cgroup stays as it is. What belongs to other nodes runs outside.
"""

from tests.e2e.verdicts.node import Node, make_node, verdicts, went
from tests.e2e.verdicts.rewriter import How, Rewriter
from tests.e2e.verdicts.running import (
    ADMIN_PORT,
    AGENT_PORT,
    DIRECT_URL,
    HOST_PORT,
    NODE_PORT,
    VIP,
    VIP6,
    VIP_PORT,
    Judged,
    RunningAgent,
    RunningProbe,
    Tail,
    get,
    shown,
    until,
)
from tests.e2e.verdicts.scene import Asker, Scene
from tests.e2e.verdicts.witness import check, end, plain, told

__all__ = [
    "ADMIN_PORT",
    "AGENT_PORT",
    "DIRECT_URL",
    "HOST_PORT",
    "NODE_PORT",
    "VIP",
    "VIP6",
    "VIP_PORT",
    "Asker",
    "How",
    "Judged",
    "Node",
    "Rewriter",
    "RunningAgent",
    "RunningProbe",
    "Scene",
    "Tail",
    "check",
    "end",
    "get",
    "make_node",
    "plain",
    "shown",
    "told",
    "until",
    "verdicts",
    "went",
]
