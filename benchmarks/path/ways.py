"""The ways to an agent, and the rules that stand on the node meanwhile. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from agent.flows.verdicts import Verdict

HOST_PORT, NODE_PORT, AGENT_PORT = 30020, 30021, 30022
NODE_ADDRESS = "192.168.60.1"


class Rules(Enum):
    """The mode of the kube-proxy whose rules the node has."""

    NONE = "no rules"
    IPTABLES = "iptables"
    NFTABLES = "nftables"


class Path(Enum):
    """How a client asks, and who answers."""

    DIRECT = "HostPort direct"
    PORT_MAP = "HostPort by port map"
    NODE_PORT = "NodePort"
    REMOTE = "remote NodePort"

    @property
    def asked(self) -> tuple[str, int]:
        """The address and port that the client asks for."""
        if self in (Path.DIRECT, Path.PORT_MAP):
            return "127.0.0.1", HOST_PORT
        return NODE_ADDRESS, NODE_PORT

    @property
    def verdict(self) -> Verdict:
        """What the probe has to say of it."""
        return _VERDICTS[self]


_VERDICTS = {
    Path.DIRECT: Verdict.DIRECT,
    Path.PORT_MAP: Verdict.HOSTPORT_NAT,
    Path.NODE_PORT: Verdict.KUBE_PROXY,
    Path.REMOTE: Verdict.KUBE_PROXY_REMOTE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One way, with one set of rules."""

    path: Path
    rules: Rules

    @property
    def name(self) -> str:
        """The way in tables."""
        return f"{self.path.value}, {self.rules.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What this machine has."""

    iptables: bool
    nftables: bool
    port_map: bool

    def lacking(self, cell: Cell) -> str:
        """Why a cell can't be measured here, in words. Empty: it can."""
        if cell.rules is Rules.IPTABLES and not self.iptables:
            return "there is no iptables on this machine"
        if cell.rules is Rules.NFTABLES and not self.nftables:
            return "there is no nft on this machine"
        if cell.path is Path.PORT_MAP and not (self.port_map and self.iptables):
            return "there is no CNI plugin portmap with iptables on this machine"
        return ""


BASE = Cell(path=Path.DIRECT, rules=Rules.NONE)
CELLS = (
    BASE,
    *(
        Cell(path=path, rules=rules)
        for rules in (Rules.IPTABLES, Rules.NFTABLES)
        for path in (Path.DIRECT, Path.PORT_MAP, Path.NODE_PORT, Path.REMOTE)
    ),
)
"""All of them. Those with the same rules are neighbours, because the rules are what takes long to change."""


def order(cells: tuple[Cell, ...], number: int) -> Iterator[Cell]:
    """The order of a round: every second one is the other way round."""
    return iter(cells if number % 2 == 0 else cells[::-1])
