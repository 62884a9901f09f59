"""Makes the membership that the settings name. Nothing else names an implementation."""

from collections.abc import Callable, Mapping

from agent.config import Settings
from agent.members.checks import OwnAgent, OwnListener
from agent.members.introduction import PEER_LISTENER
from agent.members.member import Membership
from agent.members.own import Learned
from agent.members.problems import Problems
from agent.members.static import NoMembership, StaticMembership
from agent.observe.reloads import Reloads
from topology.placement import NodeName


def make_membership(
    settings: Settings,
    problems: Problems,
    reloads: Reloads,
    learned: Callable[[Learned, Mapping[str, str]], None],
) -> Membership:
    """The membership that ``settings.membership`` names. Reads nothing yet.

    ``learned``: is told labels of this node that the membership knows.
    """
    static, kubernetes = settings.membership.static, settings.membership.kubernetes
    if kubernetes is not None:
        # Only here: an agent with another membership does not carry what it imports.
        from agent.members.kubernetes.membership import KubernetesMembership

        return KubernetesMembership(
            kubernetes,
            own=own_agent(settings),
            own_address=settings.node.address,
            labelled=learned,
            problems=problems,
            reloads=reloads,
        )
    if static is None:
        return NoMembership()
    return StaticMembership(
        static,
        own=own_agent(settings),
        problems=problems,
        reloads=reloads,
        finer_levels=settings.topology.finer_levels,
    )


def own_agent(settings: Settings) -> OwnAgent:
    """This node's agent, as peers reach it."""
    listener = settings.listen.peer
    addresses = dict.fromkeys((settings.node.address, listener.host))
    return OwnAgent(
        name=NodeName(settings.node.name),
        addresses=tuple(address for address in addresses if address not in ("0.0.0.0", "::")),
        port=listener.port,
        others=_other_listeners(settings),
    )


def _other_listeners(settings: Settings) -> tuple[OwnListener, ...]:
    """This node's listeners that are not for peers."""
    return tuple(
        OwnListener(name=name, host=endpoint.host, port=endpoint.port)
        for name, endpoint in settings.listen.endpoints.items()
        if name != PEER_LISTENER
    )
