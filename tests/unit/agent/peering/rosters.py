"""Rosters with a few members at addresses of their own."""

from agent.members.member import Peer
from agent.members.roster import Roster
from tests.unit.twins import located, node


def member(name: str, address: str, port: int = 30020) -> Peer:
    """A peer at this address."""
    return Peer(name=node(name), address=address, port=port, placement=located())


def roster_of_two(own: str, other: str) -> Roster:
    """The roster of ``own``, whose one peer has the address 192.0.2.2."""
    roster = Roster(own=node(own), placement=located())
    roster.update({node(other): member(other, "192.0.2.2")})
    return roster
