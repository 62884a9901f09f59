"""Holds a list of members against itself and against this node. Pure.

One agent must be one peer, and no agent its own peer: otherwise a node ranks itself first, or goes from an
agent that hangs to the same agent under another name. A listener of this node that is not for peers is no
peer either. Such an entry is left out. Nothing here is fatal: the
other entries are as good as before, and the same file is right for other nodes.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.members.member import Peer, Peers
from agent.members.problems import Problem
from topology.placement import NodeName

_EVERY_ADDRESS = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnListener:
    """A listener of this node that is not for peers. ``name``: in the settings."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAgent:
    """This node's agent. ``addresses``: where peers reach it; ``port``: that of its peer listener.

    ``others``: its listeners that are not for peers.
    """

    name: NodeName
    addresses: tuple[str, ...]
    port: int
    others: tuple[OwnListener, ...] = ()

    def __str__(self) -> str:
        address = self.addresses[0] if self.addresses else "any address"
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"

    def is_at(self, peer: Peer) -> bool:
        """Whether a peer's address is that of this agent."""
        return peer.port == self.port and peer.address in self.addresses

    def other_listener_at(self, peer: Peer) -> OwnListener | None:
        """The listener of this agent that has a peer's address, and is not for peers."""
        return next((each for each in self.others if self._has(each, peer)), None)

    def _has(self, listener: OwnListener, peer: Peer) -> bool:
        if listener.port != peer.port or self.is_at(peer):
            return False
        if listener.host in _EVERY_ADDRESS:
            return peer.address in self.addresses or ipaddress.ip_address(peer.address).is_loopback
        return listener.host == peer.address


def listen_peer_hint(name: str) -> str:
    """What to write for a node whose entry leads elsewhere."""
    return f"write the address and the port of listen.peer on {name} (30020 by convention)"


def check_members(listed: Sequence[Peer], own: OwnAgent) -> tuple[Peers, tuple[Problem, ...]]:
    """The peers among the listed members, and what is wrong with the list. O(members)."""
    others = [peer for peer in listed if peer.name != own.name]
    used = {
        peer.name: peer
        for peer in _each_once(others)
        if not own.is_at(peer) and own.other_listener_at(peer) is None
    }
    problems = (
        *_about_this_node(listed, own),
        *_about_addresses(others, own),
        *_about_names([*used.values()], own),
    )
    return used, problems


def _about_this_node(listed: Sequence[Peer], own: OwnAgent) -> Iterator[Problem]:
    if not listed:
        yield Problem(
            node=own.name,
            problem="nobody is listed: this node has no peers",
            hint="list every node of the cluster in membership.static, this one too",
        )
        return
    own_entry = next((peer for peer in listed if peer.name == own.name), None)
    if own_entry is None:
        yield Problem(
            node=own.name,
            problem="this node is not listed, so nodes that read the same list do not know it",
            hint="add it with its node.name, its node.address and the port of listen.peer",
        )
    elif (listener := own.other_listener_at(own_entry)) is not None:
        yield Problem(
            node=own.name,
            problem=f"{own_entry.authority} is listed for this node, but it is its listen.{listener.name}, "
            "which is not for peers",
            hint=f"write {own}, so that nodes that read the same list find this one",
        )
    elif not own.is_at(own_entry):
        yield Problem(
            node=own.name,
            problem=f"{own_entry.authority} is listed with this node's name, but this node is at {own}",
            hint="correct that entry; or give one of the two nodes another node.name, which must be unique",
        )


def _about_addresses(others: Sequence[Peer], own: OwnAgent) -> Iterator[Problem]:
    used: dict[tuple[str, int], Peer] = {}
    for peer in others:
        if own.is_at(peer):
            yield Problem(
                node=peer.name,
                problem=f"{peer.authority} is this node ({own.name}) itself: not used as a peer",
                hint="correct the entry's address; or its name, if it is meant to be this node",
            )
            continue
        if (listener := own.other_listener_at(peer)) is not None:
            yield Problem(
                node=peer.name,
                problem=f"{peer.authority} is no peer listener: it is this node's own ({own.name}) "
                f"listen.{listener.name}; not used as a peer",
                hint=listen_peer_hint(peer.name),
            )
            continue
        first = used.setdefault(_place(peer), peer)
        if first is not peer:
            yield Problem(
                node=peer.name,
                problem=f"has the address {peer.authority} of {first.name}: only {first.name} is used",
                hint="one agent has one name and one address: correct one of the two entries",
            )


def _about_names(listed: Sequence[Peer], own: OwnAgent) -> Iterator[Problem]:
    known = {own.name.lower(): own.name}
    for peer in listed:
        first = known.setdefault(peer.name.lower(), peer.name)
        if first != peer.name:
            yield Problem(
                node=peer.name,
                problem=f"differs from {first} only in upper and lower case, and counts as another node",
                hint="write names as Kubernetes has them: in lower case",
            )


def _each_once(others: Sequence[Peer]) -> Iterator[Peer]:
    places: set[tuple[str, int]] = set()
    for peer in others:
        if _place(peer) not in places:
            places.add(_place(peer))
            yield peer


def _place(peer: Peer) -> tuple[str, int]:
    return peer.address, peer.port
