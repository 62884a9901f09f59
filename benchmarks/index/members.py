"""The members of a simulated cluster, as each of its nodes sees them."""

import copy

from agent.members.member import Peer, Peers
from agent.members.roster import Roster
from topology.placement import NodeName, Placement, Region, Zone


def name_of(node: int) -> NodeName:
    """As long as clouds make them."""
    return NodeName(f"ip-10-{node // 250}-{node % 250}-1.eu-west-1.compute.internal")


def place_of(node: int, zones: int) -> Placement:
    """The nodes are dealt to the zones in turn."""
    return Placement(region=Region("eu-west-1"), zone=Zone(f"eu-west-1-{node % zones}"))


def everybody(nodes: int, zones: int) -> Peers:
    """All members."""
    return {
        name_of(node): Peer(
            name=name_of(node),
            address=f"10.{node // 65536}.{node // 256 % 256}.{node % 256}",
            port=30021,
            placement=place_of(node, zones),
        )
        for node in range(nodes)
    }


class Members:
    """The list of members, as the nodes of each zone see it."""

    def __init__(self, nodes: int, zones: int) -> None:
        self._peers = everybody(nodes, zones)
        self._zones: dict[int, Roster] = {}
        self._of = zones

    def roster(self, node: int) -> Roster:
        """A roster for this node, which shares all that is large with those of its zone."""
        zone = node % self._of
        if zone not in self._zones:
            onlooker = NodeName(f"onlooker-{zone}")
            self._zones[zone] = Roster(own=onlooker, placement=place_of(zone, self._of))
            self._zones[zone].update(self._peers)
        roster = copy.copy(self._zones[zone])
        roster.own = name_of(node)
        return roster
