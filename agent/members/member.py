"""Peers, and the contract of a membership."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from topology.labels import LabelProblem
from topology.placement import NodeName, Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another agent: where to reach its peer listener and where it sits."""

    name: NodeName
    address: str
    port: int
    placement: Placement
    problems: tuple[LabelProblem, ...] = ()  # with the labels that gave the placement

    @property
    def base_url(self) -> str:
        """``http://ADDRESS:PORT``, IPv6 addresses in brackets."""
        return f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """``ADDRESS:PORT``, as the Host header has it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


Peers = Mapping[NodeName, Peer]


class Membership(Protocol):
    """The other agents, without this one. Calls ``changed`` with the whole new list."""

    async def run(self, changed: Callable[[Peers], None]) -> None:
        """Follow the membership until cancelled."""
        ...
