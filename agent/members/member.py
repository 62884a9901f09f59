"""Peers, and the contract of a membership."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.observe.reloads import first_names
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

    def placed(self, peer: Peer, placement: Placement) -> None:
        """The agent at this peer's address says that it is there.

        A membership that knows better ignores it.
        """
        ...

    @property
    def problem(self) -> str | None:
        """Why the list may be out of date. None if it is not. The last list stays in use."""
        ...

    @property
    def hint(self) -> str:
        """What a person can do about the problem."""
        ...

    @property
    def silent_s(self) -> float | None:
        """Seconds since its source was last heard. None if it has no source that speaks by itself."""
        ...


def describe_change(before: Peers, after: Peers) -> dict[str, object]:
    """How the members changed, for the log: how many there are, and who came, left and moved."""
    moved = [
        name
        for name, peer in after.items()
        if (known := before.get(name)) is not peer and known is not None and known != peer
    ]
    groups = {"came": after.keys() - before.keys(), "left": before.keys() - after.keys(), "moved": moved}
    fields: dict[str, object] = {"peers": len(after)}
    for what, names in groups.items():
        if names:
            fields |= {what: len(names), f"{what}_names": first_names(names)}
    return fields
