"""What one failure says about a peer, for all pulls. Pure.

The machine sends it as commands. `agent.pull.policy` says what each command means for later pulls.
"""

from agent.pull.events import Avoid, Commands, Failure, Forget, Relieve, Shun
from topology.placement import NodeName

_LAGGING_S = 5.0  # for this long the other holders go before one that lagged


def finding(node: NodeName, failure: Failure, wait_s: float = 0.0, *, shun: bool = True) -> Commands:
    """The commands that follow from a failure of this peer.

    ``wait_s``: what a busy peer said. ``shun``: whether what it gave of this content was no good.
    """
    if failure is Failure.MISSING:
        return (Forget(node=node),)
    if failure is Failure.BUSY:
        return (Relieve(node=node, wait_s=wait_s),)
    if failure is Failure.LAGGING:  # a peer that is slower than others did not fail
        return (Relieve(node=node, wait_s=_LAGGING_S),)
    if not failure.is_peers_fault:
        return ()
    return (Avoid(node=node), Shun(node=node)) if shun else (Avoid(node=node),)
