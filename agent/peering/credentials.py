"""How agents know each other. The one place that adds the proof to a request, and the one that checks it.

Today an agent is whoever calls itself one. A signature over method, target, range and the names of both nodes
goes into `Credentials.headers`, and its check into `Credentials.is_agent`. Nothing else has to change: every
request to a peer gets its headers here, and every request on the peer listener is checked here.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.members.member import Peer
from topology.labels import clean_value
from topology.placement import NodeName

_USER_AGENT = "shorthaul"
_NAME_HEADER, _INSTANCE_HEADER = "Shorthaul-Node", "Shorthaul-Instance"

Introduced = Callable[[Peer, str, str], None]
"""Is told the name and the instance that the agent at a peer's address gives. Nothing proves either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Those of one agent. ``own``: its node. ``instance``: a word that only this process uses."""

    own: NodeName
    instance: str = field(default_factory=lambda: secrets.token_hex(8))

    def headers(
        self, peer: Peer, method: str, target: str, more: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The headers of a request to a peer, without Host. ``more``: those of this one request; they win."""
        return {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **(more or {})}

    def is_agent(self, method: str, target: str, headers: Mapping[str, str]) -> bool:
        """Whether this request comes from another agent of the cluster. ``headers``: of any case."""
        return headers.get("User-Agent") == _USER_AGENT

    @property
    def introduction(self) -> dict[str, str]:
        """The headers with which this agent accepts a WebSocket: who it is."""
        return {_NAME_HEADER: self.own, _INSTANCE_HEADER: self.instance}

    @staticmethod
    def introduced(headers: Mapping[str, str]) -> tuple[str, str] | None:
        """The name and the instance in the answer's headers. None if it has none."""
        name, instance = headers.get(_NAME_HEADER), headers.get(_INSTANCE_HEADER)
        return None if name is None or instance is None else (clean_value(name), instance)
