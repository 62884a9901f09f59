"""How agents know each other. The one place that adds the proof to a request, and the one that checks it.

Today an agent is whoever calls itself one. A signature over method, target, range and the names of both nodes
goes into `Credentials.headers`, and its check into `Credentials.is_agent`. Nothing else has to change: every
request to a peer gets its headers here, and every request on the peer listener is checked here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.members.member import Peer
from topology.placement import NodeName

_USER_AGENT = "shorthaul"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Those of one agent. ``own``: its node."""

    own: NodeName

    def headers(
        self, peer: Peer, method: str, target: str, more: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The headers of a request to a peer, without Host. ``more``: those of this one request; they win."""
        return {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **(more or {})}

    def is_agent(self, method: str, target: str, headers: Mapping[str, str]) -> bool:
        """Whether this request comes from another agent of the cluster. ``headers``: of any case."""
        return headers.get("User-Agent") == _USER_AGENT
