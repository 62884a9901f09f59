"""Makes the membership that the settings name. Nothing else names an implementation."""

from agent.config import Settings
from agent.members.member import Membership
from agent.members.static import NoMembership, StaticMembership
from topology.placement import NodeName


def make_membership(settings: Settings) -> Membership:
    """The membership that ``settings.membership`` names. Reads nothing yet."""
    static = settings.membership.static
    if static is None:
        return NoMembership()
    own = NodeName(settings.node.name)
    return StaticMembership(static, own=own, finer_levels=settings.topology.finer_levels)
