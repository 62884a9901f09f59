"""Peers, and the contract of a membership."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from topology.labels import LabelProblem
from topology.placement import NodeName, Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another agent: the address of its peer listener, and its placement."""

    name: NodeName
    address: str
    port: int
    placement: Placement
    problems: tuple[LabelProblem, ...] = ()  # of the labels that the placement comes from

    @property
    def base_url(self) -> str:
        """``http://ADDRESS:PORT``, with brackets around an IPv6 address."""
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """``ADDRESS:PORT``, as in the Host header."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


Peers = Mapping[NodeName, Peer]


class Membership(Protocol):
    """Knows the other agents."""

    async def run(self, changed: Callable[[Peers], None]) -> None:
        """Call ``changed`` with each new list of all peers, without this node. Until cancelled."""
        ...

    def reread(self) -> None:
        """Look again at once, because somebody asked for it."""
        ...
